#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace millrace {

struct Header {
    std::string_view name;
    std::optional<std::string_view> value;
};

// A message of Kafka, parsed as far as every projection needs it. All views point into the message,
// which outlives the event. Made by EventParser, which reads both formats the relay writes: the
// bare payload with its facts in headers, and the whole envelope as JSON.
struct Event {
    std::string_view topic;
    int32_t partition = 0;
    int64_t offset = 0;
    std::optional<std::string_view> key;
    std::string_view event_id;  // Canonical text of a uuid; empty when the message carries none.
    std::string_view type;      // Empty when the message carries none.
    std::optional<std::string_view> tenant;
    std::optional<std::string_view> actor;
    std::chrono::milliseconds timestamp{0};  // Kafka's, since 1970: when the task was created.
    std::optional<std::string_view> payload;  // No payload: a tombstone.
    std::vector<Header> headers;
};

}  // namespace millrace
