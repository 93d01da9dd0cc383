#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>

#include "core/failure.h"

namespace millrace {

// Blocks SIGTERM and SIGINT in the calling thread and in all that it makes: called before any
// thread exists, so that only Lifetime sees them.
void block_stop_signals();

// The life of a process that runs until a signal ends it. One way out: whoever can't go on calls
// fail(), which raises SIGTERM.
class Lifetime {
  public:
    // Runs `body` on a thread of its own until SIGTERM or SIGINT comes or it returns; then requests
    // stop and waits for its end. A second signal, or an end that takes longer than `limit`: the
    // process ends at once with exit code 1. Returns the exit code. Called once, by the main
    // thread.
    int run(const std::function<void(std::stop_token)>& body, std::chrono::milliseconds limit);

    // Records the failure that ends the process, the first one only. Any thread.
    void fail(const Failure& failure);

  private:
    void await_end(std::chrono::milliseconds limit);

    std::mutex mutex_;
    std::optional<Failure> failure_;
    std::atomic<bool> is_stopping_{false};
    std::atomic<bool> is_over_{false};
};

// For a command that ends by itself: runs `body` as Lifetime::run() does. Returns what it returned,
// or throws its Failure, which is not logged: whoever typed the command is told.
int run_command(const std::function<int(std::stop_token)>& body, std::chrono::milliseconds limit);

}  // namespace millrace
