#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/pg/session.h"
#include "core/uuid.h"
#include "relay/floor.h"
#include "schema/ledger_record.h"

namespace millrace {

// A row of pending_tasks or dead_tasks. Views point into the claim's result.
struct Task {
    int16_t lane = 0;
    int64_t id = 0;
    Uuid event_id;
    std::string_view topic;
    std::optional<std::string_view> key;
    std::string_view task_type;
    std::optional<std::string_view> tenant_id;
    std::optional<std::string_view> actor_id;
    std::optional<std::string_view> payload;  // The json's text, or the bytes; none: a tombstone.
    bool payload_is_bytes = false;
    std::optional<std::string_view> headers;  // A JSON object.
    int64_t created_at_us = 0;                // Microseconds since 1970.
    // It stood in dead_tasks and was released; `queue` if others waited behind it (PROTOCOL 5).
    bool was_dead = false;
    std::optional<int64_t> queue;
};

// Which publisher a transaction acts for, and what its thread last knew of it.
struct PublisherState {
    int16_t number = -1;
    int64_t epoch = 0;
    int64_t version = 0;
    int64_t seq = 0;
    int32_t generation = 1;
    std::vector<int16_t> lanes;  // Ascending.
};

struct Probe {
    Snapshot snapshot;
    bool found = false;
};

struct ClaimLimits {
    int32_t task_count = 1;
    int64_t byte_count = 1;
};

// What a claim looks at; as a rule, all that is pending.
struct ClaimScope {
    bool has_released = false;  // Released rows of dead_tasks, before all others (PROTOCOL 3.3).
    bool has_pending = true;
    std::vector<std::string> topics_left_out{};
};

// The open transaction's work: tasks deleted from the outbox, the released ones first, each part in
// id order, and what the floor needs.
struct Claim {
    int64_t seq = 0;
    uint64_t xid = 0;
    Snapshot snapshot;
    std::optional<int64_t> sequence_value;
    std::vector<Task> tasks;
    // The greatest pending id, if this claim left nothing out below it: what the floor may go by.
    std::optional<int64_t> claimed_to;
    // Some selected row was changed or locked away meanwhile: a later one of its key may have been
    // taken, so the claim must be rolled back (PROTOCOL 3.3).
    bool is_torn = false;

    std::vector<pg::Result> results;  // Owns what the tasks point into.
};

// Tasks that were deleted, with what they point into.
struct TakenTasks {
    pg::Result rows;
    std::vector<Task> tasks;  // In id order.
};

// One row: the event id tells it from another that was given the same id.
struct TaskId {
    int16_t lane = 0;
    int64_t id = 0;
    Uuid event_id;
};

// A task that waits, as far as a scan of its topic needs it.
struct WaitingTask {
    TaskId id;
    std::string topic;
    std::chrono::milliseconds created_at{0};  // The time of its record.
};

// Lanes as a parameter.
pg::ArrayBuilder array_of(const std::vector<int16_t>& lanes);
// Rows of lane, id, event_id, topic, created_at.
std::vector<WaitingTask> waiting_of(const pg::Result& rows);
// Lanes and ids of tasks that the ledger names, for a statement that locks the rows of these ids.
pg::Params names_of(const std::vector<LedgerTask>& tasks);
// The one of `tasks`, which are sorted, that such a row (lane, id, event_id) is: with another
// digest it is another task, which was given the id of a lost one.
std::optional<LedgerTask> named_by(const std::vector<LedgerTask>& tasks, const pg::Result& rows,
                                   int row);
std::vector<LedgerTask> present_in(const std::vector<LedgerTask>& tasks, const pg::Result& rows);

// All SQL that changes pending_tasks. Not thread-safe: one per session. Calls throw what Session
// throws.
class Outbox {
  public:
    // Settings that pin the claim's plan; for the session's options.
    static std::vector<std::pair<std::string, std::string>> session_settings();

    explicit Outbox(pg::Session& session) : session_(session) {}

    // Is there a task to claim in these lanes? Read-only: an empty claim would burn a transaction
    // id.
    // One that leaves topics out tells the floor nothing.
    Probe probe(const std::vector<int16_t>& lanes, const Floor& floor,
                const std::vector<std::string>& topics_left_out = {});
    // Opens a transaction, moves the publisher's seq and deletes the oldest tasks of all its lanes:
    // one round trip. Leaves the transaction open, also when it throws: kLost `publisher_lost`
    // or `publisher_changed` (PROTOCOL 3.2), kTransient `pg_conflict` behind a held lock. With both
    // parts in its scope each gets half of the limits.
    Claim claim(const PublisherState& publisher, const Floor& floor, const ClaimLimits& limits,
                const ClaimScope& scope = {});
    // Deletes those of them that are there, in the caller's transaction.
    TakenTasks take_out(const std::vector<TaskId>& tasks);
    // The net under the floor: is there a row at or below it? (PROTOCOL 6.5) Nothing if `limit`
    // was over first: behind an old snapshot the dead rows of hours may stand there. The session
    // must be idle.
    std::optional<bool> has_row_below(const std::vector<int16_t>& lanes, const Floor& floor,
                                      std::chrono::milliseconds limit);
    // Who holds a lock that this session's publisher row or tasks wait for, for a log line.
    std::string blocker();
    // Deletes exactly these tasks, by lane, id and digest, in the caller's transaction; the number
    // deleted (PROTOCOL 4.3).
    int64_t remove(const std::vector<LedgerTask>& tasks);
    // Those of them that are there; locks them.
    std::vector<LedgerTask> present(const std::vector<LedgerTask>& tasks);
    // The next 50,000 by lane and id: for `ledger resume`, while nobody publishes.
    std::vector<WaitingTask> waiting(const TaskId& after);
    // Throws kFatal `claim_plan` unless the claim is a Merge Append over index scans.
    void check_plan(const std::vector<int16_t>& lanes);

  private:
    void prepare(size_t lane_count);
    // The name of the claim's statement of what is pending.
    std::string prepared_claim(const pg::Params& params, size_t lane_count, bool leaves_out);

    pg::Session& session_;
    size_t prepared_lane_count_ = 0;
};

}  // namespace millrace
