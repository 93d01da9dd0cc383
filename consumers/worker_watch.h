#pragma once

#include <mutex>
#include <string>

#include "core/loop_watch.h"

namespace millrace {

// What a loop of a projection shows of itself. Written by its thread, read by others.
class WorkerWatch {
  public:
    explicit WorkerWatch(prometheus::Gauge& waiting_count) : loop(waiting_count) {}

    LoopWatch loop;

    // Why it is halted, empty when it is not.
    void set_halted(const std::string& reason);
    std::string halted() const;

  private:
    mutable std::mutex mutex_;
    std::string halted_;
};

}  // namespace millrace
