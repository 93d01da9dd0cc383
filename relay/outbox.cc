#include "relay/outbox.h"

#include <algorithm>
#include <string>

#include "core/check.h"

namespace millrace {

namespace {

// The part of a claim that takes released rows: the oldest queues and single rows, each queue from
// its first row on, as one stream in id order. $1 rows, $2 bytes, $3 lanes, $4 topics left out. A
// long queue takes no row of a claim from another: each gets its share. The columns are those of
// the claim of pending_tasks, then the queue.
constexpr std::string_view kClaimReleased = R"(
    WITH heads AS MATERIALIZED (
        SELECT lane, id, event_id, queued_behind
        FROM millrace.dead_tasks
        WHERE lane = ANY ($3::smallint[]) AND released_at IS NOT NULL
          AND topic <> ALL ($4::text[])
        ORDER BY id
        LIMIT $1::int
    ), share AS MATERIALIZED (
        SELECT greatest(1, $1::int / greatest(1, count(*))) AS n FROM heads
    ), picked AS MATERIALIZED (
        SELECT ARRAY(
            SELECT tid FROM (
                SELECT tid, id,
                       sum(byte_count) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - byte_count
                           AS bytes_before
                FROM (
                    SELECT d.ctid AS tid, d.id, d.byte_count
                    FROM heads h
                    JOIN millrace.dead_tasks d
                      ON d.lane = h.lane AND d.id = h.id AND d.event_id = h.event_id
                    WHERE h.queued_behind IS NULL
                    UNION ALL
                    SELECT q.tid, q.id, q.byte_count
                    FROM (
                        -- Once each, should two of its rows be marked.
                        SELECT DISTINCT lane, queued_behind
                        FROM heads
                        WHERE queued_behind IS NOT NULL
                    ) h
                    CROSS JOIN LATERAL (
                        SELECT d.ctid AS tid, d.id, d.byte_count
                        FROM millrace.dead_tasks d
                        WHERE d.lane = h.lane AND d.queued_behind = h.queued_behind
                        ORDER BY d.id
                        LIMIT (SELECT n FROM share)) q
                    ORDER BY id
                    LIMIT $1::int) oldest) measured
            WHERE bytes_before < $2::bigint
            ORDER BY id) AS tids)
    DELETE FROM millrace.dead_tasks
    WHERE ctid = ANY ((SELECT tids FROM picked)::tid[])
    RETURNING lane, id, event_id, topic, key, task_type, tenant_id, actor_id, payload,
              payload_bytes, headers, created_at, (SELECT cardinality(tids) FROM picked),
              queued_behind)";

// Parameters of kEffectiveFloorSql, then of each statement.
constexpr int kFloorParams = 3;

constexpr std::string_view kMove = "SELECT * FROM millrace.move_publisher($1, $2, $3)";

constexpr std::string_view kRemove = R"(
    DELETE FROM millrace.pending_tasks t
    USING unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS gone(lane, id, event_id)
    WHERE t.lane = gone.lane AND t.id = gone.id AND t.event_id = gone.event_id)";

constexpr std::string_view kCandidates = R"(
    SELECT t.lane, t.id, t.event_id
    FROM unnest($1::smallint[], $2::bigint[]) AS wanted(lane, id)
    JOIN millrace.pending_tasks t ON t.lane = wanted.lane AND t.id = wanted.id
    ORDER BY t.lane, t.id
    FOR UPDATE OF t)";

constexpr std::string_view kTakeOut = R"(
    DELETE FROM millrace.pending_tasks t
    USING unnest($1::smallint[], $2::bigint[], $3::uuid[]) AS wanted(lane, id, event_id)
    WHERE t.lane = wanted.lane AND t.id = wanted.id AND t.event_id = wanted.event_id
    RETURNING t.lane, t.id, t.event_id, t.topic, t.key, t.task_type, t.tenant_id, t.actor_id,
              t.payload, t.payload_bytes, t.headers, t.created_at)";

