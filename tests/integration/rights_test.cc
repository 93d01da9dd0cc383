// A broker that lets us in and refuses a topic.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include <array>
#include <functional>
#include <stdexcept>

#include "core/kafka/client.h"
#include "core/kafka/handles.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/own_broker.h"
#include "tests/support/process.h"
#include "tests/support/set_aside.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

using Client = kafka::Handle<rd_kafka_t, rd_kafka_destroy>;
using Rule = kafka::Handle<rd_kafka_AclBinding_t, rd_kafka_AclBinding_destroy>;

// Nobody is asked who they are, and all may do all that no rule forbids.
constexpr const char* kWithRules =
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
    "allow.everyone.if.no.acl.found=true\n";

Client make_admin() {
    return Client(kafka::make_client(RD_KAFKA_PRODUCER, kafka::make_conf(kafka_options(), {})));
}

// What nobody may do with a topic any more; a topic with a rule has no right but by another rule.
enum class Forbidden { kWrite, kAll };

void forbid(const std::string& topic, Forbidden forbidden) {
    const Client client = make_admin();
    const bool may_see = forbidden == Forbidden::kWrite;
    std::array<char, 256> error{};
    const Rule rule(rd_kafka_AclBinding_new(
        RD_KAFKA_RESOURCE_TOPIC, topic.c_str(), RD_KAFKA_RESOURCE_PATTERN_LITERAL,
        "User:ANONYMOUS", "*",
        may_see ? RD_KAFKA_ACL_OPERATION_DESCRIBE : RD_KAFKA_ACL_OPERATION_ALL,
        may_see ? RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW : RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
        error.data(), error.size()));
    if (rule == nullptr) throw std::runtime_error(error.data());
    const kafka::Queue queue(rd_kafka_queue_new(client.get()));
    std::array<rd_kafka_AclBinding_t*, 1> rules{rule.get()};
    rd_kafka_CreateAcls(client.get(), rules.data(), rules.size(), nullptr, queue.get());
    const kafka::Event answer(rd_kafka_queue_poll(queue.get(), 30000));
    if (answer == nullptr || rd_kafka_event_error(answer.get()) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw std::runtime_error("the broker took no rule");
    }
}

// Takes all rules on a topic back.
void allow(const std::string& topic) {
    const Client client = make_admin();
    std::array<char, 256> error{};
    const Rule filter(rd_kafka_AclBindingFilter_new(
        RD_KAFKA_RESOURCE_TOPIC, topic.c_str(), RD_KAFKA_RESOURCE_PATTERN_LITERAL, nullptr, nullptr,
        RD_KAFKA_ACL_OPERATION_ANY, RD_KAFKA_ACL_PERMISSION_TYPE_ANY, error.data(), error.size()));
    if (filter == nullptr) throw std::runtime_error(error.data());
    const kafka::Queue queue(rd_kafka_queue_new(client.get()));
    std::array<rd_kafka_AclBindingFilter_t*, 1> filters{filter.get()};
    rd_kafka_DeleteAcls(client.get(), filters.data(), filters.size(), nullptr, queue.get());
    const kafka::Event answer(rd_kafka_queue_poll(queue.get(), 30000));
    if (answer == nullptr) throw std::runtime_error("the broker kept the rules");
}

class Rights : public testing::Test {
  protected:
    void add(const std::string& topic, int count) {
        installed_.execute(
            "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) SELECT '" + topic +
            "', 'k', 'T', '{}' FROM generate_series(1, " + std::to_string(count) + ")");
    }

    void expect_set_aside_and_published_once_allowed(Forbidden forbidden) {
        const std::string copies = fresh_name("orders") + ".totals.dlq";
        create_topic(copies, 2);
        forbid(copies, forbidden);
        add(copies, 2);
        installed_.insert(200, 20);
        RunningRelay relay(installed_);

        ASSERT_TRUE(eventually(60s, [&] { return installed_.pending_count() == 0; }));

        EXPECT_EQ(dead_tasks(installed_, {.reason = "topic_not_authorised"}).size(), 2U);
        const Verdict verdict = installed_.verdict();
        EXPECT_TRUE(verdict.is_clean()) << verdict.text();
        allow(copies);
        EXPECT_TRUE(eventually(60s, [&] {
            retry(installed_);
            return dead_count(installed_) == 0;
        }));
        EXPECT_EQ(count_records(copies), 2U);
    }

