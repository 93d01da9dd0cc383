#include "relay/floor.h"

#include <algorithm>
#include <limits>

#include "core/check.h"

namespace millrace {

namespace {

// C of a look that returned no row (PROTOCOL 6).
constexpr int64_t kEverything = std::numeric_limits<int64_t>::max();

// A publisher with a long backlog gets a mark a claim and uses none up. To leave a mark out is
// always safe, and the newest kept one serves until the backlog has passed it.
constexpr size_t kMarkCountMax = 1024;

uint64_t read_uint64(std::string_view bytes, size_t offset) {
    uint64_t number = 0;
    for (size_t i = 0; i < sizeof(number); ++i) {
        number = number << 8 | static_cast<unsigned char>(bytes[offset + i]);
    }
    return number;
}

}  // namespace

void Floor::claimed(const Snapshot& snapshot, uint64_t xid, std::optional<int64_t> sequence_value,
                    std::optional<int64_t> last_id) {
    if (went_backwards(sequence_value)) {
        clear();
        ++sequence_reset_count_;
        last_sequence_value_ = sequence_value;
        return;
    }
    const int64_t claimed_to = last_id.value_or(kEverything);
    end_late(snapshot, claimed_to);
    promote(snapshot, claimed_to);
    add_mark(xid);
    last_sequence_value_ = sequence_value;
}

void Floor::found_nothing(const Snapshot& snapshot) {
    end_late(snapshot, kEverything);
    promote(snapshot, kEverything);
}

void Floor::clear() {
    floor_ = 0;
    marks_.clear();
    late_.clear();
    last_sequence_value_.reset();
}

void Floor::bind(pg::Params& params) const {
    pg::ArrayBuilder xids(pg::Type::kInt8);
    pg::ArrayBuilder floors(pg::Type::kInt8);
    for (const auto& [xid, floor] : late_) {
        xids.add_int8(static_cast<int64_t>(xid));
        floors.add_int8(floor);
    }
    params.array(xids).array(floors).int8(floor_);
}

// PROTOCOL 6.1: the look began at or below such an entry's floor, so what lies between there and
// `claimed_to` is done.
void Floor::end_late(const Snapshot& snapshot, int64_t claimed_to) {
    for (auto entry = late_.begin(); entry != late_.end();) {
        if (!snapshot.is_finished(entry->first)) {
            ++entry;
        } else if (claimed_to >= floor_) {
            entry = late_.erase(entry);
        } else {
            entry->second = claimed_to;
            ++entry;
        }
    }
}

// PROTOCOL 6.2. A mark above the snapshot's xmax is not ripe: a transaction older than it may run
// and be in no list.
void Floor::promote(const Snapshot& snapshot, int64_t claimed_to) {
    while (!marks_.empty() && marks_.front().xid <= snapshot.xmax) {
        const Mark mark = marks_.front();
        const int64_t floor = std::min(mark.sequence_value, claimed_to);
        if (floor > floor_) raise_to(floor, mark.xid, snapshot);
        if (mark.sequence_value > claimed_to) return;
        marks_.pop_front();
    }
}

// Whoever still runs may commit ids that the new floor passes: such rows are looked for from the
// old floor on, as soon as they can be seen.
void Floor::raise_to(int64_t floor, uint64_t mark_xid, const Snapshot& snapshot) {
    for (const uint64_t running : snapshot.xip) {
        if (running >= mark_xid) break;
        late_.try_emplace(running, floor_);
    }
    floor_ = floor;
}

// PROTOCOL 6.3: the value that the previous claim read goes with this claim's xid, which was given
// out after that read. The value read by this claim would not do: its own xid is older.
void Floor::add_mark(uint64_t xid) {
    if (!last_sequence_value_ || marks_.size() >= kMarkCountMax) return;
    if (!marks_.empty() && marks_.back().sequence_value == *last_sequence_value_) return;
    marks_.push_back({.xid = xid, .sequence_value = *last_sequence_value_});
}

// RESTART, TRUNCATE RESTART IDENTITY and setval(..., false) leave no value at all.
bool Floor::went_backwards(std::optional<int64_t> sequence_value) const {
    return last_sequence_value_ && (!sequence_value || *sequence_value < *last_sequence_value_);
}

Snapshot Snapshot::from_binary(std::string_view bytes) {
    constexpr size_t kHeaderSize = 4 + 8 + 8;
    MILLRACE_CHECK(bytes.size() >= kHeaderSize && (bytes.size() - kHeaderSize) % 8 == 0,
                   "a pg_snapshot has 20 bytes and 8 for each running transaction");
    Snapshot snapshot{.xmin = read_uint64(bytes, 4), .xmax = read_uint64(bytes, 12), .xip = {}};
    for (size_t offset = kHeaderSize; offset < bytes.size(); offset += 8) {
        snapshot.xip.push_back(read_uint64(bytes, offset));
    }
    return snapshot;
}

bool Snapshot::is_finished(uint64_t xid) const {
    if (xid < xmin) return true;
    return xid < xmax && !std::binary_search(xip.begin(), xip.end(), xid);
}

}  // namespace millrace
