#pragma once

#include <librdkafka/rdkafka.h>

#include <string>

#include "core/kafka/producer.h"
#include "relay/outbox.h"
#include "schema/installation.h"

namespace millrace {

enum class MessageFormat { kPayload, kEnvelope };

// Turns tasks into records. Not thread-safe: the value of an envelope lives until the next call.
class MessageWriter {
  public:
    // `sequence_prefix` is what the function of that name makes.
    MessageWriter(MessageFormat format, std::string sequence_prefix)
        : format_(format), sequence_prefix_(std::move(sequence_prefix)) {}

    // The record of `task` as the n-th of its (publisher, topic, partition). Throws kPoison
    // `task_refused` if its headers can't be read.
    kafka::Record record(const Task& task, int32_t partition, int64_t n);

  private:
    rd_kafka_headers_t* headers(const Task& task, int64_t n, bool& is_copy);
    void write_envelope(const Task& task);

    MessageFormat format_;
    std::string sequence_prefix_;
    std::string envelope_;
};

// Before the number in `millrace-seq`: `<8 hex of the installation>.<publisher>.<generation>.`
std::string sequence_prefix(const Installation& installation, const PublisherState& publisher);

// The trace id of the task's header `traceparent`, else its event id.
std::string correlation_id(const Task& task);

// By its key, or by its event id's text when it has none (PROTOCOL 1).
int32_t partition_of(const Task& task, int32_t partition_count);

}  // namespace millrace
