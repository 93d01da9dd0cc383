#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/pg/session.h"
#include "tests/support/checker.h"
#include "tests/support/database.h"

namespace millrace::test {

// A run of writers and publishers over one database, and what a checker needs of it. The model is
// PROTOCOL 3 and 6 without Kafka: a task counts as published once it stands in the log, which
// happens between the claim's DELETE and its COMMIT. Thread-safe.
class OutboxRun {
  public:
    // Empties what an earlier run left behind, and frees all lanes.
    explicit OutboxRun(Database& database);

    // Some keys of a lane, each with a row that its writers lock.
    const std::vector<std::string>& keys(int16_t lane) const { return keys_.at(lane); }
    // The order in which key locks were held: read while holding one.
    int64_t next_order() { return ++order_; }
    void publish(const std::vector<SeenTask>& tasks);

    int64_t pending_count();
    Verdict verdict();

    Database& database() { return database_; }
    const std::string& name() const { return name_; }

  private:
    Database& database_;
    std::string name_;
    pg::Session session_;
    std::map<int16_t, std::vector<std::string>> keys_;
    std::atomic<int64_t> order_ = 0;
    std::mutex mutex_;
    std::vector<SeenTask> seen_;
};

enum class Lock { kRow, kAdvisory };

// Waits for the key's lock, which the session's transaction then holds. Either kind excludes the
// other; only the row's gives the transaction an xid.
void lock_key(pg::Session& session, const std::string& key, Lock lock = Lock::kRow);

enum class Shape { kSingleRows, kValues, kSelect, kWritableCte };

// Inserts `count` tasks of a key whose lock the session's transaction holds, and their truth with
// them, so that both stand or fall together. Returns the last id.
int64_t write_tasks(OutboxRun& run, pg::Session& session, const std::string& key, int count,
                    Shape shape);

}  // namespace millrace::test
