#pragma once

#include <prometheus/gauge.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace millrace {

// What a loop shows of itself: that it goes on, and why it can't do its work. Written by its
// thread, read by others.
class LoopWatch {
  public:
    // `waiting_count` counts the loops that wait; it is shared by those of one kind.
    explicit LoopWatch(prometheus::Gauge& waiting_count) : waiting_count_(waiting_count) {}

    void note_progress();
    // Time since the last step; zero before the first.
    std::chrono::milliseconds silence() const;

    // Why it does not do its work; empty when it does.
    void set_waiting(const std::string& why);
    std::string waiting() const;

  private:
    prometheus::Gauge& waiting_count_;
    mutable std::mutex mutex_;
    std::string waiting_;
    std::atomic<int64_t> progressed_at_ns_{0};  // Steady clock; 0: never.
};

}  // namespace millrace
