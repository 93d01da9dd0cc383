#include "tests/support/model_publisher.h"

#include <string>

#include "core/check.h"

namespace millrace::test {

namespace {

constexpr std::string_view kTakePublisher = R"(
    UPDATE millrace.relay_publishers
       SET epoch = epoch + 1, owner = gen_random_uuid()
     WHERE number = $1
    RETURNING epoch, version)";
constexpr std::string_view kCheckPublisher =
    "SELECT millrace.check_publisher($1, $2, $3)";
constexpr std::string_view kMovePublisher = R"(
    SELECT xid, snapshot, sequence_value
      FROM millrace.move_publisher($1, $2, $3))";
constexpr std::string_view kBumpVersion = R"(
    UPDATE millrace.relay_publishers
       SET version = version + 1
     WHERE number = $1)";
constexpr std::string_view kTakeLanes = R"(
    UPDATE millrace.relay_lanes
       SET publisher = $1
     WHERE lane IN (SELECT lane
                      FROM millrace.relay_lanes
                     WHERE lane = ANY($2::smallint[]) AND publisher IS NULL
                     ORDER BY lane
                       FOR UPDATE SKIP LOCKED))";
constexpr std::string_view kGiveLanes = R"(
    UPDATE millrace.relay_lanes
       SET publisher = NULL
     WHERE lane = ANY($2::smallint[]) AND publisher = $1)";
constexpr std::string_view kOwnedLanes = R"(
    SELECT lane
      FROM millrace.relay_lanes
     WHERE publisher = $1
     ORDER BY lane)";

// The model's claim: PROTOCOL 3.3's, and a byte limit that leaves at least one row. $1 to $3 belong
// to the floor, $4 is the count limit, $5 the byte limit, the lanes follow.
constexpr std::string_view kClaimHead = R"(
    WITH chosen AS (
        SELECT u.ctid, u.id, sum(u.bytes) OVER (ORDER BY u.id) - u.bytes < $5 AS fits
          FROM ()";
constexpr std::string_view kClaimTail = R"(
                 ORDER BY id
                 LIMIT $4) AS u
    ), gone AS (
        DELETE FROM millrace.pending_tasks
         WHERE ctid = ANY(ARRAY(SELECT ctid FROM chosen WHERE fits))
        RETURNING id, event_id::text AS event_id, task_type AS run
    )
    SELECT (SELECT count(*) FROM chosen), gone.id, gone.event_id, gone.run
      FROM (VALUES (1)) AS once LEFT JOIN gone ON true
     ORDER BY gone.id)";
constexpr std::string_view kProbeHead = R"(
    SELECT pg_current_snapshot(), filled.lane
      FROM (VALUES (1)) AS once LEFT JOIN ()";
constexpr std::string_view kProbeTail = R"(
           ) AS filled ON true)";

std::string arms(std::string_view columns, size_t lane_count, size_t first_parameter) {
    std::string sql;
    for (size_t i = 0; i < lane_count; ++i) {
        if (i > 0) sql += "\n UNION ALL ";
        sql += "SELECT " + std::string(columns) + " FROM millrace.pending_tasks WHERE lane = $" +
               std::to_string(first_parameter + i) + "::smallint AND id > ";
        sql += kEffectiveFloorSql;
    }
    return sql;
}

std::string claim_sql(size_t lane_count) {
    return std::string(kClaimHead) +
           arms("ctid, id, octet_length(payload::text) AS bytes", lane_count, 6) +
           std::string(kClaimTail);
}

std::string probe_sql(size_t lane_count) {
    return std::string(kProbeHead) + arms("lane", lane_count, 4) + std::string(kProbeTail);
}

}  // namespace

ModelPublisher::ModelPublisher(OutboxRun& run, int16_t number, const MakeRule& make_rule)
    : run_(run),
      session_({.url = run.database().url(),
                .password = "",
                .application_name = "millrace test",
                .settings = Outbox::session_settings()}),
      outbox_(session_),
      rule_(make_rule()) {
    const pg::Result row = session_.execute(kTakePublisher, pg::Params().int2(number));
    state_.number = number;
    state_.epoch = row.integer(0, 0);
    state_.version = row.integer(0, 1);
    read_lanes();
}

ClaimResult ModelPublisher::claim(const ClaimOptions& options) {
    std::vector<SeenTask> tasks;
    const ClaimResult claim = rule_->relay_floor() != nullptr ? claim_as_relay(options, tasks)
                                                              : claim_as_model(options, tasks);
    if (options.is_rolled_back || tasks.empty()) {
        // A claim that returned nothing may have locked a row; only a probe can say that there is
        // none.
        session_.rollback();
        rule_->rolled_back(claim.facts);
        return claim;
    }
    run_.publish(tasks);
    session_.commit();
    rule_->committed(claim.facts);
    return claim;
}

