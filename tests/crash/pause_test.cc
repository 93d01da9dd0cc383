#include <gtest/gtest.h>
#include <signal.h>

#include "tests/support/admin_client.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

class RelayPause : public testing::Test {
  protected:
    Process start(const std::string& crash_at = "") {
        const std::string config = write_file("relay.yaml", installed_.config(1, "64MiB"));
        return Process({.arguments = {"run", "--config", config},
                        .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                        .log_name = "relay"});
    }

    void expect_clean_end(Process& one, Process& other) {
        EXPECT_TRUE(eventually(60s, [&] { return installed_.pending_count() == 0; }))
            << one.log() << other.log();
        one.signal(SIGTERM);
        other.signal(SIGTERM);
        EXPECT_EQ(one.wait(30s), 0) << one.log();
        EXPECT_EQ(other.wait(30s), 0) << other.log();
        const Verdict verdict = installed_.verdict();
        EXPECT_TRUE(verdict.is_clean()) << verdict.text();
        EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
    }

    Installed installed_;
};

// PROTOCOL 2.3, 3.2: the epoch moved while it was stopped, so its next UPDATE raises MR002.
TEST_F(RelayPause, BetweenBatchesIsFencedByPostgres) {
    Process paused = start();
    ASSERT_TRUE(eventually(30s, [&] { return installed_.owned_lane_count() == 12; }))
        << paused.log();
    installed_.insert(500);
    ASSERT_TRUE(eventually(20s, [&] { return installed_.pending_count() == 0; })) << paused.log();

    paused.signal(SIGSTOP);
    installed_.insert(500);
    Process successor = start();
    ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }))
        << successor.log();
    paused.signal(SIGCONT);

    const AdminClient admin(paused);
    EXPECT_TRUE(eventually(20s, [&] {
        installed_.insert(100);
        return admin.metric("millrace_relay_fenced_total{by=\"postgres\"}") > 0;
    })) << paused.log();
    EXPECT_TRUE(paused.is_running());
    expect_clean_end(paused, successor);
}

// PROTOCOL 2.4, 4.2: the successor ends its backend, which holds the row, and init_transactions
// ends its open transaction; it learns of it from Kafka.
TEST_F(RelayPause, InsideAKafkaTransactionIsFencedByKafka) {
    Process paused = start("relay.before_kafka_commit:3:stop");
    ASSERT_TRUE(eventually(30s, [&] {
        installed_.insert(150);
        return paused.has_logged("crash point relay.before_kafka_commit fired");
    })) << paused.log();

    Process successor = start();
    ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }))
        << successor.log();
    paused.signal(SIGCONT);

    const AdminClient admin(paused);
    EXPECT_TRUE(eventually(30s, [&] {
        return admin.metric("millrace_relay_fenced_total{by=\"kafka\"}") > 0;
    })) << paused.log();
    EXPECT_TRUE(paused.is_running());
    installed_.insert(300);
    expect_clean_end(paused, successor);
}

// PROTOCOL 2.4: its backend waits in ClientWrite, where no time-out of PostgreSQL fires.
TEST_F(RelayPause, WhileAClaimIsOnItsWayDoesNotHoldItsLanes) {
    Process paused = start();
    ASSERT_TRUE(eventually(30s, [&] { return installed_.owned_lane_count() == 12; }))
        << paused.log();
    pg::Session session = installed_.database.connect();
    const auto is_stuck = [&] {
        return session
            .execute("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite' "
                     "AND datname = current_database())")
            .boolean(0, 0);
    };
    // Until it is caught in the act.
    ASSERT_TRUE(eventually(60s, [&] {
        installed_.insert_large(60, 500'000);
        for (int look = 0; look < 2000; ++look) {
            if (!is_stuck()) continue;
            paused.signal(SIGSTOP);
            if (is_stuck()) return true;
            paused.signal(SIGCONT);
        }
        return false;
    })) << paused.log();

    Process successor = start();
    EXPECT_TRUE(eventually(20s, [&] { return installed_.pending_count() == 0; }))
        << successor.log();
    EXPECT_TRUE(successor.has_logged("ended the session of a dead relay")) << successor.log();
    paused.signal(SIGCONT);
    installed_.insert(100);
    expect_clean_end(paused, successor);
}

}  // namespace
}  // namespace millrace::test