constexpr std::string_view kBlocker = R"(
    SELECT string_agg(format('pid %s (%s, %s, %s): %s', a.pid, coalesce(a.application_name, ''),
                             coalesce(a.usename, ''), a.state, left(a.query, 80)), '; ')
    FROM pg_locks held
    JOIN pg_stat_activity a ON a.pid = held.pid
    WHERE held.relation IN ('millrace.relay_publishers'::regclass,
                            'millrace.pending_tasks'::regclass)
      AND held.granted
      AND held.mode IN ('RowShareLock', 'RowExclusiveLock', 'ShareLock', 'ExclusiveLock',
                        'AccessExclusiveLock')
      AND held.pid <> pg_backend_pid()
      AND a.xact_start < clock_timestamp() - interval '1 second')";

std::string parameter(int number) { return "$" + std::to_string(number); }

// One arm a lane, all above the floor. Each arm says its order: without it the planner can't merge
// the arms (it plans them apart, and keeps an order only that somebody asked for) and would sort
// them.
// The parameter after the lanes holds the topics that are left out, if any are.
std::string arms(size_t lane_count, int first_parameter, std::string_view columns,
                 bool leaves_out) {
    std::string sql;
    for (size_t i = 0; i < lane_count; ++i) {
        if (i > 0) sql += " UNION ALL ";
        sql += "(SELECT ";
        sql += columns;
        sql += " FROM millrace.pending_tasks WHERE lane = " +
               parameter(first_parameter + static_cast<int>(i)) +
               "::smallint AND id > (SELECT id FROM low)";
        if (leaves_out) {
            sql += " AND topic <> ALL (" +
                   parameter(first_parameter + static_cast<int>(lane_count)) + "::text[])";
        }
        sql += " ORDER BY id)";
    }
    return sql;
}

std::string with_low() {
    return "WITH low AS MATERIALIZED (SELECT " + std::string(kEffectiveFloorSql) + " AS id)";
}

// Which rows the claim takes: the oldest of all lanes as one stream, cut by rows and bytes. $4
// rows, $5 bytes, $6 and on the lanes.
std::string pick_sql(size_t lane_count, bool leaves_out) {
    return with_low() + R"(, picked AS MATERIALIZED (
        SELECT ARRAY(
            SELECT tid FROM (
                SELECT tid, id,
                       sum(byte_count) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - byte_count
                           AS bytes_before
                FROM (SELECT tid, id, byte_count
                      FROM ()" +
           arms(lane_count, kFloorParams + 3, "ctid AS tid, id, byte_count", leaves_out) +
           R"() lanes
                      ORDER BY id
                      LIMIT $4::int) oldest) measured
            WHERE bytes_before < $5::bigint
            ORDER BY id) AS tids))";
}

std::string claim_sql(size_t lane_count, bool leaves_out = false) {
    return pick_sql(lane_count, leaves_out) + R"(
        DELETE FROM millrace.pending_tasks
        WHERE ctid = ANY ((SELECT tids FROM picked)::tid[])
        RETURNING lane, id, event_id, topic, key, task_type, tenant_id, actor_id, payload,
                  payload_bytes, headers, created_at, (SELECT cardinality(tids) FROM picked))";
}

std::string probe_sql(size_t lane_count, bool leaves_out = false) {
    return with_low() + " SELECT pg_current_snapshot(), EXISTS (" +
           arms(lane_count, kFloorParams + 1, "id", leaves_out) + ")";
}

std::string sweep_sql() {
    return with_low() + R"(
        SELECT EXISTS (SELECT FROM millrace.pending_tasks
                       WHERE lane = ANY($4::smallint[]) AND id <= (SELECT id FROM low)))";
}

constexpr std::string_view kWaiting = R"(
    SELECT lane, id, event_id, topic, created_at
    FROM millrace.pending_tasks
    WHERE (lane, id) > ($1, $2)
    ORDER BY lane, id
    LIMIT 50000)";

void bind_lanes(pg::Params& params, const std::vector<int16_t>& lanes) {
    for (const int16_t lane : lanes) params.int2(lane);
}

std::optional<std::string_view> optional_bytes(const pg::Result& rows, int row, int column) {
    if (rows.is_null(row, column)) return std::nullopt;
    return rows.bytes(row, column);
}

