#include "consumers/positions.h"

namespace millrace {

namespace {

constexpr std::string_view kIsSeen =
    "SELECT EXISTS (SELECT FROM millrace.position_topics WHERE projection = $1 AND version = $2)";

// Whoever makes positions of a projection does it alone.
constexpr std::string_view kLockMaking =
    "SELECT pg_advisory_xact_lock(hashtextextended('millrace.positions ' || $1 || ' ' || $2, 0))";

constexpr std::string_view kPartitionCount = R"(
    SELECT partition_count
    FROM millrace.position_topics
    WHERE projection = $1 AND version = $2 AND topic = $3)";

constexpr std::string_view kSetPartitionCount = R"(
    INSERT INTO millrace.position_topics (projection, version, topic, partition_count)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (projection, version, topic) DO UPDATE
    SET partition_count = greatest(position_topics.partition_count, excluded.partition_count))";

constexpr std::string_view kCreate = R"(
    INSERT INTO millrace.positions
        (projection, version, topic, partition, next_offset, topic_id)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING)";

constexpr std::string_view kLockTimeout = "SET LOCAL lock_timeout = '2s'";

constexpr std::string_view kTake = R"(
    UPDATE millrace.positions
    SET epoch = epoch + 1, owner = $5, owner_pid = $6,
        owner_started = '2000-01-01 00:00:00+00'::timestamptz
                        + $7::bigint * interval '1 microsecond'
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4
    RETURNING next_offset, epoch, leader_epoch, topic_id)";

constexpr std::string_view kRetake = R"(
    UPDATE millrace.positions
    SET epoch = epoch + 1, owner_pid = $6,
        owner_started = '2000-01-01 00:00:00+00'::timestamptz
                        + $7::bigint * interval '1 microsecond'
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4 AND owner = $5
    RETURNING next_offset, epoch, leader_epoch, topic_id)";

constexpr std::string_view kTerminateOwner = R"(
    SELECT pg_terminate_backend(a.pid)
    FROM millrace.positions p
    JOIN pg_stat_activity a ON a.pid = p.owner_pid AND a.backend_start = p.owner_started
    WHERE p.projection = $1 AND p.version = $2 AND p.topic = $3 AND p.partition = $4
      AND a.pid <> pg_backend_pid())";

constexpr std::string_view kRead = R"(
    SELECT next_offset, epoch, leader_epoch, topic_id, owner IS NOT DISTINCT FROM $5
    FROM millrace.positions
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4)";

constexpr std::string_view kSetTopicId = R"(
    UPDATE millrace.positions
    SET topic_id = $5
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4 AND owner = $6)";

constexpr std::string_view kLock = R"(
    SELECT
    FROM millrace.positions
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4
    FOR UPDATE)";

constexpr std::string_view kMoveEpoch = R"(
    UPDATE millrace.positions
    SET epoch = epoch + 1
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4)";

constexpr const char* kMoveName = "millrace_move_position";
constexpr std::string_view kMove =
    "SELECT millrace.move_position($1, $2, $3, $4, $5, $6, $7, $8)";

Position position_of(const pg::Result& row) {
    Position position{.next_offset = row.integer(0, 0),
                      .epoch = row.integer(0, 1),
                      .leader_epoch = std::nullopt,
                      .topic_id = std::nullopt};
    if (!row.is_null(0, 2)) position.leader_epoch = static_cast<int32_t>(row.integer(0, 2));
    if (!row.is_null(0, 3)) position.topic_id = row.uuid(0, 3);
    return position;
}

}  // namespace

pg::Params place_of(const ProjectionName& projection, const TopicPartition& where) {
    pg::Params params;
    params.text(projection.name).int4(projection.version).text(where.topic).int4(where.partition);
    return params;
}

bool lock_position(pg::Session& session, const ProjectionName& projection,
                   const TopicPartition& where) {
    return session.execute(kLock, place_of(projection, where)).row_count() == 1;
}

void move_epoch(pg::Session& session, const ProjectionName& projection,
                const TopicPartition& where) {
    session.execute(kMoveEpoch, place_of(projection, where));
}

