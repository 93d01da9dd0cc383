#include "schema/event_parser.h"

#include <gtest/gtest.h>

#include "relay/message.h"

namespace millrace {
namespace {

constexpr std::string_view kId = "0190a5a0-0000-7000-8000-000000000001";
constexpr std::string_view kOtherId = "0190a5a0-0000-7000-8000-000000000002";

Event message(std::optional<std::string_view> value, std::vector<Header> headers = {}) {
    Event event;
    event.topic = "shop.orders";
    event.key = "o-1";
    event.payload = value;
    event.headers = std::move(headers);
    return event;
}

std::vector<Header> relay_headers() {
    return {{"id", kId}, {"type", "OrderPlaced"}, {"tenant", "t1"}, {"actor", "a1"},
            {"millrace-seq", "0123abcd.0.1.7"}};
}

std::string envelope(const std::string& payload_member, std::string_view id = kId) {
    return "{\"event_id\":\"" + std::string(id) +
           "\",\"event_type\":\"OrderPlaced\",\"service_id\":\"o-1\",\"tenant_id\":null,"
           "\"timestamp\":\"2026-01-02T03:04:05.000006Z\",\"actor_id\":\"a\\u00e4\"," +
           payload_member + ",\"metadata\":{\"color\":\"blue\",\"n\":7}}";
}

// What the relay makes of a task, as a consumer gets it.
struct Received {
    kafka::Record record;
    Event event;

