#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/pg/session.h"
#include "relay/parked_keys.h"
#include "schema/ledger_record.h"

namespace millrace {

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

// SQL on dead_tasks that a relay process runs, beside the claim's statement above; operators' verbs
// stand in dead_task_verbs.h. A queue is the rows of one (topic, key) of a lane, in id order; the
// mark of its first row says that it is released. Not thread-safe: one per session.
class DeadTasks {
  public:
    explicit DeadTasks(pg::Session& session) : session_(session) {}

    // The keys of these lanes that are parked. One hop a queue, however long it is.
    ParkedKeys parked(const std::vector<int16_t>& lanes);
    // Is there something to claim in these lanes?
    bool has_released(const std::vector<int16_t>& lanes,
                      const std::vector<std::string>& topics_left_out);
    // How many there are, by reason, of the first 100,000.
    std::map<std::string, int> counts();

    // The rest runs in the caller's transaction, under the lock of the lanes' publisher.
    void add(const std::vector<DeadEntry>& entries);
    // After rows were taken from the heads of these released queues: marks the rows that are now
    // the first ones. Returns the queues that are empty.
    std::set<QueueName> pass_marks(const std::set<QueueName>& queues);
    // A released task failed again: it is dead as before, and with it what waits behind it. Under a
    // policy that parks no key it leaves its queue, which stays released. False if it is gone.
    bool take_back(const TaskId& task, const std::string& reason, const std::string& detail,
                   bool parks_key);
    // The same for released tasks of a topic, some thousands at most; how many.
    int64_t take_back_topic(const std::vector<int16_t>& lanes, const std::string& topic,
                            const std::string& reason, const std::string& detail, bool parks_key);
    // Deletes exactly these tasks as Outbox::remove does, and passes their queues' marks on.
    int64_t remove(const std::vector<LedgerTask>& tasks);
    // All there are, released or not: for `ledger resume`, while nobody publishes.
    std::vector<WaitingTask> waiting();
    // Those of them that are there; locks them.
    std::vector<LedgerTask> present(const std::vector<LedgerTask>& tasks);

  private:
    pg::Result lock_candidates(const std::vector<LedgerTask>& tasks);
    // Of the two below: marks of the queues that the rows leave are passed on.
    int64_t taken_back(const pg::Result& rows, bool parks_key);

    pg::Session& session_;
};

}  // namespace millrace
