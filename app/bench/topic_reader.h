#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/failure.h"
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
    ~TopicReader() { stop(); }
    TopicReader(const TopicReader&) = delete;
    TopicReader& operator=(const TopicReader&) = delete;

    // Throws the Failure that ended it, if one did.
    void check();
    void stop();

  private:
    void run(const std::stop_token& stop);

    const OnRecord on_record_;
    kafka::Client client_;
    std::mutex mutex_;
    std::optional<Failure> failure_;
    std::jthread thread_;  // Last: it uses what stands above.
};

// A header's value; empty if the record has none of the name.
std::string_view header_of(const rd_kafka_message_t& record, const char* name);

}  // namespace millrace
