#include "consumers/worker_watch.h"

namespace millrace {

void WorkerWatch::set_halted(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    halted_ = reason;
}

std::string WorkerWatch::halted() const {
    const std::lock_guard lock(mutex_);
    return halted_;
}

}  // namespace millrace