pg::Params& bind_topics(pg::Params& params, const std::vector<std::string>& topics) {
    pg::ArrayBuilder array(pg::Type::kText);
    for (const std::string& topic : topics) array.add_bytes(topic);
    return params.array(array);
}

// The columns that a claim of either table returns first.
Task task_of(const pg::Result& rows, int row) {
    Task task;
    task.lane = static_cast<int16_t>(rows.integer(row, 0));
    task.id = rows.integer(row, 1);
    task.event_id = rows.uuid(row, 2);
    task.topic = rows.bytes(row, 3);
    task.key = optional_bytes(rows, row, 4);
    task.task_type = rows.bytes(row, 5);
    task.tenant_id = optional_bytes(rows, row, 6);
    task.actor_id = optional_bytes(rows, row, 7);
    task.payload = optional_bytes(rows, row, 8);
    if (!rows.is_null(row, 9)) {
        task.payload = rows.bytes(row, 9);
        task.payload_is_bytes = true;
    }
    task.headers = optional_bytes(rows, row, 10);
    task.created_at_us = rows.integer(row, 11) + pg::kEpochUs;
    return task;
}

bool comes_before(const Task& a, const Task& b) { return a.id < b.id; }

// DELETE returns rows in the order of the table, not of the array. Returns the number selected.
int64_t read_tasks(const pg::Result& rows, bool are_dead, std::vector<Task>& tasks) {
    const auto first = static_cast<std::ptrdiff_t>(tasks.size());
    tasks.reserve(tasks.size() + static_cast<size_t>(rows.row_count()));
    for (int i = 0; i < rows.row_count(); ++i) {
        Task& task = tasks.emplace_back(task_of(rows, i));
        task.was_dead = are_dead;
        if (are_dead && !rows.is_null(i, 13)) task.queue = rows.integer(i, 13);
    }
    std::sort(tasks.begin() + first, tasks.end(), comes_before);
    return rows.row_count() > 0 ? rows.integer(0, 12) : 0;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> Outbox::session_settings() {
    auto settings = pg::common_settings();
    settings.insert(settings.end(), {{"lock_timeout", "2s"},
                                     {"enable_seqscan", "off"},
                                     {"enable_bitmapscan", "off"},
                                     {"enable_hashjoin", "off"},
                                     {"enable_mergejoin", "off"}});
    return settings;
}

Probe Outbox::probe(const std::vector<int16_t>& lanes, const Floor& floor,
                    const std::vector<std::string>& topics_left_out) {
    prepare(lanes.size());
    pg::Params params;
    floor.bind(params);
    bind_lanes(params, lanes);
    const pg::Result row =
        topics_left_out.empty()
            ? session_.execute_prepared("probe", params)
            : session_.execute_repeated(probe_sql(lanes.size(), /*leaves_out=*/true),
                                        bind_topics(params, topics_left_out));
    return {Snapshot::from_binary(row.bytes(0, 0)), row.boolean(0, 1)};
}

Claim Outbox::claim(const PublisherState& publisher, const Floor& floor, const ClaimLimits& limits,
                    const ClaimScope& scope) {
    MILLRACE_CHECK(!publisher.lanes.empty(), "a claim has lanes");
    prepare(publisher.lanes.size());
    const int32_t parts = scope.has_released && scope.has_pending ? 2 : 1;
    const ClaimLimits share{.task_count = std::max(1, limits.task_count / parts),
                            .byte_count = std::max<int64_t>(1, limits.byte_count / parts)};
    pg::Params move;
    move.int2(publisher.number).int8(publisher.epoch).int8(publisher.version);
    pg::Params pick;
    floor.bind(pick);
    pick.int4(share.task_count).int8(share.byte_count);
    bind_lanes(pick, publisher.lanes);
    const bool leaves_out = !scope.topics_left_out.empty();
    if (leaves_out) bind_topics(pick, scope.topics_left_out);
    const std::string pending_claim =
        scope.has_pending ? prepared_claim(pick, publisher.lanes.size(), leaves_out) : "";
    pg::Params released;
    std::string released_claim;
    if (scope.has_released) {
        released.int4(share.task_count).int8(share.byte_count);
        pg::ArrayBuilder lanes = array_of(publisher.lanes);
        released.array(lanes);
        bind_topics(released, scope.topics_left_out);
        released_claim = session_.prepared(kClaimReleased, released);
    }

    pg::Pipeline pipeline(session_);
    pipeline.queue_prepared("begin");
    pipeline.queue_prepared("move", move);
    if (scope.has_released) pipeline.queue_prepared(released_claim, released);
    if (scope.has_pending) pipeline.queue_prepared(pending_claim, pick);
    pg::PipelineOutcome outcome = pipeline.finish();

    Claim claim;
    claim.results = std::move(outcome.value());
    const pg::Result& moved = claim.results[1];
    claim.seq = moved.integer(0, 0);
    claim.xid = static_cast<uint64_t>(moved.integer(0, 1));
    claim.snapshot = Snapshot::from_binary(moved.bytes(0, 2));
    if (!moved.is_null(0, 3)) claim.sequence_value = moved.integer(0, 3);
    int64_t selected = 0;
    if (scope.has_released) {
        selected += read_tasks(claim.results[2], /*are_dead=*/true, claim.tasks);
    }
    if (scope.has_pending) {
        const pg::Result& rows = claim.results.back();
        selected += read_tasks(rows, /*are_dead=*/false, claim.tasks);
        if (rows.row_count() > 0 && !leaves_out) claim.claimed_to = claim.tasks.back().id;
    }
    claim.is_torn = static_cast<size_t>(selected) != claim.tasks.size();
    return claim;
}

std::string Outbox::prepared_claim(const pg::Params& params, size_t lane_count, bool leaves_out) {
    if (!leaves_out) return "claim";
    return session_.prepared(claim_sql(lane_count, /*leaves_out=*/true), params);
}

TakenTasks Outbox::take_out(const std::vector<TaskId>& tasks) {
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    pg::ArrayBuilder events(pg::Type::kUuid);
    for (const TaskId& task : tasks) {
        lanes.add_int2(task.lane);
        ids.add_int8(task.id);
        events.add_uuid(task.event_id);
    }
    TakenTasks taken{
        session_.execute(kTakeOut, pg::Params().array(lanes).array(ids).array(events)), {}};
    for (int i = 0; i < taken.rows.row_count(); ++i) {
        taken.tasks.push_back(task_of(taken.rows, i));
    }
    std::sort(taken.tasks.begin(), taken.tasks.end(), comes_before);
    return taken;
}

std::optional<bool> Outbox::has_row_below(const std::vector<int16_t>& lanes, const Floor& floor,
                                          std::chrono::milliseconds limit) {
    pg::Params params;
    floor.bind(params);
    pg::ArrayBuilder array = array_of(lanes);
    params.array(array);
    pg::Transaction transaction(session_);
    transaction.execute("SET LOCAL statement_timeout = " + std::to_string(limit.count()));
    try {
        return transaction.execute(sweep_sql(), params).boolean(0, 0);
    } catch (const Failure& failure) {
        if (failure.sqlstate() != "57014") throw;
        return std::nullopt;
    }
}

std::string Outbox::blocker() {
    const pg::Result row = session_.execute(kBlocker);
    return row.is_null(0, 0) ? "nobody that is visible" : row.text(0, 0);
}

int64_t Outbox::remove(const std::vector<LedgerTask>& tasks) {
    const pg::Result candidates = session_.execute(kCandidates, names_of(tasks));
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    pg::ArrayBuilder events(pg::Type::kUuid);
    for (int row = 0; row < candidates.row_count(); ++row) {
        const std::optional<LedgerTask> found = named_by(tasks, candidates, row);
        if (!found) continue;
        lanes.add_int2(found->lane);
        ids.add_int8(found->id);
        events.add_uuid(candidates.uuid(row, 2));
    }
    return session_.execute(kRemove, pg::Params().array(lanes).array(ids).array(events))
        .affected_count();
}

std::vector<LedgerTask> Outbox::present(const std::vector<LedgerTask>& tasks) {
    return present_in(tasks, session_.execute(kCandidates, names_of(tasks)));
}

pg::ArrayBuilder array_of(const std::vector<int16_t>& lanes) {
    pg::ArrayBuilder array(pg::Type::kInt2);
    for (const int16_t lane : lanes) array.add_int2(lane);
    return array;
}

pg::Params names_of(const std::vector<LedgerTask>& tasks) {
    pg::ArrayBuilder lanes(pg::Type::kInt2);
    pg::ArrayBuilder ids(pg::Type::kInt8);
    for (const LedgerTask& task : tasks) {
        lanes.add_int2(task.lane);
        ids.add_int8(task.id);
    }
    pg::Params params;
    params.array(lanes).array(ids);
    return params;
}

std::optional<LedgerTask> named_by(const std::vector<LedgerTask>& tasks, const pg::Result& rows,
                                   int row) {
    const LedgerTask found{static_cast<int16_t>(rows.integer(row, 0)), rows.integer(row, 1),
                           digest_of(rows.uuid(row, 2))};
    if (!std::binary_search(tasks.begin(), tasks.end(), found)) return std::nullopt;
    return found;
}

std::vector<LedgerTask> present_in(const std::vector<LedgerTask>& tasks, const pg::Result& rows) {
    std::vector<LedgerTask> present;
    for (int row = 0; row < rows.row_count(); ++row) {
        if (const auto found = named_by(tasks, rows, row)) present.push_back(*found);
    }
    return present;
}

std::vector<WaitingTask> waiting_of(const pg::Result& rows) {
    std::vector<WaitingTask> waiting;
    for (int row = 0; row < rows.row_count(); ++row) {
        waiting.push_back({.id = {.lane = static_cast<int16_t>(rows.integer(row, 0)),
                                  .id = rows.integer(row, 1),
                                  .event_id = rows.uuid(row, 2)},
                           .topic = rows.text(row, 3),
                           .created_at = pg::time_of(rows.integer(row, 4))});
    }
    return waiting;
}

std::vector<WaitingTask> Outbox::waiting(const TaskId& after) {
    return waiting_of(
        session_.execute(kWaiting, pg::Params().int2(after.lane).int8(after.id)));
}

void Outbox::check_plan(const std::vector<int16_t>& lanes) {
    pg::Params params;
    Floor().bind(params);
    params.int4(1000).int8(1 << 20);
    bind_lanes(params, lanes);
    const pg::Result rows =
        session_.execute("EXPLAIN (FORMAT TEXT) " + claim_sql(lanes.size()), params);
    std::string plan;
    for (int i = 0; i < rows.row_count(); ++i) plan += rows.text(i, 0) + "\n";

    // With one lane there is nothing to merge.
    const bool merges = lanes.size() == 1 || plan.find("Merge Append") != std::string::npos;
    size_t index_scans = 0;
    for (size_t at = plan.find("Index Scan using pending_tasks_pkey"); at != std::string::npos;
         at = plan.find("Index Scan using pending_tasks_pkey", at + 1)) {
        ++index_scans;
    }
    if (merges && index_scans == lanes.size() && plan.find("Tid Scan") != std::string::npos) return;
    throw fatal("claim_plan",
                "the claim would not be a Merge Append over index scans, so it would slow down "
                "behind dead rows; is there a foreign index on pending_tasks?\n" +
                    plan);
}

void Outbox::prepare(size_t lane_count) {
    if (prepared_lane_count_ == lane_count) return;
    if (prepared_lane_count_ == 0) {
        session_.prepare("begin", "BEGIN ISOLATION LEVEL READ COMMITTED");
        session_.prepare("move", kMove);
    } else {
        session_.execute("DEALLOCATE probe");
        session_.execute("DEALLOCATE claim");
    }
    session_.prepare("probe", probe_sql(lane_count));
    session_.prepare("claim", claim_sql(lane_count));
    prepared_lane_count_ = lane_count;
}

}  // namespace millrace
