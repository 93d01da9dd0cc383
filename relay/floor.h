#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "core/pg/params.h"

namespace millrace {

// What PostgreSQL's pg_snapshot says: which transactions had ended when it was taken. A value.
struct Snapshot {
    uint64_t xmin = 1;          // All below have ended.
    uint64_t xmax = 1;          // None from here on had ended. Not the next xid: the newest
                                // running ones may be above it and in no list.
    std::vector<uint64_t> xip;  // Running, ascending, xmin <= xid < xmax.

    // As pg_snapshot_send writes it: int4 count, int8 xmin, int8 xmax, int8 each of xip.
    static Snapshot from_binary(std::string_view bytes);

    bool is_finished(uint64_t xid) const;
};

// Up to which id a publisher's lanes hold nothing it has yet to publish, so that a claim can skip
// the dead row versions there (PROTOCOL 6). One for all lanes of a publisher; used by the
// publisher's thread alone; no I/O, never blocks.
//
// The caller reports every claim whose COMMIT is confirmed and every look that found nothing, and
// nothing else: reporting a claim that was rolled back after it returned or locked rows loses them.
// The snapshot is the one that the publisher's UPDATE returned, never the DELETE's own.
class Floor {
  public:
    // A claim's COMMIT was confirmed, and its pending part ran. `xid` and `sequence_value` (of
    // pg_sequence_last_value) come from its UPDATE; `last_id` is its greatest id, whatever cut it;
    // none: it returned no row.
    void claimed(const Snapshot& snapshot, uint64_t xid, std::optional<int64_t> sequence_value,
                 std::optional<int64_t> last_id);
    // A probe, or a claim that was then rolled back, returned no row and locked none.
    void found_nothing(const Snapshot& snapshot);
    // At each settle and each gained lane (PROTOCOL 4.5), and when a row is found below (6.5).
    void clear();

    // Appends the parameters $1 to $3 of kEffectiveFloorSql.
    void bind(pg::Params& params) const;

    int64_t floor() const { return floor_; }
    // Transactions that may yet show ids at or below the floor, each with the floor to go back to.
    const std::map<uint64_t, int64_t>& late() const { return late_; }
    // How often the sequence went backwards and everything was cleared (PROTOCOL 6.3).
    int64_t sequence_reset_count() const { return sequence_reset_count_; }

  private:
    // Every id <= sequence_value was drawn by a transaction older than xid.
    struct Mark {
        uint64_t xid;
        int64_t sequence_value;
    };

    void end_late(const Snapshot& snapshot, int64_t claimed_to);
    void promote(const Snapshot& snapshot, int64_t claimed_to);
    void raise_to(int64_t floor, uint64_t mark_xid, const Snapshot& snapshot);
    void add_mark(uint64_t xid);
    bool went_backwards(std::optional<int64_t> sequence_value) const;

    int64_t floor_ = 0;
    std::deque<Mark> marks_;  // Oldest first.
    std::map<uint64_t, int64_t> late_;
    std::optional<int64_t> last_sequence_value_;  // As the last reported claim returned it.
    int64_t sequence_reset_count_ = 0;
};

// From which id on a claim or probe must look: a transaction that has ended meanwhile takes it back
// to the floor from before that transaction was passed. It stands inside the claim's own statement
// because only that statement's snapshot decides which rows it can see (PROTOCOL 6.4).
constexpr std::string_view kEffectiveFloorSql =
    R"(coalesce((SELECT min(late.floor)
                   FROM unnest($1::bigint[], $2::bigint[]) AS late(xid, floor)
                  WHERE pg_visible_in_snapshot(late.xid::text::xid8, pg_current_snapshot())),
                $3::bigint))";

}  // namespace millrace