Positions::Positions(pg::Session& session, ProjectionName projection, Uuid owner)
    : session_(session), projection_(std::move(projection)), owner_(owner) {
    session_.prepare(kMoveName, kMove);
}

bool Positions::is_seen() {
    const pg::Result row = session_.execute(
        kIsSeen, pg::Params().text(projection_.name).int4(projection_.version));
    return row.boolean(0, 0);
}

bool Positions::seed(const std::vector<NewTopic>& topics) {
    pg::Transaction transaction(session_);
    lock_making(transaction);
    if (is_seen()) return false;
    for (const NewTopic& topic : topics) create(transaction, topic);
    transaction.commit();
    return true;
}

std::optional<int32_t> Positions::partition_count(const std::string& topic) {
    const pg::Result row = session_.execute(
        kPartitionCount,
        pg::Params().text(projection_.name).int4(projection_.version).text(topic));
    if (row.row_count() == 0) return std::nullopt;
    return static_cast<int32_t>(row.integer(0, 0));
}

void Positions::grow(const NewTopic& topic, int32_t known_count) {
    pg::Transaction transaction(session_);
    lock_making(transaction);
    if (partition_count(topic.topic).value_or(0) != known_count) return;
    create(transaction, topic);
    transaction.commit();
}

void Positions::lock_making(pg::Transaction& transaction) {
    transaction.execute("SET LOCAL lock_timeout = '2s'");
    transaction.execute(kLockMaking, pg::Params()
                                         .text(projection_.name)
                                         .text(std::to_string(projection_.version)));
}

void Positions::create(pg::Transaction& transaction, const NewTopic& topic) {
    for (const NewPosition& position : topic.positions) {
        pg::Params params = place_of(projection_, position.where);
        transaction.execute(kCreate, params.int8(position.next_offset).uuid(position.topic_id));
    }
    transaction.execute(kSetPartitionCount, pg::Params()
                                                .text(projection_.name)
                                                .int4(projection_.version)
                                                .text(topic.topic)
                                                .int4(topic.partition_count));
}

std::optional<Position> Positions::take(const TopicPartition& where) {
    return take_by(kTake, where);
}

std::optional<Position> Positions::retake(const TopicPartition& where) {
    return take_by(kRetake, where);
}

bool Positions::terminate_owner(const TopicPartition& where) {
    const pg::Result row = session_.execute(kTerminateOwner, place_of(projection_, where));
    return row.row_count() == 1 && row.boolean(0, 0);
}

void Positions::queue_move(pg::Pipeline& pipeline, const TopicPartition& where, const Move& move) {
    pg::Params params = place_of(projection_, where);
    params.int8(move.from).int8(move.epoch).int8(move.to);
    if (move.leader_epoch) {
        params.int4(*move.leader_epoch);
    } else {
        params.null(pg::Type::kInt4);
    }
    pipeline.queue_prepared(kMoveName, params);
}

std::optional<PositionRow> Positions::read(const TopicPartition& where) {
    const pg::Result row = session_.execute(kRead, place_of(projection_, where).uuid(owner_));
    if (row.row_count() == 0) return std::nullopt;
    return PositionRow{.position = position_of(row), .is_mine = row.boolean(0, 4)};
}

void Positions::set_topic_id(const TopicPartition& where, const Uuid& topic_id) {
    session_.execute(kSetTopicId, place_of(projection_, where).uuid(topic_id).uuid(owner_));
}

std::optional<Position> Positions::take_by(std::string_view statement,
                                           const TopicPartition& where) {
    pg::Transaction transaction(session_);
    transaction.execute(kLockTimeout);
    pg::Params params = place_of(projection_, where);
    const pg::Result row = transaction.execute(
        statement,
        params.uuid(owner_).int4(session_.backend_pid()).int8(session_.backend_started()));
    if (row.row_count() == 0) return std::nullopt;
    transaction.commit();
    return position_of(row);
}

}  // namespace millrace
