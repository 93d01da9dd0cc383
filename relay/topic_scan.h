#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/uuid.h"

namespace millrace {

// An event as the relay published it.
struct PublishedEvent {
    std::string topic;
    Uuid event_id;
    // Of its task; none if the broker gave the record a time of its own.
    std::optional<std::chrono::milliseconds> created_at;
};

// Reads topics from some time on to their end, for the events that one installation published to
// them. Takes as long as it takes to read them; one call at a time, not thread-safe.
class TopicScan {
  public:
    // `sequence_start` begins the `millrace-seq` of that installation's records: others' are no
    // events of its tasks, whatever id they have.
    TopicScan(const kafka::ClientOptions& options, std::string sequence_start,
              kafka::Reaper& reaper);

    struct Progress {
        std::string topic;
        int64_t read_count = 0;
        int64_t total_count = 0;  // Offsets, those of markers included.
    };
    using OnEvent = std::function<void(const PublishedEvent&)>;
    using OnProgress = std::function<void(const Progress&)>;
    // Calls `on_event` for the committed records that the topics hold now, from the first one on
    // whose time is `since` or later; from the beginning where brokers set the times. `on_progress`
    // about every two seconds. Returns what an operator should know, a line each: a topic that does
    // not exist holds nothing, a compacted one no longer all. Throws kTransient when a broker gives
    // no answer for half a minute, or a transaction stays open for as long.
    std::vector<std::string> run(const std::vector<std::string>& topics,
                                 std::chrono::milliseconds since, const OnEvent& on_event,
                                 const OnProgress& on_progress);

  private:
    std::optional<int32_t> partition_count(const std::string& topic);
    // Begins to read; the ends of the partitions that hold something.
    std::map<int32_t, int64_t> assign(const std::string& topic, int32_t partition_count,
                                      std::chrono::milliseconds since, int64_t& offset_count);
    void read_to(std::map<int32_t, int64_t> ends, Progress progress, const OnEvent& on_event,
                 const OnProgress& on_progress);
    std::optional<PublishedEvent> event_of(const rd_kafka_message_t& message) const;

    kafka::Client client_;
    const std::string sequence_start_;
};

}  // namespace millrace
