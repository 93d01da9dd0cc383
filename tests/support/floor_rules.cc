#include "tests/support/floor_rules.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

#include "core/check.h"

namespace millrace::test {

namespace {

constexpr int64_t kEverything = std::numeric_limits<int64_t>::max();

using Late = std::map<uint64_t, int64_t>;

void bind_floor(pg::Params& params, const Late& late, int64_t floor) {
    pg::ArrayBuilder xids(pg::Type::kInt8);
    pg::ArrayBuilder floors(pg::Type::kInt8);
    for (const auto& [xid, late_floor] : late) {
        xids.add_int8(static_cast<int64_t>(xid));
        floors.add_int8(late_floor);
    }
    params.array(xids).array(floors).int8(floor);
}

class RightFloor : public FloorRule {
  public:
    void committed(const ClaimFacts& facts) override {
        floor_.claimed(facts.snapshot, facts.xid, facts.sequence_value, facts.last_id);
    }
    void rolled_back(const ClaimFacts&) override {}
    void found_nothing(const Snapshot& snapshot) override { floor_.found_nothing(snapshot); }
    void gained_lane() override { floor_.clear(); }
    void settled() override { floor_.clear(); }

    const Floor* relay_floor() const override { return &floor_; }
    void bind_claim(pg::Params& params) override { floor_.bind(params); }
    void bind_probe(pg::Params& params) const override { floor_.bind(params); }
    int64_t floor() const override { return floor_.floor(); }
    size_t late_count() const override { return floor_.late().size(); }
    const Late& late() const { return floor_.late(); }

  private:
    Floor floor_;
};

// PROTOCOL 6.1 to 6.3 once more, as a list of steps with a seam for each wrong variant.
class ModelFloor : public FloorRule {
  public:
    void committed(const ClaimFacts& facts) override {
        if (last_value_ && facts.sequence_value.value_or(-1) < *last_value_) {
            clear();
        } else {
            looked(facts.snapshot, claim_end(facts));
            add_mark(facts);
        }
        last_value_ = facts.sequence_value;
    }
    void rolled_back(const ClaimFacts&) override {}
    void found_nothing(const Snapshot& snapshot) override { looked(snapshot, kEverything); }
    void gained_lane() override { clear(); }
    void settled() override { clear(); }

    void bind_claim(pg::Params& params) override { bind_floor(params, late_, floor_); }
    void bind_probe(pg::Params& params) const override { bind_floor(params, late_, floor_); }
    int64_t floor() const override { return floor_; }
    size_t late_count() const override { return late_.size(); }
    const Late& late() const { return late_; }

  protected:
    struct Mark {
        uint64_t xid;
        int64_t value;
    };

    virtual std::optional<Mark> mark_of(const ClaimFacts& facts) const {
        if (!last_value_) return std::nullopt;
        return Mark{facts.xid, *last_value_};
    }
    virtual int64_t claim_end(const ClaimFacts& facts) const {
        return facts.last_id.value_or(kEverything);
    }
    virtual int64_t promoted_to(int64_t value, int64_t end) const { return std::min(value, end); }
    virtual bool is_over(uint64_t xid, const Snapshot& snapshot) const {
        return snapshot.is_finished(xid);
    }

  private:
    void clear() {
        floor_ = 0;
        marks_.clear();
        late_.clear();
        last_value_.reset();
    }

    void looked(const Snapshot& snapshot, int64_t end) {
        Late kept;
        for (const auto& [xid, late_floor] : late_) {
            if (!is_over(xid, snapshot)) {
                kept[xid] = late_floor;
            } else if (end < floor_) {
                kept[xid] = end;
            }
        }
        late_ = std::move(kept);
        for (auto mark = marks_.begin(); mark != marks_.end(); mark = marks_.erase(mark)) {
            if (mark->xid > snapshot.xmax) return;
            const int64_t next = promoted_to(mark->value, end);
            if (next > floor_) {
                for (const uint64_t running : snapshot.xip) {
                    if (running < mark->xid && !late_.contains(running)) late_[running] = floor_;
                }
                floor_ = next;
            }
            if (mark->value > end) return;
        }
    }

    void add_mark(const ClaimFacts& facts) {
        const std::optional<Mark> mark = mark_of(facts);
        if (!mark) return;
        if (!marks_.empty() && marks_.back().value == mark->value) return;
        marks_.push_back(*mark);
    }

    int64_t floor_ = 0;
    std::deque<Mark> marks_;
    Late late_;
    std::optional<int64_t> last_value_;
};

class ComparedFloor : public FloorRule {
  public:
    void committed(const ClaimFacts& facts) override {
        right_.committed(facts);
        model_.committed(facts);
        compare();
    }
    void rolled_back(const ClaimFacts&) override {}
    void found_nothing(const Snapshot& snapshot) override {
        right_.found_nothing(snapshot);
        model_.found_nothing(snapshot);
        compare();
    }
    void gained_lane() override { settled(); }
    void settled() override {
        right_.settled();
        model_.settled();
        compare();
    }

