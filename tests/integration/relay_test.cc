#include "relay/relay.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/kafka/admin.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/installed.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// PROTOCOL 3.9.
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

// PROTOCOL 2.6: publishers of one process share lanes like those of several.
TEST(Relay, SharesLanesAmongItsOwnPublishers) {
    Installed installed;
    RelayOptions options = installed.relay_options();
    options.publisher_count = 3;
    RunningRelay relay(installed, options);
    const std::string evenly = "SELECT count(*) FROM (SELECT FROM millrace.relay_lanes WHERE "
                               "publisher IS NOT NULL GROUP BY publisher HAVING count(*) = 4) s";
    ASSERT_TRUE(eventually(10s, [&] { return installed.number(evenly) == 3; }));

    installed.insert(2000, 50);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));
    relay.stop();

    const Verdict verdict = installed.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

TEST(Relay, WritesEnvelopesWhenToldTo) {
    Installed installed;
    installed.execute("INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
                      "VALUES ('" + installed.topic + "', 'k', 'T', '{\"n\":  1}')");
    RelayOptions options = installed.relay_options();
    options.publisher.message_format = MessageFormat::kEnvelope;
    RunningRelay relay(installed, options);
    ASSERT_TRUE(eventually(10s, [&] { return installed.pending_count() == 0; }));

    const std::vector<SeenRecord> seen = read_topic(installed.topic);

    ASSERT_EQ(seen.size(), 1U);
    const nlohmann::json envelope = nlohmann::json::parse(seen[0].value.value());
    EXPECT_EQ(envelope["event_id"], seen[0].headers.at("id"));
    EXPECT_EQ(envelope["payload"]["n"], 1);
}

// PROTOCOL 1: where the Java client would have put them, so that a move to millrace tears no key
// apart.
TEST(Relay, PutsEachTaskIntoThePartitionOfItsKey) {
    Installed installed(12, 7);
    installed.insert(200, 60);
    installed.execute("INSERT INTO millrace.pending_tasks (topic, task_type) SELECT '" +
                      installed.topic + "', 'Keyless' FROM generate_series(1, 40)");
    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(30s, [&] { return installed.pending_count() == 0; }));

    const std::vector<SeenRecord> records = read_topic(installed.topic);
    EXPECT_EQ(records.size(), 240U);
    for (const SeenRecord& record : records) {
        const std::string by = record.key.value_or(record.headers.at("id"));
        EXPECT_EQ(record.partition, kafka::partition_of(by, 7)) << by;
    }
}

TEST(Relay, StampsRecordsWithTheTimeOfTheirTask) {
    Installed installed;
    installed.execute("INSERT INTO millrace.pending_tasks (topic, task_type, created_at) "
                      "VALUES ('" + installed.topic + "', 'T', '2024-07-15 12:34:56.789+00')");
    RunningRelay relay(installed);
    ASSERT_TRUE(eventually(10s, [&] { return installed.pending_count() == 0; }));

    EXPECT_EQ(read_topic(installed.topic).at(0).timestamp_ms, 1'721'046'896'789);
}

}  // namespace
}  // namespace millrace::test
