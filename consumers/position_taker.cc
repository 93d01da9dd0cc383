#include "consumers/position_taker.h"

#include <vector>

#include "core/crash_point.h"
#include "core/log.h"

namespace millrace {

namespace {

constexpr int kBeyondEndCountMax = 5;
constexpr int kRefusedCountMax = 3;

}  // namespace

Failure position_missing(const TopicPartition& where) {
    return halt("position_missing",
                where.text() + ": its row in millrace.positions was removed, so nobody knows how "
                               "far the read model is");
}

PositionTaker::PositionTaker(const ProjectionOptions& options, rd_kafka_t* client,
                             ProjectionMetrics& metrics, WorkerWatch& watch)
    : options_(options), facts_(client), metrics_(metrics), watch_(watch) {}

// `start` holds for the partitions there are when the projection is first seen; one that appears
// later begins at its first offset (PROTOCOL 7.2).
void PositionTaker::seed(Positions& positions) {
    if (positions.is_seen()) return;
    std::vector<NewTopic> created;
    for (const std::string& topic : options_.topics) {
        const std::optional<LogTopic> found = facts_.find_topic(topic);
        NewTopic& made = created.emplace_back(NewTopic{.topic = topic});
        if (!found) continue;
        made.partition_count = found->partition_count;
        made.positions = start_all(topic, *found, 0, options_.start);
    }
    if (!positions.seed(created)) return;  // Another loop was first, and its offsets hold.
    log(LogLevel::kInfo, "consumers", "projection begins",
        {{"projection", options_.projection.name}, {"topics", created.size()}});
}

bool PositionTaker::take(OwnedPartition& partition, Positions& positions) {
    const TopicPartition& where = partition.where;
    partition.position = take_position(where, positions);
    MILLRACE_CRASH_POINT("consumer.after_assign");
    const Uuid topic_id = topic_of(where.topic).id;
    if (!partition.position.topic_id) {
        positions.set_topic_id(where, topic_id);
        partition.position.topic_id = topic_id;
    }
    check_topic(partition, topic_id);
    if (!check_range(partition)) return false;
    partition.is_judged = is_judged(where.topic);
    load_parked(partition, positions);
    log(LogLevel::kInfo, "consumers", "position taken",
        {{"projection", options_.projection.name},
         {"partition", where.text()},
         {"offset", partition.position.next_offset},
         {"epoch", partition.position.epoch}});
    return true;
}

void PositionTaker::load_parked(OwnedPartition& partition, Positions& positions) const {
    partition.parked_keys =
        read_parked_keys(positions.session(), options_.projection, partition.where);
}

void PositionTaker::end_owner(const TopicPartition& where, Positions& positions) {
    if (!positions.terminate_owner(where)) return;
    metrics_.backends_terminated.Increment();
    log(LogLevel::kWarn, "consumers", "session of the earlier owner ended",
        {{"projection", options_.projection.name}, {"partition", where.text()}});
}

void PositionTaker::check_topic(const OwnedPartition& partition, const Uuid& topic_id) {
    const std::optional<Uuid>& known = partition.position.topic_id;
    if (!known || *known == topic_id) return;
    throw halt("topic_recreated", "topic " + partition.where.topic +
                                      " was deleted and made again: its id is " + topic_id.text() +
                                      ", the position is of " + known->text());
}

Position PositionTaker::take_position(const TopicPartition& where, Positions& positions) {
    if (auto position = positions.take(where)) return *position;
    // A topic that is not known to a projection that is: it came later, too.
    const int32_t count = positions.partition_count(where.topic).value_or(0);
    if (where.partition < count || !positions.is_seen()) throw position_missing(where);
    const LogTopic& found = topic_of(where.topic);
    positions.grow({.topic = where.topic,
                    .partition_count = found.partition_count,
                    .positions = start_all(where.topic, found, count, StartAt{})},
                   count);
    if (auto position = positions.take(where)) return *position;
    // The broker that was asked does not know the partition yet, or another loop was first.
    throw transient("kafka_topic_missing", where.text() + " does not exist yet");
}

std::vector<NewPosition> PositionTaker::start_all(const std::string& topic, const LogTopic& found,
                                                  int32_t first, const StartAt& start) const {
    std::vector<NewPosition> created;
    for (int32_t partition = first; partition < found.partition_count; ++partition) {
        const TopicPartition where{.topic = topic, .partition = partition};
        watch_.loop.note_progress();
        created.push_back({.where = where,
                           .next_offset = facts_.resolve(where, start),
                           .topic_id = found.id});
    }
    return created;
}

bool PositionTaker::check_range(OwnedPartition& partition) const {
    const int64_t offset = partition.position.next_offset;
    const LogRange range = facts_.range(partition.where);
    const std::string detail = partition.where.text() + ": the position is " +
                               std::to_string(offset) + ", the log holds " +
                               std::to_string(range.start) + " to " + std::to_string(range.end);
    if (offset < range.start) throw halt("position_out_of_range", detail);
    if (offset > range.end) {
        if (++partition.beyond_end_count < kBeyondEndCountMax) return false;
        throw halt("position_out_of_range", detail);
    }
    partition.beyond_end_count = 0;
    // A leader that has lost its cluster may say so for a moment. Without an epoch nobody would ask
    // again, so then one answer must do.
    const bool is_last_word = !partition.truncation.empty() && !partition.position.leader_epoch;
    if (partition.refused_count < kRefusedCountMax && !is_last_word) return true;
    const std::string why =
        partition.truncation.empty() ? "the broker refuses it" : partition.truncation;
    // Asked anew after a resume: the read model may have been begun anew by then.
    partition.forget_refusals();
    throw halt("log_truncated", detail + "; " + why);
}

bool PositionTaker::is_judged(const std::string& topic) {
    auto known = compacted_.find(topic);
    if (known == compacted_.end()) {
        known = compacted_.emplace(topic, facts_.is_compacted(topic)).first;
    }
    return !known->second;
}

const LogTopic& PositionTaker::topic_of(const std::string& topic) {
    const auto known = topics_.find(topic);
    if (known != topics_.end()) return known->second;
    const std::optional<LogTopic> found = facts_.find_topic(topic);
    if (!found) throw transient("kafka_topic_missing", "topic '" + topic + "' does not exist");
    return topics_.emplace(topic, *found).first->second;
}

}  // namespace millrace
