#pragma once

#include <chrono>
#include <cstdint>

#include "core/pg/session.h"

namespace millrace {

struct Backlog {
    int64_t task_count = 0;  // Counted up to 100,000.
    int64_t oldest_age_seconds = 0;
};

// Looks at what waits in all lanes, for the metrics. As long as somebody holds a snapshot, deleted
// tasks stay in the index, and a look at everything walks over all of them. So one that took long
// is not repeated soon: the next ones begin where waiting tasks can be expected, and find all but
// those that were inserted before the look before the last and committed after the last. Not
// thread-safe, blocks for a statement.
class BacklogLook {
  public:
    // A look at everything takes at most one part in `rest` of the time.
    explicit BacklogLook(int rest = 50) : rest_(rest) {}

    Backlog look(pg::Session& session);

  private:
    using Clock = std::chrono::steady_clock;

    int rest_;
    Clock::time_point next_full_;
    int64_t from_ = 0;  // No task with a lower id is expected.
    int64_t last_id_ = 0;  // The newest that was given out when it looked last.
};

}  // namespace millrace
