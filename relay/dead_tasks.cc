#include "relay/dead_tasks.h"

#include <algorithm>

namespace millrace {

namespace {

// From each queue to the next by the index: a queue of a million rows costs as much as one of two.
constexpr std::string_view kParked = R"(
    WITH RECURSIVE queues AS (
        (SELECT d.lane, d.queued_behind, d.topic, d.key
         FROM millrace.dead_tasks d
         WHERE d.lane = $1 AND d.queued_behind > $2
         ORDER BY d.queued_behind, d.id
         LIMIT 1)
        UNION ALL
        SELECT next.*
        FROM queues q
        CROSS JOIN LATERAL (
            SELECT d.lane, d.queued_behind, d.topic, d.key
            FROM millrace.dead_tasks d
            WHERE d.lane = q.lane AND d.queued_behind > q.queued_behind
            ORDER BY d.queued_behind, d.id
            LIMIT 1) next)
    SELECT queued_behind, topic, key
    FROM queues
    LIMIT 20000)";
constexpr int kParkedPage = 20'000;

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

// Returns the queues that have a first row behind the least one that was taken.
constexpr std::string_view kPassMarks = R"(
    WITH first AS (
        SELECT head.lane, head.id, head.event_id
        FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS wanted(lane, queue, least)
        CROSS JOIN LATERAL (
            SELECT d.lane, d.id, d.event_id
            FROM millrace.dead_tasks d
            WHERE d.lane = wanted.lane AND d.queued_behind = wanted.queue
            ORDER BY d.id
            LIMIT 1) head
        WHERE head.id > wanted.least)
    UPDATE millrace.dead_tasks d
    SET released_at = coalesce(d.released_at, clock_timestamp())
    FROM first
    WHERE d.lane = first.lane AND d.id = first.id AND d.event_id = first.event_id
    RETURNING d.lane, d.queued_behind)";

constexpr std::string_view kOne = R"(
    was AS (
        SELECT lane, id, event_id, queued_behind
        FROM millrace.dead_tasks
        WHERE lane = $4 AND id = $5 AND event_id = $6))";

// Where no key is parked, all of a queue is at fault with its first row, and leaves it.
constexpr std::string_view kReleasedOfTopic = R"(
    heads AS (
        SELECT lane, id, event_id, queued_behind
        FROM millrace.dead_tasks
        WHERE lane = ANY ($4::smallint[]) AND released_at IS NOT NULL AND topic = $5
        LIMIT 10000
    ), queues AS (
        SELECT DISTINCT lane, queued_behind
        FROM heads
        WHERE NOT $3 AND queued_behind IS NOT NULL
        LIMIT 100
    ), was AS (
        SELECT * FROM heads WHERE $3 OR queued_behind IS NULL
        UNION ALL
        SELECT d.lane, d.id, d.event_id, d.queued_behind
        FROM queues q
        CROSS JOIN LATERAL (
            SELECT *
            FROM millrace.dead_tasks t
            WHERE t.lane = q.lane AND t.queued_behind = q.queued_behind
            ORDER BY t.id
            LIMIT 1000) d))";

// $1 reason, $2 detail, $3 whether their keys stay parked; then what `was`, the rows, needs.
std::string take_back_sql(std::string_view was) {
    return "WITH " + std::string(was) + R"(
    UPDATE millrace.dead_tasks d
    SET reason = $1, detail = $2, released_at = NULL, since = clock_timestamp(),
        queued_behind = CASE WHEN $3 THEN d.queued_behind END
    FROM was
    WHERE d.lane = was.lane AND d.id = was.id AND d.event_id = was.event_id
    RETURNING was.lane, was.queued_behind)";
}

constexpr std::string_view kCandidates = R"(
    SELECT d.lane, d.id, d.event_id, d.queued_behind
    FROM unnest($1::smallint[], $2::bigint[]) AS wanted(lane, id)
    JOIN millrace.dead_tasks d ON d.lane = wanted.lane AND d.id = wanted.id
    ORDER BY d.lane, d.id, d.event_id
    FOR UPDATE OF d)";

constexpr std::string_view kWaiting = R"(
    SELECT lane, id, event_id, topic, created_at
    FROM millrace.dead_tasks
    WHERE (lane, id, event_id) > ($1, $2, $3)
    ORDER BY lane, id, event_id
    LIMIT 50000)";

constexpr std::string_view kRemove = R"(
    DELETE FROM millrace.dead_tasks d
    USING unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS gone(lane, id, event_id)
    WHERE d.lane = gone.lane AND d.id = gone.id AND d.event_id = gone.event_id)";

}  // namespace