    const Floor* relay_floor() const override { return right_.relay_floor(); }
    void bind_claim(pg::Params& params) override { right_.bind_claim(params); }
    void bind_probe(pg::Params& params) const override { right_.bind_probe(params); }
    int64_t floor() const override { return right_.floor(); }
    size_t late_count() const override { return right_.late_count(); }

  private:
    void compare() const {
        MILLRACE_CHECK(right_.floor() == model_.floor() && right_.late() == model_.late(),
                       "both writings of PROTOCOL 6 agree");
    }

    RightFloor right_;
    ModelFloor model_;
};

// Loses: whoever commits a lower id later is never looked for.
class LastIdClaimed : public FloorRule {
  public:
    void committed(const ClaimFacts& facts) override {
        last_id_ = std::max(last_id_, facts.last_id.value_or(0));
    }
    void rolled_back(const ClaimFacts&) override {}
    void found_nothing(const Snapshot&) override {}
    void gained_lane() override { last_id_ = 0; }
    void settled() override { last_id_ = 0; }

    void bind_claim(pg::Params& params) override { bind_floor(params, {}, last_id_); }
    void bind_probe(pg::Params& params) const override { bind_floor(params, {}, last_id_); }
    int64_t floor() const override { return last_id_; }
    size_t late_count() const override { return 0; }

  private:
    int64_t last_id_ = 0;
};

// Reorders: the sweep finds what was passed, but after its successors.
class LastIdClaimedWithSweep : public LastIdClaimed {
  public:
    void bind_claim(pg::Params& params) override {
        if (++claim_count_ % kSweepEvery == 0) {
            bind_floor(params, {}, 0);
        } else {
            LastIdClaimed::bind_claim(params);
        }
    }

  private:
    static constexpr int kSweepEvery = 5;

    int claim_count_ = 0;
};

// Loses: xmax is the newest ended xid + 1, so the newest running writer is in no list.
class MarkOfSnapshotXmax : public ModelFloor {
  protected:
    std::optional<Mark> mark_of(const ClaimFacts& facts) const override {
        if (!facts.sequence_value) return std::nullopt;
        return Mark{facts.snapshot.xmax, *facts.sequence_value};
    }
};

// Loses: the rows behind the claim's LIMIT.
class PromotionBeyondTheClaim : public ModelFloor {
  protected:
    int64_t promoted_to(int64_t value, int64_t) const override { return value; }
};

// Loses: the entry is gone when its transaction commits.
class LateEntryDroppedWhileRunning : public ModelFloor {
  protected:
    bool is_over(uint64_t, const Snapshot&) const override { return true; }
};

// Loses: the rows are back in the table, below the floor.
class PromotionByRolledBackClaim : public ModelFloor {
  public:
    void rolled_back(const ClaimFacts& facts) override { committed(facts); }
};

// Loses: the rows that did not fit; fewer than LIMIT is not all.
class ByteCutTakenForExhaustive : public ModelFloor {
  protected:
    int64_t claim_end(const ClaimFacts& facts) const override {
        return facts.is_cut_by_count ? *facts.last_id : kEverything;
    }
};

// Reorders: rows committed in that lane since the probe fall behind the floor, and come up again
// only when the floor is cleared, after their successors.
class EmptyLaneLeftOut : public ModelFloor {
  public:
    std::vector<int16_t> lanes_of_claim(const std::vector<int16_t>& owned,
                                        const std::set<int16_t>& seen_filled) const override {
        std::vector<int16_t> lanes;
        std::copy_if(owned.begin(), owned.end(), std::back_inserter(lanes),
                     [&](int16_t lane) { return seen_filled.contains(lane); });
        return lanes.empty() ? owned : lanes;
    }
};

// Loses: the floor says nothing about rows of lanes that somebody else owned.
class NotClearedForGainedLane : public ModelFloor {
  public:
    void gained_lane() override {}
};

template <typename Rule>
MakeRule maker() {
    return [] { return std::make_unique<Rule>(); };
}

}  // namespace

std::vector<int16_t> FloorRule::lanes_of_claim(const std::vector<int16_t>& owned,
                                               const std::set<int16_t>&) const {
    return owned;
}

MakeRule right_floor() { return maker<RightFloor>(); }
MakeRule model_floor() { return maker<ModelFloor>(); }
MakeRule compared_floor() { return maker<ComparedFloor>(); }
MakeRule last_id_claimed() { return maker<LastIdClaimed>(); }
MakeRule last_id_claimed_with_sweep() { return maker<LastIdClaimedWithSweep>(); }
MakeRule mark_of_snapshot_xmax() { return maker<MarkOfSnapshotXmax>(); }
MakeRule promotion_beyond_the_claim() { return maker<PromotionBeyondTheClaim>(); }
MakeRule late_entry_dropped_while_running() { return maker<LateEntryDroppedWhileRunning>(); }
MakeRule promotion_by_rolled_back_claim() { return maker<PromotionByRolledBackClaim>(); }
MakeRule byte_cut_taken_for_exhaustive() { return maker<ByteCutTakenForExhaustive>(); }
MakeRule empty_lane_left_out() { return maker<EmptyLaneLeftOut>(); }
MakeRule not_cleared_for_gained_lane() { return maker<NotClearedForGainedLane>(); }

}  // namespace millrace::test
