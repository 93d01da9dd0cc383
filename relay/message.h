#pragma once

#include <librdkafka/rdkafka.h>

#include <string>

#include "core/kafka/producer.h"
#include "relay/outbox.h"

namespace millrace {

enum class MessageFormat { kPayload, kEnvelope };

// Turns tasks into records. Not thread-safe: the value of an envelope lives until the next call.
class MessageWriter {
  public:
    // `sequence_prefix` is `<8 hex of the installation>.<publisher>.<generation>.`
    MessageWriter(MessageFormat format, std::string sequence_prefix)
        : format_(format), sequence_prefix_(std::move(sequence_prefix)) {}

    // The record of `task` as the n-th of its (publisher, topic, partition).
    kafka::Record record(const Task& task, int32_t partition, int64_t n);

  private:
    rd_kafka_headers_t* headers(const Task& task, int64_t n);
    void write_envelope(const Task& task);

    MessageFormat format_;
    std::string sequence_prefix_;
    std::string envelope_;
};

// What decides a task's partition: its key, or its event id's text when it has none.
std::string partition_key(const Task& task);

}  // namespace millrace
