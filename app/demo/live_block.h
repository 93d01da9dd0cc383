#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "app/demo/visibility.h"
#include "core/pg/session.h"

namespace millrace {

// How far everything is, in one snapshot of the database.
struct Progress {
    int64_t committed = 0;  // Events of the shop.
    int64_t backlog = 0;    // Of these, still in the outbox.
    int64_t applied = 0;    // In the read model of orders.
    int64_t order_row_count = 0;
    int64_t customer_row_count = 0;

    // The outbox may still hold, for a moment, what is applied already.
    int64_t published() const { return std::max(committed - backlog, applied); }
    bool is_complete() const { return backlog == 0 && applied == committed; }
};

Progress progress(pg::Session& session);

struct Kills {
    int64_t count = 0;
    std::string last;  // Whom; empty: nobody yet.
};

// What is shown at a time.
struct Figures {
    std::string title;
    Progress progress;
    Latency latency;
    std::optional<Kills> kills;  // Nothing: nobody is killed in this run.
};

// What the demo shows while it runs: a block that is redrawn on a terminal, a line for each call
// elsewhere.
class LiveBlock {
  public:
    LiveBlock(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}

    // With the rates since the last call.
    void show(const Figures& figures);
    // The same without rates, once nothing moves any more.
    void show_last(const Figures& figures);

  private:
    using Clock = std::chrono::steady_clock;

    void draw_over(const std::string& block);

    std::ostream& out_;
    const bool is_terminal_;
    int64_t drawn_line_count_ = 0;
    Progress last_;
    std::optional<Clock::time_point> last_at_;
};

}  // namespace millrace