    Received(MessageWriter& writer, const Task& task) : record(writer.record(task, 0, 7)) {
        event = message(record.value);
        event.key = record.key;
        const char* name = nullptr;
        const void* value = nullptr;
        size_t size = 0;
        for (size_t i = 0; rd_kafka_header_get_all(record.headers, i, &name, &value, &size) ==
                           RD_KAFKA_RESP_ERR_NO_ERROR;
             ++i) {
            const std::string_view text(static_cast<const char*>(value), size);
            event.headers.push_back({.name = name, .value = text});
        }
    }
    ~Received() { rd_kafka_headers_destroy(record.headers); }
    Received(const Received&) = delete;
    Received& operator=(const Received&) = delete;
};

TEST(EventParser, ReadsTheSameEventFromBothFormatsOfTheRelay) {
    EventParser parser;
    Task task;
    task.event_id = Uuid::parse(kId).value();
    task.topic = "shop.orders";
    task.key = "o-1";
    task.task_type = "Order\"Placed\\";
    task.tenant_id = "t1";
    task.headers = "{\"color\": \"blue\", \"id\": \"x\", \"millrace-seq\": \"y\"}";
    const std::string bytes("\0\xFF\1", 3);
    for (const std::string& payload : {std::string("{\"a\": [1, {\"b\": \"}\"}]}"),
                                       std::string(" 7 "), std::string("null"), bytes}) {
        task.payload = payload;
        task.payload_is_bytes = payload == bytes;
        for (const MessageFormat format : {MessageFormat::kPayload, MessageFormat::kEnvelope}) {
            MessageWriter writer(format, "0123abcd.0.1.");
            Received received(writer, task);

            parser.parse(received.event);

            const Event& event = received.event;
            EXPECT_EQ(event.event_id, kId);
            EXPECT_EQ(event.type, task.task_type);
            EXPECT_EQ(event.tenant, "t1");
            EXPECT_EQ(event.actor, std::nullopt);
            EXPECT_EQ(find_header(event, "color"), "blue");
            // White space around a value is no part of it inside of an envelope.
            const bool is_trimmed = format == MessageFormat::kEnvelope && payload == " 7 ";
            EXPECT_EQ(event.payload, is_trimmed ? "7" : payload);
        }
    }
}

TEST(EventParser, ReadsABarePayloadsFactsFromItsHeaders) {
    EventParser parser;
    Event event = message("{\"n\":1}", relay_headers());

    parser.parse(event);

    EXPECT_EQ(event.event_id, kId);
    EXPECT_EQ(event.type, "OrderPlaced");
    EXPECT_EQ(event.tenant, "t1");
    EXPECT_EQ(event.actor, "a1");
    EXPECT_EQ(event.payload, "{\"n\":1}");
    EXPECT_EQ(find_header(event, "millrace-seq"), "0123abcd.0.1.7");
}

TEST(EventParser, ReadsAnEnvelope) {
    EventParser parser;
    const std::string value = envelope("\"payload\":{\"a\": [1, \"x\"]}");
    Event event = message(value, {{"id", kId}, {"type", "OrderPlaced"}});

    parser.parse(event);

    EXPECT_EQ(event.event_id, kId);
    EXPECT_EQ(event.type, "OrderPlaced");
    EXPECT_EQ(event.tenant, std::nullopt);
    EXPECT_EQ(event.actor, "a\xC3\xA4");
    EXPECT_EQ(event.payload, "{\"a\": [1, \"x\"]}");
    EXPECT_EQ(find_header(event, "color"), "blue");
    EXPECT_EQ(find_header(event, "n"), "7");
}

TEST(EventParser, ReadsAnEnvelopeWithoutHeaders) {
    EventParser parser;
    const std::string value = envelope("\"payload\":null");
    Event event = message(value);

    parser.parse(event);

    EXPECT_EQ(event.event_id, kId);
    EXPECT_EQ(event.payload, "null");
}

TEST(EventParser, DecodesBytesOfAnEnvelope) {
    EventParser parser;
    for (const auto& [text, bytes] : std::vector<std::pair<std::string, std::string>>{
             {"", ""}, {"AA==", std::string("\0", 1)}, {"AAE=", std::string("\0\1", 2)},
             {"AAEC", std::string("\0\1\2", 3)}}) {
        const std::string value = envelope("\"payload_base64\":\"" + text + "\"");
        Event event = message(value);

        parser.parse(event);

        EXPECT_EQ(event.payload, bytes) << text;
    }
}

TEST(EventParser, TakesWhatOnlyResemblesAnEnvelopeForAPayload) {
    EventParser parser;
    const std::string payload = "\"payload\":1";
    const std::string whole = envelope(payload);
    const std::vector<std::string> resembling{
        " " + whole,
        whole + " x",
        whole.substr(0, whole.size() - 1),
        envelope("\"payload\":1,\"more\":2"),
        envelope("\"payload\":1,\"payload\":2"),
        envelope("\"payload\":1,\"payload_base64\":\"\""),
        envelope("\"payload_base64\":\"A\""),
        envelope("\"payload_base64\":7"),
        envelope("\"payload\":{\"a\":"),
        "{\"event_id\":\"" + std::string(kId) + "\"}",
        "{\"event_id\":\"" + std::string(kId) + "\",\"event_type\":7}",
    };
    for (const std::string& value : resembling) {
        Event event = message(value, relay_headers());

        parser.parse(event);

        EXPECT_EQ(event.payload, value);
        EXPECT_EQ(event.type, "OrderPlaced");
    }
}

TEST(EventParser, TakesAnEnvelopeOfAnotherEventForAPayload) {
    EventParser parser;
    const std::string value = envelope("\"payload\":1", kOtherId);
    Event event = message(value, relay_headers());

    parser.parse(event);

    EXPECT_EQ(event.payload, value);
    EXPECT_EQ(event.event_id, kId);
}

TEST(EventParser, KeepsTombstones) {
    EventParser parser;
    Event event = message(std::nullopt, relay_headers());

    parser.parse(event);

    EXPECT_EQ(event.payload, std::nullopt);
    EXPECT_EQ(event.event_id, kId);
}

TEST(EventParser, ReadsAForeignMessage) {
    EventParser parser;
    Event event = message("\xFF\xFE any bytes", {{"id", "not a uuid"}, {"x", std::nullopt}});

    parser.parse(event);

    EXPECT_EQ(event.event_id, "");
    EXPECT_EQ(event.type, "");
    EXPECT_EQ(event.payload, "\xFF\xFE any bytes");
    EXPECT_EQ(find_header(event, "x"), std::nullopt);
}

TEST(EventParser, OwnHeadersOfTheRowDoNotHideOurs) {
    EventParser parser;
    std::vector<Header> headers = relay_headers();
    headers.push_back({"id", kOtherId});
    headers.push_back({"type", "Else"});
    Event event = message("1", std::move(headers));

    parser.parse(event);

    EXPECT_EQ(event.event_id, kId);
    EXPECT_EQ(event.type, "OrderPlaced");
}

TEST(EventParser, LeavesNothingBehindForTheNextMessage) {
    EventParser parser;
    Event event = message("1", relay_headers());
    parser.parse(event);
    event.headers.clear();
    event.payload = "2";

    parser.parse(event);

    EXPECT_EQ(event.event_id, "");
    EXPECT_EQ(event.type, "");
    EXPECT_EQ(event.tenant, std::nullopt);
    EXPECT_EQ(event.actor, std::nullopt);
}

}  // namespace
}  // namespace millrace
