#include "relay/dead_tasks.h"

#include <algorithm>

namespace millrace {

namespace {

// From each queue to the next by the index: a queue of a million rows costs as much as one of two.
constexpr std::string_view kParked = R"(
    WITH RECURSIVE queues AS (
        SELECT first.*
        FROM unnest($1::smallint[]) AS mine(lane)
        CROSS JOIN LATERAL (
            SELECT d.lane, d.queued_behind, d.topic, d.key
            FROM millrace.dead_tasks d
            WHERE d.lane = mine.lane AND d.queued_behind IS NOT NULL
            ORDER BY d.queued_behind, d.id
            LIMIT 1) first
        UNION ALL
        SELECT next.*
        FROM queues q
        CROSS JOIN LATERAL (
            SELECT d.lane, d.queued_behind, d.topic, d.key
            FROM millrace.dead_tasks d
            WHERE d.lane = q.lane AND d.queued_behind > q.queued_behind
            ORDER BY d.queued_behind, d.id
            LIMIT 1) next)
    SELECT lane, queued_behind, topic, key FROM queues)";

constexpr std::string_view kHasReleased = R"(
    SELECT EXISTS (
        SELECT FROM millrace.dead_tasks
        WHERE lane = ANY ($1::smallint[]) AND released_at IS NOT NULL
          AND topic <> ALL ($2::text[])))";

constexpr std::string_view kCounts = R"(
    SELECT reason, count(*)
    FROM (SELECT reason FROM millrace.dead_tasks LIMIT 100000) looked_at
    GROUP BY reason)";

constexpr std::string_view kAdd = R"(
    INSERT INTO millrace.dead_tasks
        (lane, id, event_id, topic, key, task_type, tenant_id, actor_id, payload, payload_bytes,
         headers, created_at, reason, detail, queued_behind)
    SELECT lane, id, event_id, topic, key, task_type, tenant_id, actor_id, payload, payload_bytes,
           headers, created_at, reason, detail, queued_behind
    FROM unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::text[], $9::json[], $10::bytea[], $11::json[], $12::timestamptz[],
                $13::text[], $14::text[], $15::bigint[])
         AS t(lane, id, event_id, topic, key, task_type, tenant_id, actor_id, payload,
              payload_bytes, headers, created_at, reason, detail, queued_behind))";

// Returns the queues that have a first row.
constexpr std::string_view kPassMarks = R"(
    WITH first AS (
        SELECT head.lane, head.id, head.event_id
        FROM unnest($1::smallint[], $2::bigint[]) AS wanted(lane, queue)
        CROSS JOIN LATERAL (
            SELECT d.lane, d.id, d.event_id
            FROM millrace.dead_tasks d
            WHERE d.lane = wanted.lane AND d.queued_behind = wanted.queue
            ORDER BY d.id
            LIMIT 1) head)
    UPDATE millrace.dead_tasks d
    SET released_at = coalesce(d.released_at, clock_timestamp())
    FROM first
    WHERE d.lane = first.lane AND d.id = first.id AND d.event_id = first.event_id
    RETURNING d.lane, d.queued_behind)";

constexpr std::string_view kOne = "lane = $4 AND id = $5 AND event_id = $6";
constexpr std::string_view kReleasedOfTopic =
    "lane = ANY ($4::smallint[]) AND released_at IS NOT NULL AND topic = $5 LIMIT 10000";

// $1 reason, $2 detail, $3 whether their keys stay parked; then what `which` needs.
std::string take_back_sql(std::string_view which) {
    return R"(
    WITH was AS (
        SELECT lane, id, event_id, queued_behind
        FROM millrace.dead_tasks
        WHERE )" +
           std::string(which) + R"()
    UPDATE millrace.dead_tasks d
    SET reason = $1, detail = $2, released_at = NULL, since = clock_timestamp(),
        queued_behind = CASE WHEN $3 THEN d.queued_behind END
    FROM was
    WHERE d.lane = was.lane AND d.id = was.id AND d.event_id = was.event_id
    RETURNING was.lane, was.queued_behind)";
}

