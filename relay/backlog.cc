#include "relay/backlog.h"

#include <algorithm>
#include <string_view>

namespace millrace {

namespace {

// The oldest by id of each lane stands in for the oldest of all.
constexpr std::string_view kLook = R"(
    SELECT (SELECT count(*)
            FROM (SELECT
                  FROM millrace.relay_lanes l
                  JOIN millrace.pending_tasks t ON t.lane = l.lane AND t.id >= $1
                  LIMIT 100000) AS counted),
           coalesce(extract(epoch FROM clock_timestamp() - min(o.created_at))::bigint, 0),
           min(o.id),
           pg_sequence_last_value('millrace.pending_tasks_id_seq')
    FROM millrace.relay_lanes l,
         LATERAL (SELECT id, created_at FROM millrace.pending_tasks t
                  WHERE t.lane = l.lane AND t.id >= $1 ORDER BY id LIMIT 1) o)";

}  // namespace

Backlog BacklogLook::look(pg::Session& session) {
    const Clock::time_point begin = Clock::now();
    const bool is_full = begin >= next_full_;
    if (is_full) from_ = 0;
    const pg::Result row = session.execute(kLook, pg::Params().int8(from_));
    if (is_full) next_full_ = Clock::now() + (Clock::now() - begin) * rest_;

    const int64_t previous_last_id = last_id_;
    last_id_ = row.is_null(0, 3) ? 0 : row.integer(0, 3);
    from_ = row.is_null(0, 2) ? previous_last_id : std::min(row.integer(0, 2), previous_last_id);
    return {.task_count = row.integer(0, 0), .oldest_age_seconds = row.integer(0, 1)};
}

}  // namespace millrace
