#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "consumers/handler.h"
#include "consumers/owned_partition.h"
#include "consumers/projection_metrics.h"
#include "consumers/projection_options.h"
#include "consumers/set_aside.h"
#include "consumers/storm_breaker.h"
#include "schema/event_parser.h"

namespace millrace {

// What one transaction is to do: records of one partition, from its front (PROTOCOL 7.1). The
// events themselves are in the handler.
struct Batch {
    TopicPartition where;
    uint64_t generation = 0;
    Move move;
    size_t record_count = 0;
    size_t event_count = 0;  // Records that the handler took.
    std::map<std::string, size_t> skipped;  // Those that it did not want, by why.
    // Indexes of records, in order: what the handler took, and what is set aside.
    std::vector<size_t> items;
    std::vector<DeadLetter> letters;
    std::vector<size_t> parked;  // Behind letters of this batch or of earlier ones.
    KeySet parked_keys;          // That letters of this batch park.
    size_t set_aside_byte_count = 0;
    bool is_in_parts = false;    // Refused as a whole for a record's sake: its culprits are sought.
    bool has_copies = true;      // False: the letters' Kafka copies could not be inserted.
    std::chrono::milliseconds oldest{0};    // Kafka's time of the first event.
    // Sent, and its end unknown: whether it was committed, the position tells.
    bool is_in_doubt = false;
    bool is_committed = false;
    // Its position was taken again meanwhile: what it parks may not be what is parked now.
    bool is_stale = false;

    size_t set_aside_count() const { return letters.size() + parked.size(); }
    // Sets one of `items` aside.
    void set_aside(DeadLetter letter, const Event& event);
    // As log lines and halts name it: `shop.orders-3@17-42`, both included.
    std::string text() const;
};

// The records of a partition as they came, by index.
FillEvent filler_of(const OwnedPartition& partition);

// The breaker as the batch leaves it.
StormBreaker judge(StormBreaker storm, const Batch& batch);

// Cuts batches from the front of a partition's records and gives their events to the handler. One
// loop's; not thread-safe.
class BatchCollector {
  public:
    BatchCollector(Handler& handler, ProjectionMetrics& metrics, const ProjectionOptions& options)
        : handler_(handler),
          metrics_(metrics),
          on_gap_(options.on_gap),
          on_poison_(options.letters.on_poison) {}

    // At most as many events as the partition may have in one; all records there are when the
    // handler wants none of them. What can't be parsed becomes a dead letter, and what comes after
    // one of its key is parked. A record that halts the projection ends the batch before it; as the
    // first one it throws: kPoison under the policy `halt`, or kHalt `sequence_gap`.
    Batch collect(OwnedPartition& partition, const BatchLimits& limits);
    // The batch of a partition whose log ends in markers: it only moves the position.
    Batch catch_up(const OwnedPartition& partition) const;

  private:
    enum class Taken { kTaken, kNotHere };
    Taken take(OwnedPartition& partition, const rd_kafka_message_t& message, Batch& batch);
    bool is_parked(const OwnedPartition& partition, const Batch& batch) const;
    Taken give_to_handler(const OwnedPartition& partition, const rd_kafka_message_t& message,
                          Batch& batch);
    void judge_sequence(OwnedPartition& partition, bool is_first);

    Handler& handler_;
    ProjectionMetrics& metrics_;
    const OnGap on_gap_;
    const OnPoison on_poison_;
    EventParser parser_;
    Event event_;
};

}  // namespace millrace
