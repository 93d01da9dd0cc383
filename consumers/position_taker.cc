#include "consumers/position_taker.h"

#include <vector>

#include "core/crash_point.h"
#include "core/log.h"

namespace millrace {

namespace {

constexpr int kBeyondEndCountMax = 5;
constexpr int kRefusedCountMax = 3;

}  // namespace

PositionTaker::PositionTaker(const ProjectionOptions& options, rd_kafka_t* client,
                             ProjectionMetrics& metrics)
    : options_(options), facts_(client), metrics_(metrics) {}

// `start` holds for the partitions there are when the projection is first seen; one that appears
// later begins at its first offset (PROTOCOL 7.2).
void PositionTaker::seed(Positions& positions) {
    if (positions.is_seen()) return;
    std::vector<NewPosition> created;
    for (const std::string& topic : options_.topics) {
        const std::optional<LogTopic> found = facts_.find_topic(topic);
        if (!found) continue;
        for (int32_t partition = 0; partition < found->partition_count; ++partition) {
            const TopicPartition where{.topic = topic, .partition = partition};
            created.push_back({.where = where,
                               .next_offset = facts_.resolve(where, options_.start),
                               .topic_id = found->id});
        }
    }
    positions.create(created);
    log(LogLevel::kInfo, "consumers", "projection begins",
        {{"projection", options_.projection.name}, {"partitions", created.size()}});
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
    log(LogLevel::kInfo, "consumers", "position taken",
        {{"projection", options_.projection.name},
         {"partition", where.text()},
         {"offset", partition.position.next_offset},
         {"epoch", partition.position.epoch}});
    return true;
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
    positions.create({{.where = where,
                       .next_offset = facts_.range(where).start,
                       .topic_id = topic_of(where.topic).id}});
    if (auto position = positions.take(where)) return *position;
    throw transient("position_missing", where.text() + " was removed again");
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
    if (partition.refused_count >= kRefusedCountMax) {
        throw halt("log_truncated", detail + ", and the broker refuses it");
    }
    return true;
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
