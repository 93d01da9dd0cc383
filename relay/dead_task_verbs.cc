#include "relay/dead_task_verbs.h"

#include "relay/dead_tasks.h"
#include "relay/operator.h"
#include "relay/publishers.h"

namespace millrace {

namespace {

// $1 ids, $2 topic, $3 key, $4 reason, $5 heads only, $6 to $8 the row before, $9 limit.
constexpr std::string_view kList = R"(
    SELECT d.lane, d.id, d.event_id, d.topic, d.key, d.task_type, d.reason,
           coalesce(d.detail, ''),
           to_char(d.since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           head.id, head.event_id = d.event_id,
           coalesce(head.released_at, d.released_at) IS NOT NULL
    FROM millrace.dead_tasks d
    LEFT JOIN LATERAL (
        SELECT h.id, h.event_id, h.released_at
        FROM millrace.dead_tasks h
        WHERE h.lane = d.lane AND h.queued_behind = d.queued_behind
        ORDER BY h.id
        LIMIT 1) head ON d.queued_behind IS NOT NULL
    WHERE (cardinality($1::bigint[]) = 0 OR d.id = ANY ($1::bigint[]))
      AND ($2::text IS NULL OR d.topic = $2)
      AND ($3::text IS NULL OR d.key = $3)
      AND ($4::text IS NULL OR d.reason = $4)
      AND (NOT $5 OR head.id IS NULL OR head.event_id = d.event_id)
      AND (d.lane, d.id, d.event_id) > ($6::smallint, $7::bigint, $8::uuid)
    ORDER BY d.lane, d.id, d.event_id
    LIMIT $9::int)";

constexpr std::string_view kContent = R"(
    SELECT d.tenant_id, d.actor_id, d.headers::text,
           coalesce(d.payload::text, encode(d.payload_bytes, 'base64')),
           d.payload_bytes IS NOT NULL,
           to_char(d.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           (SELECT count(*) FROM millrace.dead_tasks q
            WHERE q.lane = d.lane AND q.queued_behind = d.queued_behind AND q.id > d.id)
    FROM millrace.dead_tasks d
    WHERE d.lane = $1 AND d.id = $2 AND d.event_id = $3)";

constexpr std::string_view kLockLane = "SELECT millrace.lock_lane($1)";

// Of the row, if it is there: may it go, and is it, or its queue, released?
constexpr std::string_view kState = R"(
    SELECT d.queued_behind, head.id IS NULL OR head.event_id = d.event_id,
           coalesce(head.released_at, d.released_at) IS NOT NULL
    FROM millrace.dead_tasks d
    LEFT JOIN LATERAL (
        SELECT h.id, h.event_id, h.released_at
        FROM millrace.dead_tasks h
        WHERE h.lane = d.lane AND h.queued_behind = d.queued_behind
        ORDER BY h.id
        LIMIT 1) head ON d.queued_behind IS NOT NULL
    WHERE d.lane = $1 AND d.id = $2 AND d.event_id = $3)";

constexpr std::string_view kRelease = R"(
    UPDATE millrace.dead_tasks SET released_at = clock_timestamp()
    WHERE lane = $1 AND id = $2 AND event_id = $3)";
constexpr std::string_view kDiscard =
    "DELETE FROM millrace.dead_tasks WHERE lane = $1 AND id = $2 AND event_id = $3";

pg::Params params_of(const TaskId& task) {
    pg::Params params;
    params.int2(task.lane).int8(task.id).uuid(task.event_id);
    return params;
}

DeadTask dead_task_of(const pg::Result& rows, int row) {
    DeadTask task;
    task.id = {static_cast<int16_t>(rows.integer(row, 0)), rows.integer(row, 1),
               rows.uuid(row, 2)};
    task.topic = rows.text(row, 3);
    task.key = rows.optional_text(row, 4);
    task.task_type = rows.text(row, 5);
    task.reason = rows.text(row, 6);
    task.detail = rows.text(row, 7);
    task.since = rows.text(row, 8);
    if (!rows.is_null(row, 9)) {
        task.begins_queue = rows.boolean(row, 10);
        if (!task.begins_queue) task.waits_for = rows.integer(row, 9);
    }
    task.is_released = rows.boolean(row, 11);
    return task;
}

std::string described(const DeadTask& task) {
    return "task " + std::to_string(task.id.id) + " event " + task.id.event_id.text() + " topic " +
           task.topic + (task.key ? " key " + *task.key : "");
}

}  // namespace

