#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/uuid.h"

namespace millrace {

// Reads topics from some time on to their end, for the ids of the events in them. Takes as long as
// it takes to read them; one call at a time, not thread-safe.
class TopicScan {
  public:
    TopicScan(const kafka::ClientOptions& options, kafka::Reaper& reaper);

    struct Progress {
        std::string topic;
        int64_t read_count = 0;
        int64_t total_count = 0;  // Offsets, those of markers included.
    };
    // Every committed record whose time is `since` or later, of those that a topic that exists has
    // now. `on_progress` about every two seconds. Throws kTransient when a broker gives no answer
    // for half a minute.
    void run(const std::vector<std::string>& topics, std::chrono::milliseconds since,
             const std::function<void(const Uuid&)>& on_event,
             const std::function<void(const Progress&)>& on_progress);

  private:
    void run_one(const std::string& topic, int32_t partition_count,
                 std::chrono::milliseconds since, const std::function<void(const Uuid&)>& on_event,
                 const std::function<void(const Progress&)>& on_progress);

    kafka::Client client_;
};

}  // namespace millrace
