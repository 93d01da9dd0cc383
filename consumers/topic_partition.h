#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace millrace {

struct TopicPartition {
    std::string topic;
    int32_t partition = 0;

    // As people write it: `shop.orders-3`.
    std::string text() const { return topic + "-" + std::to_string(partition); }

    friend bool operator==(const TopicPartition&, const TopicPartition&) = default;
    friend auto operator<=>(const TopicPartition&, const TopicPartition&) = default;
};

}  // namespace millrace
