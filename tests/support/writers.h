#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/pg/session.h"
#include "tests/support/checker.h"
#include "tests/support/installed.h"

namespace millrace::test {

// Business transactions of every shape a service writes: single rows, multi-row VALUES,
// INSERT..SELECT, COPY, writable CTEs, savepoints, aborts; one or ten rows. Each holds its key's
// row lock while it inserts, which is what order rests on (PROTOCOL 3.9), and writes what it did
// into a table of truth in the same transaction. Threads of its own, which end with the object.
class Writers {
  public:
    struct Load {
        int thread_count = 4;
        int tasks_per_second = 1200;  // Over all threads.
    };

    explicit Writers(const Installed& installed) : Writers(installed, Load()) {}
    Writers(const Installed& installed, Load load);
    ~Writers();

    // Ends the threads. An outage of PostgreSQL is waited out by them meanwhile.
    void stop();
    int64_t committed_count() const { return committed_count_.load(); }
    // What was committed, read from the database.
    Truth truth() const;

  private:
    void write(std::stop_token stop, int thread);
    // One transaction; the number of tasks it committed.
    int write_one(pg::Session& session, std::minstd_rand& random);
    void insert(pg::Session& session, int shape, const std::string& key, int64_t last, int count);
    void insert_values(pg::Session& session, const std::string& key, int64_t last, int count);

    const std::string url_;
    const std::string topic_;
    const std::string run_;
    const Load load_;
    std::atomic<int64_t> committed_count_{0};
    std::vector<std::jthread> threads_;
};

}  // namespace millrace::test
