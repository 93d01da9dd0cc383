#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "core/kafka/handles.h"
#include "core/uuid.h"

namespace millrace {

// Asks every few seconds, without waiting for the answer (but half a second for a broker that is
// gone), which topics stand behind the names we read: librdkafka goes on at the same offset in a
// topic that was deleted and made again, and would pass over its first records in silence (PROTOCOL
// 7.2). Not thread-safe.
class TopicWatch {
  public:
    TopicWatch(rd_kafka_t* client, std::vector<std::string> topics);

    // The ids that came since the last call; mostly none. Asks again when it is time.
    std::map<std::string, Uuid> look();

  private:
    using Clock = std::chrono::steady_clock;

    void ask();

    rd_kafka_t* client_;
    const std::vector<std::string> topics_;
    kafka::Queue queue_;
    Clock::time_point next_ask_{};
    bool is_asked_ = false;
};

}  // namespace millrace
