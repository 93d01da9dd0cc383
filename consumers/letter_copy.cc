#include "consumers/letter_copy.h"

#include <deque>

#include "core/pg/params.h"
#include "schema/plain_text.h"
#include "schema/raw_headers.h"
#include "schema/topic_name.h"

namespace millrace {

namespace {

// Headers whose values are made here; those of the record are views into it.
class HeaderList {
  public:
    explicit HeaderList(std::vector<Header> headers) : headers_(std::move(headers)) {}

    void add(std::string_view name, std::string value) {
        headers_.push_back({.name = name, .value = kept_.emplace_back(std::move(value))});
    }
    void add_if_any(std::string_view name, const std::string& value) {
        if (!value.empty()) add(name, value);
    }
    std::string json() const { return encode_headers(headers_); }

  private:
    std::vector<Header> headers_;
    std::deque<std::string> kept_;  // Views into it stay good.
};

std::string int4_bytes(int32_t value) {
    std::string bytes;
    pg::append_int32(bytes, value);  // Network byte order.
    return bytes;
}

std::string int8_bytes(int64_t value) {
    std::string bytes;
    pg::append_int64(bytes, value);
    return bytes;
}

}  // namespace

std::string letter_topic(std::string_view topic, std::string_view projection) {
    return std::string(topic) + "." + std::string(projection) + std::string(kDeadLetterTopicEnd);
}

Uuid letter_copy_id(const ProjectionName& projection, const Event& event) {
    return Uuid::of_name(Uuid(), "millrace dead letter " + projection.name + " " +
                                     std::to_string(projection.version) + " " +
                                     std::string(event.topic) + " " +
                                     std::to_string(event.partition) + " " +
                                     std::to_string(event.offset));
}

std::string letter_copy_headers(const ProjectionName& projection, const Event& event,
                                const Cause& cause) {
    const std::string topic(event.topic);
    const std::string partition = std::to_string(event.partition);
    const std::string offset = std::to_string(event.offset);
    const std::string what =
        cause.sqlstate.empty() ? cause.reason : cause.reason + " " + cause.sqlstate;

    HeaderList list(event.headers);
    list.add("__connect.errors.topic", topic);
    list.add("__connect.errors.partition", partition);
    list.add("__connect.errors.offset", offset);
    list.add("__connect.errors.connector.name", projection.name);
    list.add("__connect.errors.task.id", "0");
    list.add("__connect.errors.stage", cause.statement.empty() ? "VALUE_CONVERTER" : "TASK_PUT");
    list.add("__connect.errors.class.name", "millrace");
    list.add("__connect.errors.exception.class.name", what);
    list.add("__connect.errors.exception.message", cause.error);
    list.add("__connect.errors.exception.stacktrace", cause.statement);

    list.add("kafka_dlt-original-topic", topic);
    list.add("kafka_dlt-original-partition", int4_bytes(event.partition));
    list.add("kafka_dlt-original-offset", int8_bytes(event.offset));
    list.add("kafka_dlt-original-timestamp", int8_bytes(event.timestamp.count()));
    list.add("kafka_dlt-original-timestamp-type", "CreateTime");
    list.add("kafka_dlt-exception-fqcn", what);
    list.add("kafka_dlt-exception-message", cause.error);
    list.add("kafka_dlt-exception-stacktrace", cause.statement);

    list.add("millrace-dlq-projection", projection.name);
    list.add("millrace-dlq-version", std::to_string(projection.version));
    list.add("millrace-dlq-topic", topic);
    list.add("millrace-dlq-partition", partition);
    list.add("millrace-dlq-offset", offset);
    list.add("millrace-dlq-reason", cause.reason);
    list.add_if_any("millrace-dlq-sqlstate", cause.sqlstate);
    list.add_if_any("millrace-dlq-constraint", cause.constraint);
    list.add_if_any("millrace-dlq-statement", cause.statement);
    list.add("millrace-dlq-error", cause.error);
    list.add("millrace-dlq-attempts", std::to_string(cause.attempt_count));
    if (event.key && !is_plain_text(*event.key)) list.add("millrace-key-encoding", "base64");
    return "{\"" + std::string(kRawHeaders) + "\":" + list.json() + "}";
}

}  // namespace millrace
