#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/pg/session.h"
#include "core/uuid.h"
#include "relay/outbox.h"

namespace millrace {

constexpr int kPublisherCount = 32;

// A publisher that nobody alive runs (PROTOCOL 2.1), as judged in a statement of its own.
struct FreePublisher {
    int16_t number = 0;
    int64_t epoch = 0;
    bool has_lanes = false;  // Its lanes wait for a settle.
    bool had_owner = false;
    int64_t pid = 0;         // Of the session that claimed for it.
    int64_t started = 0;
};

// What a settle finds under the row's lock.
struct LockedPublisher {
    int64_t seq = 0;
    int64_t version = 0;
    int32_t generation = 1;
    std::optional<std::string> halted;
    std::optional<std::string> ledger_topic_id;
};

// One of all 32, as the look at the others sees it (PROTOCOL 4.4).
struct PublisherSeq {
    int16_t number = 0;
    int64_t epoch = 0;
    int64_t seq = 0;
    std::optional<std::string> ledger_topic_id;
};

// How a publisher's lanes should change (PROTOCOL 2.6, Share).
struct LaneShare {
    std::vector<int16_t> to_give;  // Above the share, halted or paused.
    int to_take = 0;
    int64_t version = 0;  // As the row says.
    bool is_settled() const { return to_give.empty() && to_take == 0; }
};

// All SQL on relay_publishers and relay_lanes that a relay process runs but the backlog's;
// operators' verbs stand in operator.h. Not thread-safe: one per session. Order of locks:
// publishers by number, then lanes.
class Publishers {
  public:
    explicit Publishers(pg::Session& session) : session_(session) {}

    // `mine` is what the calling thread remembers of its own publisher, epoch and all.
    std::vector<FreePublisher> find_free(const std::optional<PublisherState>& mine);
    // Takes it for `owner` if it is still as judged and not locked; its claims will come from the
    // session (pid, started). One autocommitted statement.
    std::optional<PublisherState> take(const FreePublisher& free, const Uuid& owner, int64_t pid,
                                       int64_t started);
    // Ends the session that holds a free publisher's row (PROTOCOL 2.4). True if there was one.
    bool terminate(int64_t pid, int64_t started);
    // Number and epoch of each that `owner` has by the database.
    std::vector<std::pair<int16_t, int64_t>> owned_by(const Uuid& owner);
    // Owner null where it is still at this epoch; false if it was not, or its row is locked.
    bool relieve(int16_t number, int64_t epoch);
    // How many are halted, by reason.
    struct Halted {
        std::map<std::string, int> lanes;
        std::map<std::string, int> publishers;
    };
    Halted halted();

    // The rest runs in the caller's transaction.
    // Locks the row for an owner's change; throws kLost `publisher_lost`, `publisher_changed`.
    void check(const PublisherState& publisher);
    // Locks the row whatever its version; throws kLost `publisher_lost` at another epoch.
    LockedPublisher lock(const PublisherState& publisher);
    // Locks another's row and reads its seq, unless somebody holds it.
    std::optional<LockedPublisher> lock_other(int16_t number);
    // Locks all rows by number.
    std::vector<PublisherSeq> lock_all();
    std::vector<PublisherSeq> read_all();

    void set_seq(int16_t number, int64_t seq);
    void set_running(int16_t number);
    void set_ledger_topic(int16_t number, const std::string& topic_id);
    void bump_version(int16_t number);
    void halt_all(const std::string& reason);
    // Owner null where it is still at this epoch; false if it was not.
    bool release(const PublisherState& publisher);
    // Releases a publisher whose newest record `instance` can't read, and halts it if no other
    // member is there that might; `find_free` still gives it, to be tried again (PROTOCOL 4.1).
    void leave_unread(const PublisherState& publisher, const std::string& reason,
                      const Uuid& instance);

    std::vector<int16_t> lanes_of(int16_t number);
    void free_lanes(int16_t number, const std::vector<int16_t>& lanes);
    void free_all_lanes(int16_t number);
    // Lets halted and paused lanes go; they come back by their operators' verbs.
    void free_idle_lanes(int16_t number);
    // Up to `count` lanes that nobody has.
    std::vector<int16_t> take_free_lanes(int16_t number, int count);
    // False if the lane is another's by now: only its owner's thread may let it go (PROTOCOL 2.6).
    bool halt_lane(int16_t number, int16_t lane, const std::string& reason);

    // Read-only: what should change for this publisher to have its share.
    LaneShare share_of(const PublisherState& publisher);

  private:
    pg::Session& session_;
};

}  // namespace millrace
