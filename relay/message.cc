#include "relay/message.h"

#include <array>
#include <charconv>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/failure.h"
#include "core/kafka/admin.h"
#include "schema/base64.h"
#include "schema/correlation.h"
#include "schema/raw_headers.h"

namespace millrace {

namespace {

void add_header(rd_kafka_headers_t* headers, std::string_view name, std::string_view value) {
    rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                        static_cast<ssize_t>(value.size()));
}

void add_raw_headers(rd_kafka_headers_t* headers, std::string_view json) {
    const auto decoded = decode_headers(json);
    if (!decoded) throw poison("task_refused", "the task's raw headers can't be read");
    for (const RawHeader& header : *decoded) {
        if (header.value) {
            add_header(headers, header.name, *header.value);
        } else {
            rd_kafka_header_add(headers, header.name.data(),
                                static_cast<ssize_t>(header.name.size()), nullptr, -1);
        }
    }
}

// The row's own headers: strings as they are, other JSON values as their text. True if they are
// those of another message, whose copy this is.
bool add_row_headers(rd_kafka_headers_t* headers, std::string_view json) {
    const auto object = nlohmann::ordered_json::parse(json, nullptr, /*allow_exceptions=*/false);
    // PostgreSQL's json takes some escapes that are no Unicode, such as half a surrogate pair.
    if (!object.is_object()) throw poison("task_refused", "the task's headers are no valid JSON");
    if (object.size() == 1 && object.contains(kRawHeaders)) {
        add_raw_headers(headers, object[std::string(kRawHeaders)].dump());
        return true;
    }
    for (const auto& [name, value] : object.items()) {
        add_header(headers, name,
                   value.is_string() ? value.get_ref<const std::string&>() : value.dump());
    }
    return false;
}

std::string json_string(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string json_string_or_null(const std::optional<std::string_view>& text) {
    return text ? json_string(*text) : "null";
}

// RFC 3339 in UTC with microseconds.
std::string timestamp_text(int64_t microseconds) {
    // Rounded down, also before 1970.
    const int64_t fraction = (microseconds % 1'000'000 + 1'000'000) % 1'000'000;
    const std::time_t seconds = static_cast<std::time_t>((microseconds - fraction) / 1'000'000);
    std::tm calendar{};
    gmtime_r(&seconds, &calendar);
    std::array<char, 40> text{};
    const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &calendar);
    std::snprintf(text.data() + length, text.size() - length, ".%06dZ",
                  static_cast<int>(fraction));
    return text.data();
}

}  // namespace

kafka::Record MessageWriter::record(const Task& task, int32_t partition, int64_t n) {
    bool is_copy = false;
    kafka::Record record{.topic = task.topic,
                         .partition = partition,
                         .key = task.key,
                         .value = task.payload,
                         .timestamp = std::chrono::milliseconds(task.created_at_us / 1000),
                         .headers = headers(task, n, is_copy)};
    // A tombstone stays one in both formats: compaction must see it. A copy keeps its value.
    if (format_ == MessageFormat::kEnvelope && task.payload && !is_copy) {
        write_envelope(task);
        record.value = envelope_;
    }
    return record;
}

rd_kafka_headers_t* MessageWriter::headers(const Task& task, int64_t n, bool& is_copy) {
    std::unique_ptr<rd_kafka_headers_t, decltype(&rd_kafka_headers_destroy)> headers(
        rd_kafka_headers_new(8), &rd_kafka_headers_destroy);
    add_header(headers.get(), "id", task.event_id.text());
    add_header(headers.get(), "type", task.task_type);
    if (task.tenant_id) add_header(headers.get(), "tenant", *task.tenant_id);
    if (task.actor_id) add_header(headers.get(), "actor", *task.actor_id);
    if (task.headers) is_copy = add_row_headers(headers.get(), *task.headers);

    const size_t prefix_size = sequence_prefix_.size();
    std::array<char, 24> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), n).ptr;
    sequence_prefix_.append(digits.data(), end);
    add_header(headers.get(), "millrace-seq", sequence_prefix_);
    sequence_prefix_.resize(prefix_size);
    return headers.release();
}

void MessageWriter::write_envelope(const Task& task) {
    envelope_ = "{\"event_id\":\"" + task.event_id.text() + "\"";
    envelope_ += ",\"event_type\":" + json_string(task.task_type);
    envelope_ += ",\"service_id\":" + json_string_or_null(task.key);
    envelope_ += ",\"tenant_id\":" + json_string_or_null(task.tenant_id);
    envelope_ += ",\"timestamp\":\"" + timestamp_text(task.created_at_us) + "\"";
    envelope_ += ",\"actor_id\":" + json_string_or_null(task.actor_id);
    if (task.payload_is_bytes) {
        envelope_ += ",\"payload_base64\":\"" + encode_base64(*task.payload) + "\"";
    } else {
        envelope_ += ",\"payload\":";
        envelope_ += *task.payload;
    }
    envelope_ += ",\"metadata\":";
    envelope_ += task.headers.value_or("{}");
    envelope_ += "}";
}

std::string sequence_prefix(const Installation& installation, const PublisherState& publisher) {
    return installation.short_id() + "." + std::to_string(publisher.number) + "." +
           std::to_string(publisher.generation) + ".";
}

std::string correlation_id(const Task& task) {
    if (task.headers) {
        const auto headers =
            nlohmann::json::parse(*task.headers, nullptr, /*allow_exceptions=*/false);
        if (headers.is_object() && headers.contains("traceparent")) {
            const auto* text = headers["traceparent"].get_ptr<const std::string*>();
            const std::string_view id = text == nullptr ? "" : trace_id_of(*text);
            if (!id.empty()) return std::string(id);
        }
    }
    return task.event_id.text();
}

int32_t partition_of(const Task& task, int32_t partition_count) {
    return task.key ? kafka::partition_of(*task.key, partition_count)
                    : kafka::partition_of(task.event_id.text(), partition_count);
}

}  // namespace millrace
