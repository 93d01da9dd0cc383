#include "relay/members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "relay/publishers.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// A process's lease, kept on a thread of its own.
class KeptLease {
  public:
    KeptLease(const Database& database, std::chrono::milliseconds duration)
        : loop_({.session = {.url = database.url(),
                             .password = "",
                             .application_name = "millrace lease",
                             .settings = pg::common_settings()},
                 .lease = duration},
                lease_, {}),
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

    Database database_;
    pg::Session session_ = database_.connect();
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

    EXPECT_TRUE(eventually(5s, [&] {
        const auto now = kept.lease().instance();
        return now && *now != before && row_count(*now) == 1;
    }));
}

// PROTOCOL 2.9.
TEST_F(MembersTest, WhoseRowVanishedRegistersUnderANewInstance) {
    KeptLease kept(database_, 500ms);
    const Uuid before = kept.instance();

    session_.execute("DELETE FROM millrace.relay_members");

    EXPECT_TRUE(eventually(5s, [&] {
        const auto now = kept.lease().instance();
        return now && *now != before && row_count(*now) == 1;
    }));
}

// PROTOCOL 2.9.
TEST_F(MembersTest, WhoseLeaseConnectionBrokeRegistersUnderANewInstance) {
    KeptLease kept(database_, 500ms);
    const Uuid before = kept.instance();

    session_.execute("SELECT pg_terminate_backend(pid) FROM millrace.relay_members");

    EXPECT_TRUE(eventually(5s, [&] {
        const auto now = kept.lease().instance();
        return now && *now != before && row_count(*now) == 1;
    }));
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

// PROTOCOL 2.7: what others compare with is the database's clock.
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
