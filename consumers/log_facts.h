#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "consumers/topic_partition.h"
#include "core/uuid.h"

namespace millrace {

// Where a projection begins that has no positions yet.
struct StartAt {
    enum class Kind { kEarliest, kLatest, kTime };
    Kind kind = Kind::kEarliest;
    std::chrono::milliseconds time{0};  // Since 1970, of kTime.
};

struct LogRange {
    int64_t start = 0;
    int64_t end = 0;  // Behind the last committed record.
};

struct LogTopic {
    Uuid id;
    int32_t partition_count = 0;
};

// Questions to the brokers about the logs that are read, over any consumer of ours. Each blocks at
// most 11 s and throws kTransient when no broker answers.
class LogFacts {
  public:
    explicit LogFacts(rd_kafka_t* client) : client_(client) {}

    // Nothing when there is no such topic.
    std::optional<LogTopic> find_topic(const std::string& topic) const;
    // True if records of the topic may be missing because later ones have their key. False too when
    // the broker does not let us look.
    bool is_compacted(const std::string& topic) const;
    LogRange range(const TopicPartition& where) const;
    // The first record at or after the time; the log's end if there is none.
    int64_t offset_at(const TopicPartition& where, std::chrono::milliseconds time) const;
    // A leader whose committed log reaches the offset; none if it can't be told now. Blocks 2 s.
    std::optional<int32_t> leader_epoch_at(const TopicPartition& where, int64_t offset) const;
    int64_t resolve(const TopicPartition& where, const StartAt& start) const;

  private:
    rd_kafka_t* client_;
};

// Kafka prints a topic's id as base64 without padding.
std::optional<Uuid> parse_topic_id(std::string text);

}  // namespace millrace
