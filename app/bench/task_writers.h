#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "app/scratch/part.h"
#include "core/pg/session.h"

namespace millrace {

// Applications that insert tasks in an open loop: each transaction has its slot in time, whatever
// became of those before it. Threads of their own, one session each.
class TaskWriters {
  public:
    using Clock = std::chrono::steady_clock;
    struct Options {
        pg::SessionOptions session{};
        std::string topic{};
        int64_t key_count = 100'000;
        double tasks_per_second = 1000;
        int tasks_per_transaction = 1;
        int writer_count = 4;
        std::chrono::milliseconds duration{10'000};
        int64_t first_number = 0;
        // With arrays of keys ($1) and payloads ($2); into the outbox, for `topic`, if empty.
        std::string insert{};
    };

    // Begins at once.
    explicit TaskWriters(Options options);
    // As stop(), but throws nothing.
    ~TaskWriters() { request_stop(); }
    TaskWriters(const TaskWriters&) = delete;
    TaskWriters& operator=(const TaskWriters&) = delete;

    // Waits for the end of the last slot. Throws the Failure that ended one of them.
    void join();
    // Ends early. Throws the Failure that had ended one of them before.
    void stop();
    bool is_done() const;

    // How many numbers there are, from first_number on.
    int64_t task_count() const { return task_count_; }
    // When the COMMIT of a task's transaction returned; nothing while it did not. Any thread.
    std::optional<Clock::time_point> committed_at(int64_t number) const;
    int64_t committed_count() const { return committed_count_.load(); }
    // The greatest delay of a transaction behind its slot: the writers' own fault, not the relay's.
    std::chrono::nanoseconds delay_max() const { return Clock::duration(delay_max_.load()); }
    Clock::time_point began_at() const { return began_at_; }

  private:
    void request_stop();
    void write(const std::stop_token& stop);
    void insert(pg::Session& session, int64_t first) const;

    const Options options_;
    const int64_t task_count_;
    const Clock::time_point began_at_;
    std::vector<std::atomic<Clock::rep>> committed_at_;
    std::atomic<int64_t> next_slot_{0};
    std::atomic<int64_t> committed_count_{0};
    std::atomic<Clock::rep> delay_max_{0};
    std::deque<Part> parts_;  // Last: they use what stands above.
};

}  // namespace millrace
