#pragma once

#include <chrono>
#include <string>

#include "consumers/projection_options.h"
#include "consumers/worker_watch.h"
#include "core/pg/session.h"

namespace millrace {

// The halt of a projection as one loop knows it: what this loop found, and what the catalog says
// for the fleet, which has the last word. Not thread-safe; looks use the loop's session, outside a
// transaction.
class FleetHalt {
  public:
    FleetHalt(const ProjectionOptions& options, const ProjectionShared& shared,
              WorkerWatch& watch);

    // This loop can't go on; the catalog learns of it at the next look.
    void declare(const std::string& reason, const std::string& detail);

    enum class Change {
        kNone,
        kHalted,   // Another loop or process has found something.
        kResumed,  // An operator says that the cause is mended.
    };
    // Asks the catalog when it is time; otherwise kNone, and no statement.
    Change look(pg::Session& session);

    bool is_halted() const { return !text_.empty(); }
    std::chrono::steady_clock::time_point next_look() const { return next_look_; }

  private:
    void set_text(const std::string& text);

    const ProjectionOptions& options_;
    const ProjectionShared& shared_;
    WorkerWatch& watch_;
    std::string text_;  // Empty: not halted.
    bool is_written_ = true;
    std::chrono::steady_clock::time_point next_look_{};
};

}  // namespace millrace