ClaimResult ModelPublisher::claim_as_relay(const ClaimOptions& options,
                                           std::vector<SeenTask>& tasks) {
    const Claim claim =
        outbox_.claim(state_, *rule_->relay_floor(),
                      {.task_count = options.count_max, .byte_count = options.bytes_max});
    MILLRACE_CHECK(!claim.is_torn, "nobody else deletes rows of an owned lane");
    ClaimResult result;
    result.facts.snapshot = claim.snapshot;
    result.facts.xid = claim.xid;
    result.facts.sequence_value = claim.sequence_value;
    for (const Task& task : claim.tasks) {
        result.ids.push_back(task.id);
        tasks.push_back({.run = std::string(task.task_type), .id = task.event_id.text()});
    }
    if (!result.ids.empty()) result.facts.last_id = result.ids.back();
    return result;
}

ClaimResult ModelPublisher::claim_as_model(const ClaimOptions& options,
                                           std::vector<SeenTask>& tasks) {
    session_.execute("BEGIN ISOLATION LEVEL READ COMMITTED");
    const pg::Result moved = session_.execute(
        kMovePublisher,
        pg::Params().int2(state_.number).int8(state_.epoch).int8(state_.version));
    ClaimResult claim;
    claim.facts.xid = static_cast<uint64_t>(moved.integer(0, 0));
    claim.facts.snapshot = Snapshot::from_binary(moved.bytes(0, 1));
    if (!moved.is_null(0, 2)) claim.facts.sequence_value = moved.integer(0, 2);

    const std::vector<int16_t> lanes = rule_->lanes_of_claim(state_.lanes, seen_filled_);
    pg::Params params;
    rule_->bind_claim(params);
    params.int8(options.count_max).int8(options.bytes_max);
    for (const int16_t lane : lanes) params.int2(lane);
    const pg::Result rows = session_.execute(claim_sql(lanes.size()), params);
    for (int i = 0; i < rows.row_count() && !rows.is_null(i, 1); ++i) {
        claim.ids.push_back(rows.integer(i, 1));
        tasks.push_back({.run = rows.text(i, 3), .id = rows.text(i, 2)});
    }
    claim.facts.is_cut_by_count = rows.integer(0, 0) == options.count_max;
    if (!claim.ids.empty()) claim.facts.last_id = claim.ids.back();
    return claim;
}

bool ModelPublisher::probe() {
    if (rule_->relay_floor() == nullptr) return probe_as_model();
    const Probe probe = outbox_.probe(state_.lanes, *rule_->relay_floor());
    if (!probe.found) rule_->found_nothing(probe.snapshot);
    return probe.found;
}

bool ModelPublisher::probe_as_model() {
    pg::Params params;
    rule_->bind_probe(params);
    for (const int16_t lane : state_.lanes) params.int2(lane);
    const pg::Result rows = session_.execute(probe_sql(state_.lanes.size()), params);
    seen_filled_.clear();
    for (int i = 0; i < rows.row_count() && !rows.is_null(i, 1); ++i) {
        seen_filled_.insert(static_cast<int16_t>(rows.integer(i, 1)));
    }
    if (seen_filled_.empty()) rule_->found_nothing(Snapshot::from_binary(rows.bytes(0, 0)));
    return !seen_filled_.empty();
}

void ModelPublisher::settle() { rule_->settled(); }

int ModelPublisher::take_lanes(const std::vector<int16_t>& lanes) {
    const size_t count_before = state_.lanes.size();
    change_lanes(kTakeLanes, lanes);
    const int gained_count = static_cast<int>(state_.lanes.size() - count_before);
    if (gained_count > 0) rule_->gained_lane();
    return gained_count;
}

void ModelPublisher::give_lanes(const std::vector<int16_t>& lanes) {
    change_lanes(kGiveLanes, lanes);
}

void ModelPublisher::change_lanes(std::string_view sql, const std::vector<int16_t>& lanes) {
    pg::ArrayBuilder numbers(pg::Type::kInt2);
    for (const int16_t lane : lanes) numbers.add_int2(lane);

    pg::Transaction transaction(session_);
    transaction.execute(
        kCheckPublisher,
        pg::Params().int2(state_.number).int8(state_.epoch).int8(state_.version));
    const int64_t changed_count =
        transaction.execute(sql, pg::Params().int2(state_.number).array(numbers))
            .affected_count();
    if (changed_count > 0) {
        transaction.execute(kBumpVersion, pg::Params().int2(state_.number));
    }
    transaction.commit();
    if (changed_count > 0) ++state_.version;
    read_lanes();
}

void ModelPublisher::read_lanes() {
    const pg::Result rows = session_.execute(kOwnedLanes, pg::Params().int2(state_.number));
    state_.lanes.clear();
    for (int i = 0; i < rows.row_count(); ++i) {
        state_.lanes.push_back(static_cast<int16_t>(rows.integer(i, 0)));
    }
}

}  // namespace millrace::test
