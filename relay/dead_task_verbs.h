#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/pg/session.h"
#include "relay/outbox.h"

namespace millrace {

// A row as operators see it.
struct DeadTask {
    TaskId id{};
    std::string topic;
    std::optional<std::string> key;
    std::string task_type;
    std::string reason;
    std::string detail;
    std::string since;
    std::optional<int64_t> waits_for;  // The first row of its queue, unless it is that one.
    bool is_released = false;          // It, or what it waits for.
    bool begins_queue = false;         // It is the first row of a queue.
};

// Which rows an operator means; what is left out does not matter.
struct DeadFilter {
    std::vector<int64_t> ids{};
    std::optional<std::string> topic{};
    std::optional<std::string> key{};
    std::optional<std::string> reason{};
    bool heads_only = false;  // Not what waits behind another.
    int limit = 1000;
    // Behind this row, in the order of the lists.
    std::optional<TaskId> after{};
};

// One row with everything it holds, for people.
struct DeadTaskContent {
    std::optional<std::string> tenant_id;
    std::optional<std::string> actor_id;
    std::optional<std::string> headers;
    std::optional<std::string> payload;  // JSON; or the bytes in base64.
    bool payload_is_bytes = false;
    std::string created_at;
    int64_t waiting_count = 0;  // Behind it.
};

// What became of one row.
enum class DeadOutcome { kDone, kReleasedAlready, kWaitsBehind, kInFlight, kGone };

// What operators ask and order about dead_tasks (PROTOCOL 5.2). Each order is one transaction for
// rows of one lane, under the locks of the lane and its owner's row; it raises the owner's version,
// by which the owner learns of it. Not thread-safe: one per session.
class DeadTaskVerbs {
  public:
    explicit DeadTaskVerbs(pg::Session& session) : session_(session) {}

    // In the order of lane, id and event id.
    std::vector<DeadTask> list(const DeadFilter& filter);
    // Nothing if the row is gone.
    std::optional<DeadTaskContent> content(const TaskId& task);
    // An outcome for each task, in their order. The owner is told if `wakes`; it looks by itself
    // each ten seconds, too. An owner that is told reads all its parked keys again: with many
    // orders for a lane, the last one tells.
    std::vector<DeadOutcome> release(int16_t lane, const std::vector<DeadTask>& tasks,
                                     const std::string& reason, bool wakes = true);
    // What waited behind a discarded task is released. A released row in a lane that a publisher
    // owns may have been published a moment ago, which only a settle can tell: it is left alone.
    std::vector<DeadOutcome> discard(int16_t lane, const std::vector<DeadTask>& tasks,
                                     const std::string& reason);

  private:
    enum class Verb { kRelease, kDiscard };
    std::vector<DeadOutcome> order(Verb verb, int16_t lane, const std::vector<DeadTask>& tasks,
                                   const std::string& reason, bool wakes);
    DeadOutcome release_one(const TaskId& task);
    DeadOutcome discard_one(const TaskId& task, bool is_owned);

    pg::Session& session_;
};

}  // namespace millrace
