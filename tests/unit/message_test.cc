#include "relay/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/failure.h"
#include "core/kafka/admin.h"
#include "schema/raw_headers.h"
#include "tests/support/failures.h"

namespace millrace {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::Pair;

using Headers = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view kEventId = "0190b2f0-7a3c-7def-8123-456789abcdef";
// 2024-07-15T12:34:56.000789Z.
constexpr int64_t kCreatedAtUs = 1'721'046'896'000'789;

Task some_task() {
    Task task;
    task.lane = 3;
    task.id = 42;
    task.event_id = Uuid::parse(kEventId).value();
    task.topic = "shop.orders";
    task.key = "o-4711";
    task.task_type = "OrderPlaced";
    task.payload = R"({"order": {"id": "o-4711"}})";
    task.created_at_us = kCreatedAtUs;
    return task;
}

MessageWriter bare() { return {MessageFormat::kPayload, "0190b2f0.5.1."}; }
MessageWriter enveloping() { return {MessageFormat::kEnvelope, "0190b2f0.5.1."}; }

// The record's headers in their order; frees them.
Headers headers_of(const kafka::Record& record) {
    Headers found;
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    for (size_t i = 0; rd_kafka_header_get_all(record.headers, i, &name, &value, &size) ==
                       RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
        found.emplace_back(name, std::string(static_cast<const char*>(value), size));
    }
    rd_kafka_headers_destroy(record.headers);
    return found;
}

// The envelope of `task`, which must be valid JSON.
json envelope_of(const Task& task) {
    MessageWriter writer = enveloping();
    const kafka::Record record = writer.record(task, 0, 1);
    rd_kafka_headers_destroy(record.headers);
    return json::parse(record.value.value());
}

TEST(Message, OfTheBareFormatIsThePayloadByteForByte) {
    const Task task = some_task();
    MessageWriter writer = bare();

    const kafka::Record record = writer.record(task, 7, 1);

    EXPECT_EQ(record.topic, "shop.orders");
    EXPECT_EQ(record.partition, 7);
    EXPECT_EQ(record.key, "o-4711");
    EXPECT_EQ(record.value, task.payload);
    rd_kafka_headers_destroy(record.headers);
}

TEST(Message, CarriesTheTaskTimeInMilliseconds) {
    MessageWriter writer = bare();

    const kafka::Record record = writer.record(some_task(), 0, 1);

    EXPECT_EQ(record.timestamp.count(), kCreatedAtUs / 1000);
    rd_kafka_headers_destroy(record.headers);
}

TEST(Message, HasOnlyTheHeadersThatTheTaskGives) {
    MessageWriter writer = bare();

    EXPECT_THAT(headers_of(writer.record(some_task(), 0, 9)),
                ElementsAre(Pair("id", kEventId), Pair("type", "OrderPlaced"),
                            Pair("millrace-seq", "0190b2f0.5.1.9")));
}

TEST(Message, HasTenantActorAndTheRowsOwnHeaders) {
    Task task = some_task();
    task.tenant_id = "acme";
    task.actor_id = "jo";
    task.headers = R"({"traceparent": "00-ab-cd-01", "n": 7, "flag": true, "umlaut": "\u00e4"})";
    MessageWriter writer = bare();

    EXPECT_THAT(headers_of(writer.record(task, 0, 1)),
                ElementsAre(Pair("id", kEventId), Pair("type", "OrderPlaced"),
                            Pair("tenant", "acme"), Pair("actor", "jo"),
                            Pair("traceparent", "00-ab-cd-01"), Pair("n", "7"),
                            Pair("flag", "true"), Pair("umlaut", "ä"),
                            Pair("millrace-seq", "0190b2f0.5.1.1")));
}

TEST(Message, IsFoundInLogsByItsTraceElseByItsEventId) {
    Task task = some_task();
    EXPECT_EQ(correlation_id(task), kEventId);
    for (const char* headers : {R"({"traceparent": "00-ab-cd-01"})", R"({"traceparent": 7})", "[",
                                R"({"other": "x"})"}) {
        task.headers = headers;
        EXPECT_EQ(correlation_id(task), kEventId) << headers;
    }

    task.headers = R"({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})";

    EXPECT_EQ(correlation_id(task), "4bf92f3577b34da6a3ce929d0e0e4736");
}

TEST(Message, NumbersEachRecordByItsOwnN) {
    MessageWriter writer = bare();
    const Task task = some_task();
    headers_of(writer.record(task, 0, 123456));

    EXPECT_EQ(headers_of(writer.record(task, 0, 2)).back().second, "0190b2f0.5.1.2");
}

TEST(Message, ThatCopiesAnotherHasItsHeadersByteForByteAndNoEnvelope) {
    Task task = some_task();
    const std::string odd("\x00\xFF", 2);
    const std::string raw = "{\"millrace-headers\": " +
                            encode_headers({{.name = "twice", .value = "a"},
                                            {.name = "twice", .value = odd}}) +
                            "}";
    task.headers = raw;
    MessageWriter writer = enveloping();

    const kafka::Record record = writer.record(task, 0, 1);

    EXPECT_EQ(record.value, task.payload);
    EXPECT_THAT(headers_of(record),
                ElementsAre(Pair("id", kEventId), Pair("type", "OrderPlaced"), Pair("twice", "a"),
                            Pair("twice", odd), Pair("millrace-seq", "0190b2f0.5.1.1")));
    const std::string broken = R"({"millrace-headers": [["a", 1]]})";
    task.headers = broken;
    EXPECT_EQ(test::failure_of([&] { writer.record(task, 0, 1); }).reason(), "task_refused");
    // One name among others is no copy.
    const std::string among = R"({"millrace-headers": [], "x": "y"})";
    task.headers = among;
    const kafka::Record enveloped = writer.record(task, 0, 1);
    rd_kafka_headers_destroy(enveloped.headers);
    EXPECT_NE(enveloped.value, task.payload);
}

// PostgreSQL's json takes half a surrogate pair, which no UTF-8 header can carry. It used to become
// a nameless header that said "<discarded>".
TEST(Message, OfUnreadableHeadersIsRefused) {
    Task task = some_task();
    task.headers = R"({"broken": "\ud800"})";
    MessageWriter writer = bare();

    const Failure failure = test::failure_of([&] { writer.record(task, 0, 1); });

    EXPECT_EQ(failure.kind(), FailureKind::kPoison);
    EXPECT_EQ(failure.reason(), "task_refused");
}

TEST(Message, EnvelopeHoldsAllThatTheTaskSays) {
    Task task = some_task();
    task.tenant_id = "acme";
    task.actor_id = "jo \"the\" clerk\n";
    task.headers = R"({"traceparent": "00-ab-cd-01"})";

    EXPECT_EQ(envelope_of(task), json::parse(R"({
        "event_id": "0190b2f0-7a3c-7def-8123-456789abcdef",
        "event_type": "OrderPlaced",
        "service_id": "o-4711",
        "tenant_id": "acme",
        "timestamp": "2024-07-15T12:34:56.000789Z",
        "actor_id": "jo \"the\" clerk\n",
        "payload": {"order": {"id": "o-4711"}},
        "metadata": {"traceparent": "00-ab-cd-01"}
    })"));
}

TEST(Message, EnvelopeOfABareTaskSaysNullAndNoMetadata) {
    Task task = some_task();
    task.key.reset();

    const json envelope = envelope_of(task);

    EXPECT_TRUE(envelope["service_id"].is_null());
    EXPECT_TRUE(envelope["tenant_id"].is_null());
    EXPECT_TRUE(envelope["actor_id"].is_null());
    EXPECT_EQ(envelope["metadata"], json::object());
}

TEST(Message, EnvelopeKeepsThePayloadsOwnText) {
    Task task = some_task();
    task.payload = R"({"b": 1.10,  "a": 100000000000000000000001})";
    MessageWriter writer = enveloping();

    const kafka::Record record = writer.record(task, 0, 1);

    EXPECT_THAT(std::string(record.value.value()), testing::HasSubstr(*task.payload));
    rd_kafka_headers_destroy(record.headers);
}

TEST(Message, EnvelopeCarriesBytesAsBase64) {
    for (const auto& [bytes, text] : Headers{{"", ""},
                                             {"f", "Zg=="},
                                             {"fo", "Zm8="},
                                             {"foo", "Zm9v"},
                                             {std::string("\x00\xFF\xFE", 3), "AP/+"}}) {
        Task task = some_task();
        task.payload = bytes;
        task.payload_is_bytes = true;

        const json envelope = envelope_of(task);

        EXPECT_EQ(envelope["payload_base64"], text);
        EXPECT_FALSE(envelope.contains("payload"));
    }
}

// Truncation towards zero printed "1969-12-31T23:59:59.-00001Z" for such a task.
TEST(Message, EnvelopeOfATaskBefore1970HasAValidTime) {
    Task task = some_task();
    task.created_at_us = -1;

    EXPECT_EQ(envelope_of(task)["timestamp"], "1969-12-31T23:59:59.999999Z");
}

// Compaction must see it.
TEST(Message, OfNoPayloadStaysATombstoneInBothFormats) {
    Task task = some_task();
    task.payload.reset();
    MessageWriter plain = bare();
    MessageWriter whole = enveloping();

    const kafka::Record bare_record = plain.record(task, 0, 1);
    const kafka::Record whole_record = whole.record(task, 0, 1);

    EXPECT_EQ(bare_record.value, std::nullopt);
    EXPECT_EQ(whole_record.value, std::nullopt);
    rd_kafka_headers_destroy(bare_record.headers);
    rd_kafka_headers_destroy(whole_record.headers);
}

TEST(Message, OfAnEmptyPayloadIsNoTombstone) {
    Task task = some_task();
    task.payload = "";
    task.payload_is_bytes = true;
    MessageWriter writer = bare();

    const kafka::Record record = writer.record(task, 0, 1);

    EXPECT_EQ(record.value, "");
    rd_kafka_headers_destroy(record.headers);
}

// PROTOCOL 1.
TEST(Message, WithoutKeyIsPlacedByItsEventId) {
    Task task = some_task();
    task.key.reset();

    EXPECT_EQ(partition_of(task, 1000), kafka::partition_of(kEventId, 1000));
    EXPECT_EQ(partition_of(some_task(), 1000), kafka::partition_of("o-4711", 1000));
}

}  // namespace
}  // namespace millrace
