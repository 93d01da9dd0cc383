#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace millrace {

// What a loop shows of itself. Written by its thread, read by others.
class WorkerWatch {
  public:
    void note_progress();
    // Time since the last step; zero before the first.
    std::chrono::seconds silence() const;

    // Why it does not apply, empty when it does; and why it is halted, empty when it is not.
    void set_waiting(const std::string& why);
    void set_halted(const std::string& reason);
    std::string waiting() const;
    std::string halted() const;

  private:
    mutable std::mutex mutex_;
    std::string waiting_;
    std::string halted_;
    std::atomic<int64_t> progressed_at_ns_{0};  // Steady clock; 0: never.
};

}  // namespace millrace