ParkedKeys DeadTasks::parked(const std::vector<int16_t>& lanes,
                             const std::function<void()>& on_page) {
    ParkedKeys parked;
    for (const int16_t lane : lanes) {
        int64_t after = INT64_MIN;
        for (bool has_more = true; has_more;) {
            const pg::Result rows =
                session_.execute_repeated(kParked, pg::Params().int2(lane).int8(after));
            for (int row = 0; row < rows.row_count(); ++row) {
                after = rows.integer(row, 0);
                parked.add(rows.bytes(row, 1), rows.bytes(row, 2), {lane, after});
            }
            has_more = rows.row_count() == kParkedPage;
            on_page();
        }
    }
    return parked;
}

bool DeadTasks::has_released(const std::vector<int16_t>& lanes,
                             const std::vector<std::string>& topics_left_out) {
    pg::ArrayBuilder array = array_of(lanes);
    pg::Params params;
    params.array(array);
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
        keys.add_optional_bytes(task.key);
        types.add_bytes(task.task_type);
        tenants.add_optional_bytes(task.tenant_id);
        actors.add_optional_bytes(task.actor_id);
        payloads.add_optional_bytes(task.payload_is_bytes ? std::nullopt : task.payload);
        payload_bytes.add_optional_bytes(task.payload_is_bytes ? task.payload : std::nullopt);
        headers.add_optional_bytes(task.headers);
        created.add_int8(task.created_at_us - pg::kEpochUs);
        reasons.add_bytes(entry.reason);
        details.add_bytes(entry.detail);
        queues.add_optional_int8(entry.queue);
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
    std::map<QueueName, int64_t> taken;
    for (const QueueName& queue : queues) taken.emplace(queue, INT64_MIN);
    return pass_marks_behind(taken);
}

std::set<QueueName> DeadTasks::pass_marks_behind(
    const std::map<QueueName, int64_t>& taken) {
    if (taken.empty()) return {};
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    pg::ArrayBuilder least(pg::Type::kInt8);
    std::set<QueueName> emptied;
    for (const auto& [queue, id] : taken) {
        lanes.add_int2(queue.lane);
        ids.add_int8(queue.id);
        least.add_int8(id);
        emptied.insert(queue);
    }
    const pg::Result rows =
        session_.execute_repeated(kPassMarks, pg::Params().array(lanes).array(ids).array(least));
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
    return finish_take_back(session_.execute(take_back_sql(kOne), params), parks_key) > 0;
}

int64_t DeadTasks::take_back_topic(const std::vector<int16_t>& lanes, const std::string& topic,
                                   const std::string& reason, const std::string& detail,
                                   bool parks_key) {
    pg::ArrayBuilder array = array_of(lanes);
    pg::Params params;
    params.text(reason).text(detail).boolean(parks_key).array(array).text(topic);
    return finish_take_back(session_.execute(take_back_sql(kReleasedOfTopic), params), parks_key);
}

int64_t DeadTasks::finish_take_back(const pg::Result& rows, bool parks_key) {
    std::set<QueueName> left;
    for (int i = 0; i < rows.row_count(); ++i) {
        if (parks_key || rows.is_null(i, 1)) continue;
        left.insert({static_cast<int16_t>(rows.integer(i, 0)), rows.integer(i, 1)});
    }
    pass_marks(left);
    return rows.row_count();
}

int64_t DeadTasks::remove(const std::vector<LedgerTask>& tasks) {
    const pg::Result candidates = session_.execute(kCandidates, names_of(tasks));
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    pg::ArrayBuilder events(pg::Type::kUuid);
    std::map<QueueName, int64_t> taken;  // By queue, the first of it that is removed.
    for (int row = 0; row < candidates.row_count(); ++row) {
        const std::optional<LedgerTask> found = named_by(tasks, candidates, row);
        if (!found) continue;
        lanes.add_int2(found->lane);
        ids.add_int8(found->id);
        events.add_uuid(candidates.uuid(row, 2));
        if (candidates.is_null(row, 3)) continue;
        int64_t& least =
            taken.try_emplace({found->lane, candidates.integer(row, 3)}, found->id).first->second;
        least = std::min(least, found->id);
    }
    if (lanes.size() == 0) return 0;
    const int64_t removed =
        session_.execute(kRemove, pg::Params().array(lanes).array(ids).array(events))
            .affected_count();
    // A first row was published because its queue was released, and that still is, though a
    // restored database may not know. A queue whose first row stays waits as before.
    pass_marks_behind(taken);
    return removed;
}

std::vector<LedgerTask> DeadTasks::present(const std::vector<LedgerTask>& tasks) {
    return present_in(tasks, session_.execute(kCandidates, names_of(tasks)));
}

std::vector<WaitingTask> DeadTasks::waiting(const TaskId& after) {
    return waiting_of(session_.execute(
        kWaiting, pg::Params().int2(after.lane).int8(after.id).uuid(after.event_id)));
}

}  // namespace millrace
