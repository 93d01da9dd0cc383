#pragma once

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

    int64_t published() const { return committed - backlog; }
    bool is_complete() const { return backlog == 0 && applied == committed; }
};

Progress progress(pg::Session& session);

struct Kills {
    int64_t count = 0;
    std::string last;  // Whom; empty: nobody yet.
};

// What the demo shows while it runs: a block that is redrawn on a terminal, a line for each call
// elsewhere.
class LiveBlock {
  public:
    LiveBlock(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}

    void show(const std::string& title, const Progress& now, const Latency& latency,
              const std::optional<Kills>& kills);
    // What comes next is written below the block.
    void leave() { drawn_line_count_ = 0; }

  private:
    using Clock = std::chrono::steady_clock;

    void draw_block(const std::string& title, const Progress& now, const Latency& latency,
                    const std::optional<Kills>& kills, double seconds);
    void draw_line(const std::string& title, const Progress& now, const Latency& latency,
                   const std::optional<Kills>& kills, double seconds);

    std::ostream& out_;
    const bool is_terminal_;
    int drawn_line_count_ = 0;
    Progress last_;
    std::optional<Clock::time_point> last_at_;
};

}  // namespace millrace
