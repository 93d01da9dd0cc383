#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "consumers/handler.h"
#include "consumers/owned_partition.h"
#include "consumers/projection_metrics.h"
#include "consumers/projection_options.h"
#include "schema/event_parser.h"

namespace millrace {

// What one transaction is to do: records of one partition, from its front (PROTOCOL 7.1). The
// events themselves are in the handler.
struct Batch {
    TopicPartition where;
    uint64_t generation = 0;
    Move move;
    size_t record_count = 0;
    size_t event_count = 0;  // Records that the handler wanted.
    std::map<std::string, size_t> skipped;  // The others, by why.
    std::chrono::milliseconds oldest{0};    // Kafka's time of the first event.
    // Sent, and its end unknown: whether it was committed, the position tells.
    bool is_in_doubt = false;
    bool is_committed = false;

    // As log lines and halts name it: `shop.orders-3@17-42`, both included.
    std::string text() const;
};

// Cuts batches from the front of a partition's records and gives their events to the handler. One
// loop's; not thread-safe.
class BatchCollector {
  public:
    BatchCollector(Handler& handler, ProjectionMetrics& metrics, OnGap on_gap)
        : handler_(handler), metrics_(metrics), on_gap_(on_gap) {}

    // At most as many events as the partition may have in one; all records there are when the
    // handler wants none of them. A record that can't be handled ends the batch before it; as the
    // first one it throws: kPoison, or kHalt `sequence_gap`.
    Batch collect(OwnedPartition& partition, const BatchLimits& limits);
    // The batch of a partition whose log ends in markers: it only moves the position.
    Batch catch_up(const OwnedPartition& partition) const;

  private:
    enum class Taken { kTaken, kNotHere };
    Taken take(OwnedPartition& partition, const rd_kafka_message_t& message, Batch& batch);
    bool collect(const TopicPartition& where, bool is_first);
    void judge_sequence(OwnedPartition& partition, bool is_first);

    Handler& handler_;
    ProjectionMetrics& metrics_;
    const OnGap on_gap_;
    EventParser parser_;
    Event event_;
};

}  // namespace millrace