constexpr std::string_view kCandidates = R"(
    SELECT d.lane, d.id, d.event_id, d.queued_behind, d.released_at IS NOT NULL
    FROM unnest($1::smallint[], $2::bigint[]) AS wanted(lane, id)
    JOIN millrace.dead_tasks d ON d.lane = wanted.lane AND d.id = wanted.id
    ORDER BY d.lane, d.id, d.event_id
    FOR UPDATE OF d)";

constexpr std::string_view kWaiting =
    "SELECT lane, id, event_id, topic, created_at FROM millrace.dead_tasks";

constexpr std::string_view kRemove = R"(
    DELETE FROM millrace.dead_tasks d
    USING unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS gone(lane, id, event_id)
    WHERE d.lane = gone.lane AND d.id = gone.id AND d.event_id = gone.event_id)";

void add_text(pg::ArrayBuilder& array, const std::optional<std::string_view>& text) {
    if (text) {
        array.add_bytes(*text);
    } else {
        array.add_null();
    }
}

pg::Params lanes_params(const std::vector<int16_t>& lanes) {
    pg::ArrayBuilder array(pg::Type::kInt2);
    for (const int16_t lane : lanes) array.add_int2(lane);
    pg::Params params;
    params.array(array);
    return params;
}

bool is_named_by(const std::vector<LedgerTask>& tasks, const pg::Result& candidates, int row,
                 LedgerTask& found) {
    found = {static_cast<int16_t>(candidates.integer(row, 0)), candidates.integer(row, 1),
             digest_of(candidates.uuid(row, 2))};
    return std::binary_search(tasks.begin(), tasks.end(), found);
}

}  // namespace

ParkedKeys DeadTasks::parked(const std::vector<int16_t>& lanes) {
    ParkedKeys parked;
    const pg::Result rows = session_.execute(kParked, lanes_params(lanes));
    for (int i = 0; i < rows.row_count(); ++i) {
        parked.add(rows.bytes(i, 2), rows.bytes(i, 3),
                   {static_cast<int16_t>(rows.integer(i, 0)), rows.integer(i, 1)});
    }
    return parked;
}

bool DeadTasks::has_released(const std::vector<int16_t>& lanes,
                             const std::vector<std::string>& topics_left_out) {
    pg::Params params = lanes_params(lanes);
    pg::ArrayBuilder topics(pg::Type::kText);
    for (const std::string& topic : topics_left_out) topics.add_bytes(topic);
    params.array(topics);
    return session_.execute_repeated(kHasReleased, params).boolean(0, 0);
}

std::map<std::string, int> DeadTasks::counts() {
    const pg::Result rows = session_.execute_repeated(kCounts);
    std::map<std::string, int> counts;
    for (int i = 0; i < rows.row_count(); ++i) {
        counts[rows.text(i, 0)] = static_cast<int>(rows.integer(i, 1));
    }
    return counts;
}

void DeadTasks::add(const std::vector<DeadEntry>& entries) {
    using pg::Type;
    pg::ArrayBuilder lanes(Type::kInt2), ids(Type::kInt8), events(Type::kUuid);
    pg::ArrayBuilder topics(Type::kText), keys(Type::kText), types(Type::kText);
    pg::ArrayBuilder tenants(Type::kText), actors(Type::kText), payloads(Type::kJson);
    pg::ArrayBuilder payload_bytes(Type::kBytea), headers(Type::kJson);
    pg::ArrayBuilder created(Type::kTimestamptz), reasons(Type::kText), details(Type::kText);
    pg::ArrayBuilder queues(Type::kInt8);
    for (const DeadEntry& entry : entries) {
        const Task& task = entry.task;
        lanes.add_int2(task.lane);
        ids.add_int8(task.id);
        events.add_uuid(task.event_id);
        topics.add_bytes(task.topic);
        add_text(keys, task.key);
        types.add_bytes(task.task_type);
        add_text(tenants, task.tenant_id);
        add_text(actors, task.actor_id);
        add_text(payloads, task.payload_is_bytes ? std::nullopt : task.payload);
        add_text(payload_bytes, task.payload_is_bytes ? task.payload : std::nullopt);
        add_text(headers, task.headers);
        created.add_int8(task.created_at_us - pg::kEpochUs);
        reasons.add_bytes(entry.reason);
        details.add_bytes(entry.detail);
        if (entry.queue) {
            queues.add_int8(*entry.queue);
        } else {
            queues.add_null();
        }
    }
    pg::Params params;
    for (pg::ArrayBuilder* array :
         {&lanes, &ids, &events, &topics, &keys, &types, &tenants, &actors, &payloads,
          &payload_bytes, &headers, &created, &reasons, &details, &queues}) {
        params.array(*array);
    }
    session_.execute_repeated(kAdd, params);
}

