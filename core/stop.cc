#include "core/stop.h"

#include <condition_variable>
#include <mutex>

namespace millrace {

bool wait_for(std::stop_token stop, std::chrono::nanoseconds duration) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    changed.wait_for(lock, stop, duration, [] { return false; });
    return !stop.stop_requested();
}

}  // namespace millrace
