#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "core/pg/params.h"
#include "relay/floor.h"

namespace millrace::test {

// All that a claim learns, so that a wrong rule can use what the right one must not.
struct ClaimFacts {
    Snapshot snapshot;  // Of the publisher's UPDATE.
    uint64_t xid = 0;
    std::optional<int64_t> sequence_value;
    std::optional<int64_t> last_id;
    bool is_cut_by_count = false;
};

// Decides from which id on a model publisher looks. The right one is the relay's Floor; the others
// are the wrong ones that PROTOCOL 6 lists, kept to show that the tests would find them.
class FloorRule {
  public:
    virtual ~FloorRule() = default;

    virtual void committed(const ClaimFacts& facts) = 0;
    virtual void rolled_back(const ClaimFacts& facts) = 0;
    virtual void found_nothing(const Snapshot& snapshot) = 0;
    virtual void gained_lane() = 0;
    virtual void settled() = 0;

    // The relay's own floor, with which the relay's own claim is tested; none: a model's.
    virtual const Floor* relay_floor() const { return nullptr; }
    // For a model's claim and probe: the parameters of kEffectiveFloorSql, and the lanes.
    virtual void bind_claim(pg::Params& params) = 0;
    virtual void bind_probe(pg::Params& params) const = 0;
    virtual std::vector<int16_t> lanes_of_claim(const std::vector<int16_t>& owned,
                                                const std::set<int16_t>& seen_filled) const;
    virtual int64_t floor() const = 0;
    virtual size_t late_count() const = 0;
};

using MakeRule = std::function<std::unique_ptr<FloorRule>()>;

MakeRule right_floor();
// PROTOCOL 6 written a second time: what the wrong ones are made of.
MakeRule model_floor();
// The relay's floor, held against the model's at every step.
MakeRule compared_floor();

MakeRule last_id_claimed();
MakeRule last_id_claimed_with_sweep();
MakeRule mark_of_snapshot_xmax();
MakeRule promotion_beyond_the_claim();
MakeRule late_entry_dropped_while_running();
MakeRule promotion_by_rolled_back_claim();
MakeRule byte_cut_taken_for_exhaustive();
MakeRule empty_lane_left_out();
MakeRule not_cleared_for_gained_lane();

}  // namespace millrace::test
