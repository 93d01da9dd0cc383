#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/kafka/producer.h"
#include "core/kafka/reaper.h"

namespace millrace::test {

// A message as a test wants it in a topic.
struct FedMessage {
    int32_t partition = 0;
    std::optional<std::string> key;
    std::optional<std::string> value;
    std::vector<std::pair<std::string, std::string>> headers = {};
    std::chrono::milliseconds timestamp{0};  // 0: now.
};

// Writes messages to a topic, each call in one Kafka transaction.
class Feed {
  public:
    explicit Feed(std::string topic);

    void send(const std::vector<FedMessage>& messages);
    // Events of type Counted whose payload is {"n": ...}, n rising per key; each key has one
    // partition and each record a millrace-seq that follows.
    void send_counted(int count, int key_count, int partition_count);
    // The same of key k0 in partition 0, with a `filler` of 100 kB each.
    void send_large(int count);
    // A transaction whose records no reader sees, though they have offsets.
    void send_aborted(const std::vector<FedMessage>& messages);
    // Continues the partition's sequence further on than it stands: as if records were lost.
    void skip_sequence(int32_t partition, int64_t count) { sequence_[partition] += count; }

    FedMessage counted(const std::string& key, int32_t partition);
    int64_t sent_count() const { return sent_count_; }

  private:
    void produce(const std::vector<FedMessage>& messages);

    const std::string topic_;
    kafka::Reaper reaper_;
    std::unique_ptr<kafka::Producer> producer_;
    std::map<std::string, int64_t> last_of_key_;
    std::map<int32_t, int64_t> sequence_;
    int64_t sent_count_ = 0;
};

}  // namespace millrace::test
