#include "consumers/storm_breaker.h"

#include <algorithm>

namespace millrace {

void StormBreaker::note_good(size_t count) {
    if (count == 0) return;
    event_count_ += count;
    row_ = 0;
    forget_old();
}

void StormBreaker::note_letter() {
    letters_.push_back(event_count_++);
    ++row_;
    forget_old();
}

std::string StormBreaker::text() const {
    if (row_ >= limits_.in_a_row) return std::to_string(row_) + " events in a row are poisoned";
    return std::to_string(letters_.size()) + " of the last " +
           std::to_string(std::min<uint64_t>(event_count_, limits_.event_count_window)) +
           " events are poisoned";
}

size_t StormBreaker::count_max() const {
    return static_cast<size_t>(limits_.share * static_cast<double>(limits_.event_count_window));
}

void StormBreaker::forget_old() {
    while (!letters_.empty() &&
           letters_.front() + limits_.event_count_window < event_count_) {
        letters_.pop_front();
    }
}

}  // namespace millrace
