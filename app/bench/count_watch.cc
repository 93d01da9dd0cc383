#include "app/bench/count_watch.h"

#include <utility>

#include "core/failure.h"

namespace millrace {

CountWatch::CountWatch(std::chrono::seconds patience, std::function<std::string()> complaint)
    : patience_(patience), complaint_(std::move(complaint)) {}

bool CountWatch::note(int64_t count, Clock::time_point at) {
    if (count > count_) {
        count_ = count;
        moved_at_ = at;
        if (!first_moved_at_) first_moved_at_ = at;
        return true;
    }
    if (at - moved_at_ > patience_) throw fatal("bench_unsound", complaint_());
    return false;
}

double CountWatch::seconds() const {
    if (!first_moved_at_ || *first_moved_at_ == moved_at_) {
        throw fatal("bench_unsound",
                    "all of it came between two looks, too little to be measured: "
                    "take more (--tasks)");
    }
    return std::chrono::duration<double>(moved_at_ - *first_moved_at_).count();
}

}  // namespace millrace
