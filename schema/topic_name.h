#pragma once

#include <algorithm>
#include <string_view>

namespace millrace {

// As brokers allow: up to 249 letters, digits, dots, dashes and underscores, but not only dots.
inline bool is_topic_name(std::string_view name) {
    return !name.empty() && name.size() <= 249 && name != "." && name != ".." &&
           std::all_of(name.begin(), name.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '-' || c == '_';
           });
}

// What the topics of projections' dead letters end with: `<topic>.<projection>.dlq`.
constexpr std::string_view kDeadLetterTopicEnd = ".dlq";

inline bool is_dead_letter_topic(std::string_view topic) {
    return topic.ends_with(kDeadLetterTopicEnd);
}

}  // namespace millrace
