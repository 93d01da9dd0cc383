#pragma once

#include <cstdint>
#include <string>

#include "core/pg/session.h"
#include "tests/support/checker.h"
#include "tests/support/model_publisher.h"
#include "tests/support/outbox_run.h"

namespace millrace::test {

// Several sessions driven step by step from one thread: two publishers, of which the first owns all
// lanes, and writers whose transactions stay open between steps. What happens depends on nothing
// but the steps, unless somebody else on the server ends a transaction meanwhile: was_disturbed()
// tells.
class FloorScript {
  public:
    // A session in a business transaction that holds its key's lock.
    class Writer {
      public:
        Writer(FloorScript& script, const std::string& key);

        void begin();  // The next transaction; the first is open already.
        int64_t insert(int count = 1);  // Returns the last id.
        void commit();

      private:
        FloorScript& script_;
        pg::Session session_;
        std::string key_;
    };

    FloorScript(Database& database, const MakeRule& make_rule);

    Writer open_writer(int16_t lane);
    int64_t commit_tasks(int16_t lane, int count = 1);  // Returns the last id.
    // A task in lane kBusyLane, a probe and a claim, so many times.
    void pass_traffic(int round_count);
    ClaimResult claim(const ClaimOptions& options = {});
    // A claim that waits for an operator's change of all pending rows and then returns none.
    ClaimResult claim_behind_an_update();
    bool probe();
    void settle() { publisher_.settle(); }
    void move_to_second(int16_t lane);
    void move_back(int16_t lane);
    // Probes and claims until nothing can come any more, and judges.
    Verdict finish();

    const FloorRule& rule() const { return publisher_.rule(); }
    bool was_disturbed();

  private:
    void move(int16_t lane, ModelPublisher& from, ModelPublisher& to);

    OutboxRun run_;
    ModelPublisher publisher_;
    ModelPublisher second_;
    pg::Session control_;
    Snapshot first_snapshot_;
    uint64_t first_xid_ = 0;
    uint64_t own_xid_count_ = 0;
};

// Far from the lanes of the tasks at stake.
constexpr int16_t kBusyLane = 0;

}  // namespace millrace::test
