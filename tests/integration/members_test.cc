#include "relay/members.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/metrics.h"
#include "relay/publishers.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// A process's lease, kept on a thread of its own.
class KeptLease {
  public:
    KeptLease(const Database& database, std::chrono::milliseconds duration,
              std::vector<PublisherWatch*> watches = {})
        : loop_({.session = {.url = database.url(),
                             .password = "",
                             .application_name = "millrace lease",
                             .settings = pg::common_settings()},
                 .lease = duration,
                 .hung_after = 500ms,
                 .stray_after = 500ms},
                lease_, std::move(watches)),
          thread_([this](std::stop_token stop) { loop_.run(std::move(stop)); }) {}

    // Waits for the registration.
    Uuid instance() {
        if (!eventually(10s, [&] { return lease_.instance().has_value(); })) {
            throw std::runtime_error("no registration");
        }
        return *lease_.instance();
    }
    Lease& lease() { return lease_; }
    void stop() {
        thread_.request_stop();
        thread_.join();
    }

  private:
    Lease lease_;
    LeaseLoop loop_;
    std::jthread thread_;
};

class MembersTest : public testing::Test {
  protected:
    int64_t number(const std::string& sql) { return session_.execute(sql).integer(0, 0); }
    int64_t row_count(const Uuid& instance) {
        return number("SELECT count(*) FROM millrace.relay_members WHERE instance = '" +
                      instance.text() + "'");
    }
    bool registers_anew(KeptLease& kept, const Uuid& before) {
        return eventually(5s, [&] {
            const auto now = kept.lease().instance();
            return now && *now != before && row_count(*now) == 1;
        });
    }

    Database database_;
    pg::Session session_ = database_.connect();
    Metrics metrics_;
    prometheus::Gauge& waiting_ = metrics_.gauge("waiting", "Of no interest here.");
};

TEST_F(MembersTest, RenewsItsLeaseBeforeItEnds) {
    KeptLease kept(database_, 500ms);
    const Uuid instance = kept.instance();
    const std::string first = session_.execute("SELECT lease_until::text FROM "
                                               "millrace.relay_members")
                                  .text(0, 0);

    ASSERT_TRUE(eventually(5s, [&] {
        return number("SELECT count(*) FROM millrace.relay_members WHERE lease_until > '" + first +
                      "'::timestamptz + interval '1 second'") == 1;
    }));

    EXPECT_EQ(kept.lease().instance(), instance);
    EXPECT_EQ(row_count(instance), 1);
}

// PROTOCOL 2.9: others may have judged it dead, so it must not come back under its old id.
TEST_F(MembersTest, WhoseLeaseExpiredRegistersUnderANewInstance) {
    KeptLease kept(database_, 500ms);
    const Uuid before = kept.instance();

    session_.execute("UPDATE millrace.relay_members SET lease_until = '2000-01-01'");

    EXPECT_TRUE(registers_anew(kept, before));
}

// PROTOCOL 2.9.
TEST_F(MembersTest, WhoseRowVanishedRegistersUnderANewInstance) {
    KeptLease kept(database_, 500ms);
    const Uuid before = kept.instance();

    session_.execute("DELETE FROM millrace.relay_members");

    EXPECT_TRUE(registers_anew(kept, before));
}

// PROTOCOL 2.9.
TEST_F(MembersTest, WhoseLeaseConnectionBrokeRegistersUnderANewInstance) {
    KeptLease kept(database_, 500ms);
    const Uuid before = kept.instance();

    session_.execute("SELECT pg_terminate_backend(pid) FROM millrace.relay_members");

    EXPECT_TRUE(registers_anew(kept, before));
}

// PROTOCOL 2.2: a killed process's publishers are free long before its lease ends.
TEST_F(MembersTest, WhoseBackendIsGoneIsJudgedDeadAtOnce) {
    KeptLease kept(database_, 1h);
    const Uuid instance = kept.instance();
    session_.execute("UPDATE millrace.relay_publishers SET owner = '" + instance.text() +
                     "' WHERE number = 3");
    const auto is_free = [&] {
        for (const FreePublisher& free : Publishers(session_).find_free(std::nullopt)) {
            if (free.number == 3) return true;
        }
        return false;
    };
    ASSERT_FALSE(is_free());

    session_.execute("SELECT pg_terminate_backend(pid) FROM millrace.relay_members");

    EXPECT_TRUE(eventually(2s, is_free));
}

// PROTOCOL 2.8.
TEST_F(MembersTest, ThreadWithoutProgressLosesItsPublisher) {
    PublisherWatch watch(waiting_);
    watch.loop.note_progress();
    KeptLease kept(database_, 300ms, {&watch});
    session_.execute("UPDATE millrace.relay_publishers SET owner = '" + kept.instance().text() +
                     "', running = true WHERE number = 3");
    watch.set_publisher(PublisherState{.number = 3, .epoch = 0, .lanes = {}}, 0, 0);

    EXPECT_TRUE(eventually(10s, [&] {
        return number("SELECT count(*) FROM millrace.relay_publishers "
                      "WHERE number = 3 AND owner IS NULL AND NOT running") == 1;
    }));
}

