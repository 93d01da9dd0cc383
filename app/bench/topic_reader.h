#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "app/scratch/part.h"
#include "core/kafka/client.h"
#include "core/kafka/reaper.h"

namespace millrace {

// A read_committed reader of all partitions of a topic from their beginning, on a thread of its
// own, as an application would be one.
class TopicReader {
  public:
    using Clock = std::chrono::steady_clock;
    // Called on the reader's thread for each record, with the moment at which it was handed over.
    using OnRecord = std::function<void(const rd_kafka_message_t& record, Clock::time_point at)>;

    TopicReader(const kafka::ClientOptions& options, const std::string& topic, int partition_count,
                kafka::Reaper& reaper, OnRecord on_record);

    // Both throw the Failure that ended it, if one did.
    void check() { part_->check(); }
    void stop() { part_->stop(); }

  private:
    void run(const std::stop_token& stop);

    const OnRecord on_record_;
    kafka::Client client_;
    std::optional<Part> part_;  // Last: it uses what stands above, once that is whole.
};

// A header's value; empty if the record has none of the name.
std::string_view header_of(const rd_kafka_message_t& record, const char* name);

}  // namespace millrace