std::vector<DeadTask> DeadTaskVerbs::list(const DeadFilter& filter) {
    pg::ArrayBuilder ids(pg::Type::kInt8);
    for (const int64_t id : filter.ids) ids.add_int8(id);
    pg::Params params;
    params.array(ids)
        .optional_text(filter.topic)
        .optional_text(filter.key)
        .optional_text(filter.reason)
        .boolean(filter.heads_only);
    const TaskId after = filter.after.value_or(TaskId{.lane = -1, .id = 0, .event_id = Uuid()});
    params.int2(after.lane).int8(after.id).uuid(after.event_id).int4(filter.limit);
    const pg::Result rows = session_.execute(kList, params);
    std::vector<DeadTask> tasks;
    for (int i = 0; i < rows.row_count(); ++i) tasks.push_back(dead_task_of(rows, i));
    return tasks;
}

std::optional<DeadTaskContent> DeadTaskVerbs::content(const TaskId& task) {
    const pg::Result row = session_.execute(kContent, params_of(task));
    if (row.row_count() == 0) return std::nullopt;
    return DeadTaskContent{.tenant_id = row.optional_text(0, 0),
                           .actor_id = row.optional_text(0, 1),
                           .headers = row.optional_text(0, 2),
                           .payload = row.optional_text(0, 3),
                           .payload_is_bytes = row.boolean(0, 4),
                           .created_at = row.text(0, 5),
                           .waiting_count = row.integer(0, 6)};
}

std::vector<DeadOutcome> DeadTaskVerbs::release(int16_t lane, const std::vector<DeadTask>& tasks,
                                                const std::string& reason, bool wakes) {
    return order(Verb::kRelease, lane, tasks, reason, wakes);
}

std::vector<DeadOutcome> DeadTaskVerbs::discard(int16_t lane, const std::vector<DeadTask>& tasks,
                                                const std::string& reason) {
    // Always: a queue that is gone must not be joined by its owner.
    return order(Verb::kDiscard, lane, tasks, reason, /*wakes=*/true);
}

std::vector<DeadOutcome> DeadTaskVerbs::order(Verb verb, int16_t lane,
                                              const std::vector<DeadTask>& tasks,
                                              const std::string& reason, bool wakes) {
    pg::Transaction transaction(session_);
    const pg::Result owner = session_.execute(kLockLane, pg::Params().int2(lane));
    const bool is_owned = !owner.is_null(0, 0);
    std::vector<DeadOutcome> outcomes;
    bool has_changed = false;
    for (const DeadTask& task : tasks) {
        const DeadOutcome outcome = verb == Verb::kRelease ? release_one(task.id)
                                                           : discard_one(task.id, is_owned);
        outcomes.push_back(outcome);
        if (outcome != DeadOutcome::kDone) continue;
        has_changed = true;
        Operator(session_).record_act(verb == Verb::kRelease ? "outbox retry" : "outbox discard",
                                      described(task), reason);
    }
    if (is_owned && has_changed && wakes) {
        Publishers(session_).bump_version(static_cast<int16_t>(owner.integer(0, 0)));
    }
    transaction.commit();
    return outcomes;
}

DeadOutcome DeadTaskVerbs::release_one(const TaskId& task) {
    const pg::Result state = session_.execute_repeated(kState, params_of(task));
    if (state.row_count() == 0) return DeadOutcome::kGone;
    if (state.boolean(0, 2)) return DeadOutcome::kReleasedAlready;
    if (!state.boolean(0, 1)) return DeadOutcome::kWaitsBehind;
    session_.execute_repeated(kRelease, params_of(task));
    return DeadOutcome::kDone;
}

DeadOutcome DeadTaskVerbs::discard_one(const TaskId& task, bool is_owned) {
    const pg::Result state = session_.execute_repeated(kState, params_of(task));
    if (state.row_count() == 0) return DeadOutcome::kGone;
    // Its owner may have died between the two commits of a transaction that had it.
    if (state.boolean(0, 2) && is_owned) return DeadOutcome::kInFlight;
    session_.execute_repeated(kDiscard, params_of(task));
    const bool was_first = state.boolean(0, 1);
    if (was_first && !state.is_null(0, 0)) {
        DeadTasks(session_).pass_marks({{task.lane, state.integer(0, 0)}});
    }
    return DeadOutcome::kDone;
}

}  // namespace millrace