// PROTOCOL 2.8: its own session may hold the row, in the middle of whatever it hangs in.
TEST_F(MembersTest, ThreadWithoutProgressThatHoldsItsRowLosesItsSession) {
    pg::Session hung = database_.connect();
    hung.execute("BEGIN");
    hung.execute("UPDATE millrace.relay_publishers SET owner = gen_random_uuid() WHERE number = 3");
    hung.execute("SELECT FROM millrace.relay_publishers WHERE number = 3 FOR UPDATE");
    PublisherWatch watch(waiting_);
    watch.loop.note_progress();
    watch.set_publisher(PublisherState{.number = 3, .epoch = 0, .lanes = {}}, hung.backend_pid(),
                        hung.backend_started());

    KeptLease kept(database_, 300ms, {&watch});

    EXPECT_TRUE(eventually(10s, [&] {
        return number("SELECT count(*) FROM pg_stat_activity WHERE pid = " +
                      std::to_string(hung.backend_pid())) == 0;
    }));
}

// PROTOCOL 2.1: the answer of a take may be lost with its session. The database then names a living
// process as the owner, so nobody else may settle it, and no thread of that process knows.
TEST_F(MembersTest, PublisherThatNoThreadRunsIsGivenUp) {
    KeptLease kept(database_, 300ms);

    session_.execute("UPDATE millrace.relay_publishers SET owner = '" + kept.instance().text() +
                     "', epoch = epoch + 1 WHERE number = 3");

    EXPECT_TRUE(eventually(10s, [&] {
        return number(
                   "SELECT count(*) FROM millrace.relay_publishers "
                   "WHERE number = 3 AND owner IS NULL") == 1;
    }));
}

// PROTOCOL 2.1: taken, not yet settled, which may take long while Kafka is away.
TEST_F(MembersTest, PublisherThatAThreadHasTakenIsKept) {
    PublisherWatch watch(waiting_);
    KeptLease kept(database_, 100ms, {&watch});
    watch.set_publisher(PublisherState{.number = 3, .epoch = 1, .lanes = {}}, 0, 0);
    session_.execute("UPDATE millrace.relay_publishers SET owner = '" + kept.instance().text() +
                     "', epoch = 1 WHERE number = 3");

    EXPECT_FALSE(eventually(1500ms, [&] {
        watch.loop.note_progress();
        return number(
                   "SELECT count(*) FROM millrace.relay_publishers WHERE number = 3 "
                   "AND owner IS NULL") == 1;
    }));
}

// PROTOCOL 2.8.
TEST_F(MembersTest, ThreadThatMakesProgressKeepsItsPublisher) {
    PublisherWatch watch(waiting_);
    watch.loop.note_progress();
    watch.set_publisher(PublisherState{.number = 3, .epoch = 0, .lanes = {}}, 0, 0);
    session_.execute("UPDATE millrace.relay_publishers SET running = true WHERE number = 3");
    KeptLease kept(database_, 100ms, {&watch});

    const bool was_relieved = eventually(1500ms, [&] {
        watch.loop.note_progress();
        return number("SELECT count(*) FROM millrace.relay_publishers WHERE running") == 0;
    });

    EXPECT_FALSE(was_relieved);
}

TEST_F(MembersTest, RemovesItsRowWhenItStops) {
    KeptLease kept(database_, 500ms);
    const Uuid instance = kept.instance();

    kept.stop();

    EXPECT_EQ(row_count(instance), 0);
}

TEST_F(MembersTest, ForgetsProcessesThatDiedLongAgo) {
    session_.execute(
        "INSERT INTO millrace.relay_members (instance, pid, backend_start, lease_until) "
        "VALUES (gen_random_uuid(), 1, now(), now() - interval '2 hours')");

    KeptLease kept(database_, 500ms);
    const Uuid instance = kept.instance();

    EXPECT_EQ(row_count(instance), 1);
    EXPECT_EQ(number("SELECT count(*) FROM millrace.relay_members"), 1);
}

// By the database's clock, which all processes share.
TEST_F(MembersTest, WritesDownWhenKafkaLastAnswered) {
    KeptLease kept(database_, 200ms);
    kept.instance();
    ASSERT_EQ(number("SELECT count(kafka_ok_at) FROM millrace.relay_members"), 0);

    kept.lease().note_kafka_answer();

    EXPECT_TRUE(eventually(5s, [&] {
        return number("SELECT count(*) FROM millrace.relay_members "
                      "WHERE kafka_ok_at > clock_timestamp() - interval '5 seconds'") == 1;
    }));
}

}  // namespace
}  // namespace millrace::test