    OwnBroker broker_{kWithRules};
    Installed installed_{12, 4};
};

// PROTOCOL 5.1: a copy of a dead letter holds up nothing but itself.
TEST_F(Rights, CopyThatMayNotBeWrittenIsSetAsideAlone) {
    expect_set_aside_and_published_once_allowed(Forbidden::kWrite);
}

TEST_F(Rights, CopyWhoseTopicMayNotEvenBeSeenIsSetAsideAlone) {
    expect_set_aside_and_published_once_allowed(Forbidden::kAll);
}

// PROTOCOL 5.1: any other topic is the environment's, and waited for.
TEST_F(Rights, TaskThatMayNotBeWrittenWaitsAndAccusesNothing) {
    forbid(installed_.topic, Forbidden::kWrite);
    installed_.insert(20, 20);
    RunningRelay relay(installed_);

    ASSERT_TRUE(eventually(30s, [&] {
        return relay.metric("millrace_failures_total{reason=\"topic_not_authorised\"}") >= 3;
    }));
    EXPECT_EQ(dead_count(installed_), 0);
    EXPECT_EQ(installed_.pending_count(), 20);
    allow(installed_.topic);

    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

// A relay and a worker in one process, as they ship; the projection refuses two of twenty keys.
class LetterTopic : public Rights {
  protected:
    LetterTopic() {
        std::string text = installed_.config();
        const std::string disabled = "projections: {enabled: false}";
        text.replace(text.find(disabled), disabled.size(), "projections: {session_timeout: 1s}");
        config_ = folder_.write("millrace.yaml", text);
        folder_.write("projections/seen.sql",
                      "/* millrace projection\n"
                      "version: 1\n"
                      "topics: [" + installed_.topic + "]\n"
                      "columns:\n"
                      "  n: {type: bigint, path: $.n}\n"
                      "*/\n"
                      "-- table\n"
                      "CREATE TABLE seen (key text PRIMARY KEY, events bigint NOT NULL,\n"
                      "                   CONSTRAINT others CHECK (key NOT IN ('k3', 'k4')))\n"
                      "-- apply\n"
                      "INSERT INTO seen AS t\n"
                      "SELECT _key, count(n) FROM batch GROUP BY _key ORDER BY _key\n"
                      "ON CONFLICT (key) DO UPDATE SET events = t.events + excluded.events\n");
        const Finished up = run_program({"migrate", "up", "--config", config_}, {});
        EXPECT_EQ(up.exit_code, 0) << up.output;
    }

    void expect_only_the_copies_wait(const std::string& reason,
                                     const std::function<void()>& mend) {
        const Process worker({.arguments = {"run", "--config", config_}, .environment = {}});
        installed_.insert(200, 20);
        ASSERT_TRUE(eventually(60s, [&] {
            return dead_tasks(installed_, {.reason = reason}).size() == 2;
        })) << worker.log();
        // Beside them, and not behind them.
        installed_.insert(200, 20);
        EXPECT_TRUE(eventually(60s, [&] {
            return installed_.pending_count() == 0 &&
                   installed_.number("SELECT coalesce(sum(events), 0)::bigint FROM seen_v1.seen") ==
                       360;
        })) << worker.log();
        EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.dead_letters"), 2);
        EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.parked_events"), 38);
        EXPECT_EQ(dead_count(installed_), 2);
        const Verdict verdict = installed_.verdict();
        EXPECT_TRUE(verdict.is_clean()) << verdict.text();
        mend();

        EXPECT_TRUE(eventually(60s, [&] {
            retry(installed_);
            return dead_count(installed_) == 0;
        })) << worker.log();
        EXPECT_EQ(count_records(copies_), 2U);
    }

    const std::string copies_ = installed_.topic + ".seen.dlq";
    Folder folder_;
    std::string config_;
};

// PROTOCOL 5.1, 7.7: the letter stands, and nothing waits but its copy.
TEST_F(LetterTopic, ThatIsMissingHoldsUpNothingButTheCopies) {
    expect_only_the_copies_wait("topic_missing", [this] { create_topic(copies_, 1); });
}

TEST_F(LetterTopic, ThatMayNotBeWrittenHoldsUpNothingButTheCopies) {
    create_topic(copies_, 1);
    forbid(copies_, Forbidden::kWrite);

    expect_only_the_copies_wait("topic_not_authorised", [this] { allow(copies_); });
}

}  // namespace
}  // namespace millrace::test
