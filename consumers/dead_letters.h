#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "consumers/positions.h"
#include "consumers/set_aside.h"
#include "consumers/topic_partition.h"
#include "core/pg/session.h"
#include "schema/event_parser.h"

namespace millrace {

struct DeadLetterOptions {
    OnPoison on_poison = OnPoison::kParkKey;
    int64_t letter_count_max = 10'000;  // Open ones of the projection.
    int64_t parked_count_max = 100'000;
    bool copies_to_kafka = true;
};

// Keys of the partition whose later events wait behind a dead letter. Read after the position was
// taken: whoever removes one moves the position's epoch on (PROTOCOL 7.5).
KeySet read_parked_keys(pg::Session& session, const ProjectionName& projection,
                        const TopicPartition& where);

// What a batch sets aside of one partition; `parked` are indexes, in order.
struct RecordsSetAside {
    const TopicPartition& where;
    const FillEvent& fill;
    const std::vector<DeadLetter>& letters;
    const std::vector<size_t>& parked;
};

// Writes what a batch sets aside, in the batch's own transaction: dead letters, parked events and
// the Kafka copies of the letters (PROTOCOL 7.7). One loop's; not thread-safe.
class DeadLetters {
  public:
    DeadLetters(ProjectionName projection, DeadLetterOptions options)
        : projection_(std::move(projection)), options_(options) {}

    // Queues the statements; nothing for what is empty. A record that has its letter already, since
    // an operator moved the position back, keeps it.
    void queue(pg::Pipeline& pipeline, const RecordsSetAside& records);
    // Queues the copies, if any are to be made. May fail where the letters do not: the role may not
    // publish, the topic's name is too long.
    void queue_copies(pg::Pipeline& pipeline, const RecordsSetAside& records);

  private:
    void queue_letters(pg::Pipeline& pipeline, const RecordsSetAside& records);
    void queue_parked(pg::Pipeline& pipeline, const RecordsSetAside& records);
    // The parameters that both statements begin with.
    pg::Params place_and_caps(const TopicPartition& where) const;
    bool is_copied(const TopicPartition& where) const;

    const ProjectionName projection_;
    const DeadLetterOptions options_;
    EventParser parser_;
    Event event_;
};

}  // namespace millrace