std::set<QueueName> DeadTasks::pass_marks(const std::set<QueueName>& queues) {
    if (queues.empty()) return {};
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    for (const QueueName& queue : queues) {
        lanes.add_int2(queue.lane);
        ids.add_int8(queue.id);
    }
    const pg::Result rows =
        session_.execute_repeated(kPassMarks, pg::Params().array(lanes).array(ids));
    std::set<QueueName> emptied = queues;
    for (int i = 0; i < rows.row_count(); ++i) {
        emptied.erase({static_cast<int16_t>(rows.integer(i, 0)), rows.integer(i, 1)});
    }
    return emptied;
}

bool DeadTasks::take_back(const TaskId& task, const std::string& reason,
                          const std::string& detail, bool parks_key) {
    pg::Params params;
    params.text(reason).text(detail).boolean(parks_key);
    params.int2(task.lane).int8(task.id).uuid(task.event_id);
    return taken_back(session_.execute(take_back_sql(kOne), params), parks_key) > 0;
}

int64_t DeadTasks::take_back_topic(const std::vector<int16_t>& lanes, const std::string& topic,
                                   const std::string& reason, const std::string& detail,
                                   bool parks_key) {
    pg::ArrayBuilder array(pg::Type::kInt2);
    for (const int16_t lane : lanes) array.add_int2(lane);
    pg::Params params;
    params.text(reason).text(detail).boolean(parks_key).array(array).text(topic);
    return taken_back(session_.execute(take_back_sql(kReleasedOfTopic), params), parks_key);
}

int64_t DeadTasks::taken_back(const pg::Result& rows, bool parks_key) {
    std::set<QueueName> left;
    for (int i = 0; i < rows.row_count(); ++i) {
        if (parks_key || rows.is_null(i, 1)) continue;
        left.insert({static_cast<int16_t>(rows.integer(i, 0)), rows.integer(i, 1)});
    }
    pass_marks(left);
    return rows.row_count();
}

int64_t DeadTasks::remove(const std::vector<LedgerTask>& tasks) {
    const pg::Result candidates = lock_candidates(tasks);
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    pg::ArrayBuilder events(pg::Type::kUuid);
    std::set<QueueName> queues;
    LedgerTask found;
    for (int i = 0; i < candidates.row_count(); ++i) {
        if (!is_named_by(tasks, candidates, i, found)) continue;
        lanes.add_int2(found.lane);
        ids.add_int8(found.id);
        events.add_uuid(candidates.uuid(i, 2));
        // A queue whose first row stays was not released: what is behind it was published before.
        const bool is_released = candidates.boolean(i, 4);
        if (is_released && !candidates.is_null(i, 3)) {
            queues.insert({found.lane, candidates.integer(i, 3)});
        }
    }
    if (lanes.size() == 0) return 0;
    const int64_t removed =
        session_.execute(kRemove, pg::Params().array(lanes).array(ids).array(events))
            .affected_count();
    // They were published because their queues had been released, and these still are.
    pass_marks(queues);
    return removed;
}

std::vector<LedgerTask> DeadTasks::present(const std::vector<LedgerTask>& tasks) {
    const pg::Result candidates = lock_candidates(tasks);
    std::vector<LedgerTask> present;
    LedgerTask found;
    for (int i = 0; i < candidates.row_count(); ++i) {
        if (is_named_by(tasks, candidates, i, found)) present.push_back(found);
    }
    return present;
}

std::vector<WaitingTask> DeadTasks::waiting() { return waiting_of(session_.execute(kWaiting)); }

pg::Result DeadTasks::lock_candidates(const std::vector<LedgerTask>& tasks) {
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    for (const LedgerTask& task : tasks) {
        lanes.add_int2(task.lane);
        ids.add_int8(task.id);
    }
    return session_.execute(kCandidates, pg::Params().array(lanes).array(ids));
}

}  // namespace millrace
