#include "relay/relay.h"

#include <gtest/gtest.h>

#include "core/kafka/admin.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/installed.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

TEST(Relay, PublishesEachTaskOnceInTheOrderOfItsKey) {
    Installed installed;
    installed.insert(5000, 50);
    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(60s, [&] { return installed.pending_count() == 0; }));
    installed.insert(100);
    ASSERT_TRUE(eventually(10s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    const Verdict verdict = installed.verdict();

    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(verdict.task_count, 5100);
    EXPECT_EQ(relay.metric("millrace_relay_floor_violations_total"), 0);
}

TEST(Relay, DISABLED_Drain) {
    Installed installed(12, 8);
    pg::Session session = installed.database.connect();
    session.execute("INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) SELECT '" + installed.topic + "', 'k' || (i % 100000), 'T', json_build_object('n', i, 'pad', repeat('x', 250)) FROM generate_series(1, 300000) i");
    session.execute("VACUUM ANALYZE millrace.pending_tasks");
    RelayOptions options = installed.relay_options();
    options.publisher_count = std::getenv("PUBS") ? std::atoi(std::getenv("PUBS")) : 1;
    const auto begin = std::chrono::steady_clock::now();
    RunningRelay relay(installed, options);
    eventually(600s, [&] { return session.execute("SELECT NOT EXISTS(SELECT FROM millrace.pending_tasks)").boolean(0,0); });
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    printf("drain %f s, %f /s claim %f txn %f n %f\n", s, 300000 / s, relay.metric("millrace_relay_claim_seconds_sum"), relay.metric("millrace_relay_transaction_seconds_sum"), relay.metric("millrace_relay_transaction_seconds_count"));
}

}  // namespace
}  // namespace millrace::test
