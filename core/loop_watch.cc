#include "core/loop_watch.h"

namespace millrace {

namespace {

int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

void LoopWatch::note_progress() { progressed_at_ns_ = now_ns(); }

std::chrono::milliseconds LoopWatch::silence() const {
    const int64_t at = progressed_at_ns_;
    if (at == 0) return std::chrono::milliseconds(0);
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::nanoseconds(now_ns() - at));
}

void LoopWatch::set_waiting(const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (waiting_.empty() && !why.empty()) waiting_count_.Increment();
    if (!waiting_.empty() && why.empty()) waiting_count_.Decrement();
    waiting_ = why;
}

std::string LoopWatch::waiting() const {
    const std::lock_guard lock(mutex_);
    return waiting_;
}

}  // namespace millrace
