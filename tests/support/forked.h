#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>

namespace millrace::test {

// A process that runs one function of the test, for what must be killed or stopped. To be made
// while the test has no other thread. Killed when destroyed.
class Forked {
  public:
    explicit Forked(const std::function<void()>& run);
    ~Forked();
    Forked(const Forked&) = delete;
    Forked& operator=(const Forked&) = delete;

    void signal(int number) const;
    // True once it is stopped (SIGSTOP).
    bool wait_stopped(std::chrono::milliseconds limit);

  private:
    pid_t pid_;
};

}  // namespace millrace::test
