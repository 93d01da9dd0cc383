#include "tests/support/outbox_run.h"

#include <string_view>
#include <utility>

#include "core/uuid.h"

namespace millrace::test {

namespace {

constexpr const char* kPrepare = R"(
    CREATE TABLE IF NOT EXISTS truth (
        run      text NOT NULL,
        event_id uuid PRIMARY KEY,
        key      text NOT NULL,
        place    bigint NOT NULL
    );
    CREATE TABLE IF NOT EXISTS keys (
        key  text PRIMARY KEY,
        lane smallint NOT NULL
    );
    INSERT INTO keys (key, lane)
    SELECT 'key-' || i, millrace.lane_of('key-' || i, NULL)
      FROM generate_series(1, 100) AS i
        ON CONFLICT DO NOTHING;
    DELETE FROM millrace.pending_tasks;
    UPDATE millrace.relay_lanes
       SET publisher = NULL)";
constexpr std::string_view kKeys = R"(
    SELECT key, lane
      FROM keys
     ORDER BY key)";
constexpr std::string_view kLockKeyWithoutXid =
    "SELECT pg_advisory_xact_lock(hashtext($1))";
constexpr std::string_view kLockKey = R"(
    SELECT
      FROM keys
     WHERE key = $1
       FOR UPDATE)";
constexpr std::string_view kTruth = R"(
    SELECT event_id::text, key, place
      FROM truth
     WHERE run = $1)";
constexpr std::string_view kPendingCount = R"(
    SELECT count(*)
      FROM millrace.pending_tasks)";

// $1 run, which a task carries as its type, $2 key, $3 event ids, $4 places. The payload's size
// differs from task to task, so that byte limits cut at other places than counts.
constexpr std::string_view kInsertTruth = R"(
    INSERT INTO truth (run, event_id, key, place)
    SELECT $1, t.event_id, $2, t.place
      FROM unnest($3::uuid[], $4::bigint[]) AS t(event_id, place))";
constexpr std::string_view kInsertSelect = R"(
    INSERT INTO millrace.pending_tasks (event_id, topic, key, task_type, payload)
    SELECT t.event_id, 'topic', $2, $1,
           json_build_object('padding', repeat('x', (t.place % 100)::integer))
      FROM unnest($3::uuid[], $4::bigint[]) AS t(event_id, place)
     ORDER BY t.place
    RETURNING id)";
constexpr std::string_view kInsertCte = R"(
    WITH made AS (
        INSERT INTO truth (run, event_id, key, place)
        SELECT $1, t.event_id, $2, t.place
          FROM unnest($3::uuid[], $4::bigint[]) AS t(event_id, place)
        RETURNING event_id, place
    )
    INSERT INTO millrace.pending_tasks (event_id, topic, key, task_type, payload)
    SELECT made.event_id, 'topic', $2, $1,
           json_build_object('padding', repeat('x', (made.place % 100)::integer))
      FROM made
     ORDER BY made.place
    RETURNING id)";
constexpr std::string_view kInsertHead = R"(
    INSERT INTO millrace.pending_tasks (event_id, topic, key, task_type, payload)
    VALUES)";
constexpr std::string_view kInsertTail = R"(
    RETURNING id)";

std::string values_sql(size_t count) {
    std::string sql(kInsertHead);
    for (size_t i = 1; i <= count; ++i) {
        const std::string n = "[" + std::to_string(i) + "]";
        sql += i > 1 ? ", " : " ";
        sql += "(($3::uuid[])" + n + ", 'topic', $2, $1, json_build_object('padding', " +
               "repeat('x', (($4::bigint[])" + n + " % 100)::integer)))";
    }
    return sql + std::string(kInsertTail);
}

pg::Params task_params(const OutboxRun& run, const std::string& key,
                       const std::vector<std::pair<Uuid, int64_t>>& tasks) {
    pg::ArrayBuilder ids(pg::Type::kUuid);
    pg::ArrayBuilder places(pg::Type::kInt8);
    for (const auto& [id, place] : tasks) {
        ids.add_uuid(id);
        places.add_int8(place);
    }
    pg::Params params;
    params.text(run.name()).text(key).array(ids).array(places);
    return params;
}

int64_t last_id(const pg::Result& rows) { return rows.integer(rows.row_count() - 1, 0); }

}  // namespace

OutboxRun::OutboxRun(Database& database)
    : database_(database), name_(Uuid::random().text()), session_(database.connect()) {
    session_.run_script(kPrepare);
    const pg::Result rows = session_.execute(kKeys);
    for (int i = 0; i < rows.row_count(); ++i) {
        keys_[static_cast<int16_t>(rows.integer(i, 1))].push_back(rows.text(i, 0));
    }
}

void OutboxRun::publish(const std::vector<SeenTask>& tasks) {
    const std::lock_guard lock(mutex_);
    seen_.insert(seen_.end(), tasks.begin(), tasks.end());
}

int64_t OutboxRun::pending_count() {
    const std::lock_guard lock(mutex_);
    return session_.execute(kPendingCount).integer(0, 0);
}

Verdict OutboxRun::verdict() {
    const std::lock_guard lock(mutex_);
    const pg::Result rows = session_.execute(kTruth, pg::Params().text(name_));
    Truth truth{.run = name_, .tasks = {}};
    for (int i = 0; i < rows.row_count(); ++i) {
        truth.tasks.push_back({rows.text(i, 0), rows.text(i, 1), rows.integer(i, 2)});
    }
    return check(truth, seen_);
}

void lock_key(pg::Session& session, const std::string& key, Lock lock) {
    session.execute(kLockKeyWithoutXid, pg::Params().text(key));
    if (lock == Lock::kRow) session.execute(kLockKey, pg::Params().text(key));
}

int64_t write_tasks(OutboxRun& run, pg::Session& session, const std::string& key, int count,
                    Shape shape) {
    std::vector<std::pair<Uuid, int64_t>> tasks;
    for (int i = 0; i < count; ++i) tasks.emplace_back(Uuid::random(), run.next_order());
    const pg::Params params = task_params(run, key, tasks);
    int64_t id = 0;
    switch (shape) {
        case Shape::kSingleRows:
            for (const auto& task : tasks) {
                id = last_id(session.execute(values_sql(1), task_params(run, key, {task})));
            }
            break;
        case Shape::kValues:
            id = last_id(session.execute(values_sql(tasks.size()), params));
            break;
        case Shape::kSelect:
            id = last_id(session.execute(kInsertSelect, params));
            break;
        case Shape::kWritableCte:
            return last_id(session.execute(kInsertCte, params));
    }
    session.execute(kInsertTruth, params);
    return id;
}

}  // namespace millrace::test
