#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/pg/session.h"

namespace millrace {

struct LaneReport {
    int16_t lane = 0;
    std::optional<int16_t> publisher;
    std::optional<std::string> owner;  // Instance that runs the publisher.
    bool is_owner_live = false;
    std::optional<std::string> halted;
    bool is_paused = false;
    int64_t task_count = 0;  // Counted up to a limit.
    int64_t oldest_age_seconds = 0;
};

struct PublisherReport {
    int16_t number = 0;
    int64_t epoch = 0;
    int64_t seq = 0;
    std::optional<std::string> halted;
    std::optional<std::string> ledger_topic_id;
    std::optional<std::string> owner;
    bool is_owner_live = false;
};

// Tasks that wait, of those looked at.
struct BacklogShare {
    int16_t lane = 0;
    std::string topic;
    int64_t task_count = 0;
    int64_t oldest_age_seconds = 0;
};

enum class LaneVerb { kPause, kUnpause, kResume };

// What operators ask and order: all SQL of their verbs on the relay's tables. Orders only set flags
// and bump the owner's version; the owner acts on them (PROTOCOL 2.6). Not thread-safe: one per
// session.
class Operator {
  public:
    explicit Operator(pg::Session& session) : session_(session) {}

    // Counts tasks up to `task_count_max` in each lane.
    std::vector<LaneReport> lanes(int task_count_max);
    // One transaction; waits for the transaction its owner is in. False if there was nothing to
    // change.
    bool change_lane(LaneVerb verb, int16_t lane, const std::string& reason);

    // Over the first `task_count_max` rows.
    std::vector<BacklogShare> backlog(int task_count_max);
    std::vector<PublisherReport> publishers();
    // Each halted lane, and the halted publishers by reason, in words; empty: nothing is.
    std::vector<std::string> halted();
    void record_act(const std::string& verb, const std::string& object, const std::string& reason);

    // The rest runs in the caller's transaction.
    // Locks all publishers, then all lanes, each by number.
    std::vector<PublisherReport> lock_fleet();
    // For `ledger resume` (PROTOCOL 4.6, 1): still halted, the next generation.
    void set_ledger_state(int16_t number, int64_t seq, int64_t epoch_least,
                          const std::string& ledger_topic_id);
    // And its end (PROTOCOL 4.6, 3): every publisher is free to be taken.
    void reopen_publishers();
    // In a copy that becomes an installation of its own: nothing published yet. Returns how many
    // tasks of the original wait.
    int64_t begin_anew();

  private:
    pg::Session& session_;
};

}  // namespace millrace
