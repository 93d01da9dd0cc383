#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "core/failure.h"

namespace millrace {

// A thread whose Failure is kept for whoever waits for it. Destruction stops it and waits for its
// end, and forgets its failure. One thread's, but for has_ended().
class Part {
  public:
    template <typename Body>
    explicit Part(Body body)
        : thread_([this, body](std::stop_token stop) {
              try {
                  body(std::move(stop));
              } catch (const Failure& failure) {
                  const std::lock_guard lock(mutex_);
                  failure_ = failure;
              }
              has_ended_ = true;
          }) {}

    // Returns at once.
    void request_stop() { thread_.request_stop(); }
    // Waits until it ends by itself, and does what check() does.
    void join() {
        if (thread_.joinable()) thread_.join();
        check();
    }
    void stop() {
        request_stop();
        join();
    }
    // Throws the Failure that ended it, if one did.
    void check() {
        const std::lock_guard lock(mutex_);
        if (failure_) throw *failure_;
    }
    bool has_ended() const { return has_ended_; }

  private:
    std::mutex mutex_;
    std::optional<Failure> failure_;
    std::atomic<bool> has_ended_{false};
    std::jthread thread_;  // Last: it uses what stands above.
};

}  // namespace millrace
