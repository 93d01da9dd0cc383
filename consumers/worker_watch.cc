#include "consumers/worker_watch.h"

namespace millrace {

namespace {

int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

void WorkerWatch::note_progress() { progressed_at_ns_ = now_ns(); }

std::chrono::seconds WorkerWatch::silence() const {
    const int64_t at = progressed_at_ns_;
    if (at == 0) return std::chrono::seconds(0);
    return std::chrono::duration_cast<std::chrono::seconds>(
        std::chrono::nanoseconds(now_ns() - at));
}

void WorkerWatch::set_waiting(const std::string& why) {
    const std::lock_guard lock(mutex_);
    waiting_ = why;
}

void WorkerWatch::set_halted(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    halted_ = reason;
}

std::string WorkerWatch::waiting() const {
    const std::lock_guard lock(mutex_);
    return waiting_;
}

std::string WorkerWatch::halted() const {
    const std::lock_guard lock(mutex_);
    return halted_;
}

}  // namespace millrace
