#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "consumers/topic_partition.h"
#include "core/pg/session.h"
#include "core/uuid.h"

namespace millrace {

struct ProjectionName {
    std::string name;
    int32_t version = 1;

    auto operator<=>(const ProjectionName&) const = default;
};

// The four columns that name what a projection has of a partition, in every table.
pg::Params place_of(const ProjectionName& projection, const TopicPartition& where);
// For those who change what a partition's owner relies on, in their transaction: it waits for them,
// and they for its batch (PROTOCOL 7.5). False: there is no such position.
bool lock_position(pg::Session& session, const ProjectionName& projection,
                   const TopicPartition& where);
// The owner's next compare-and-set fails, and it reads anew.
void move_epoch(pg::Session& session, const ProjectionName& projection,
                const TopicPartition& where);

// Where a projection stands on one partition, as its owner holds it.
struct Position {
    int64_t next_offset = 0;
    int64_t epoch = 0;
    // A leader whose log reached `next_offset`: that of the record before it.
    std::optional<int32_t> leader_epoch;
    std::optional<Uuid> topic_id;
};

struct PositionRow {
    Position position;
    bool is_mine = false;
};

struct NewPosition {
    TopicPartition where;
    int64_t next_offset = 0;
    Uuid topic_id;
};

// A topic with the partitions that are to have a position from now on.
struct NewTopic {
    std::string topic;
    int32_t partition_count = 0;
    std::vector<NewPosition> positions{};
};

// From one offset to another: what a batch does to its position.
struct Move {
    int64_t from = 0;
    int64_t to = 0;
    int64_t epoch = 0;
    std::optional<int32_t> leader_epoch;
};

// The SQL on millrace.positions and millrace.position_topics of one projection and one loop:
// `owner` is the loop's, not the process's, or a fenced thread would adopt its sibling's epoch. On
// the session of that loop.
class Positions {
  public:
    Positions(pg::Session& session, ProjectionName projection, Uuid owner);

    // True if this version of the projection was seen before, by anybody.
    bool is_seen();
    // Makes the positions that it begins with, all or none. False: another was first.
    bool seed(const std::vector<NewTopic>& topics);
    // So many partitions of the topic were given a position; one of them that has none now has lost
    // it. Nothing: none of the topic was.
    std::optional<int32_t> partition_count(const std::string& topic);
    // Makes the positions of partitions that came later. Nothing happens when there are not
    // `known_count` any more: another was first.
    void grow(const NewTopic& topic, int32_t known_count);
    // Makes this loop the owner: epoch + 1 (PROTOCOL 7.2). Nothing if there is no row. Throws
    // kTransient with SQLSTATE 55P03 when the row stays locked for two seconds.
    std::optional<Position> take(const TopicPartition& where);
    // The same if this loop owns it, on a session that another one replaces. Nothing: it does not.
    std::optional<Position> retake(const TopicPartition& where);
    // Ends exactly the session that the row names, which holds its lock and may never let go of it
    // (PROTOCOL 7.2a). False if it is gone already, or is this one.
    bool terminate_owner(const TopicPartition& where);
    // Queues the compare-and-set that comes first in a batch's transaction: raises MR001 unless the
    // position is still where its owner believes it is (PROTOCOL 7.1).
    void queue_move(pg::Pipeline& pipeline, const TopicPartition& where, const Move& move);
    // After a lost compare-and-set or a COMMIT in doubt (PROTOCOL 7.3). Nothing: the row is gone.
    std::optional<PositionRow> read(const TopicPartition& where);
    void set_topic_id(const TopicPartition& where, const Uuid& topic_id);

    pg::Session& session() { return session_; }

  private:
    void lock_making(pg::Transaction& transaction);
    void create(pg::Transaction& transaction, const NewTopic& topic);
    std::optional<Position> take_by(std::string_view statement, const TopicPartition& where);

    pg::Session& session_;
    ProjectionName projection_;
    Uuid owner_;
};

}  // namespace millrace
