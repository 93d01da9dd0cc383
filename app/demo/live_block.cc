#include "app/demo/live_block.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>

namespace millrace {

namespace {

constexpr std::string_view kProgress = R"(
    SELECT (SELECT coalesce(sum(changes), 0)::bigint FROM shop.orders),
           (SELECT count(*) FROM millrace.pending_tasks),
           orders.events, orders.n,
           (SELECT count(*) FROM read_models.customer_totals)
    FROM (SELECT coalesce(sum(events), 0)::bigint AS events, count(*) AS n
          FROM read_models.orders) orders)";

// A number by thousands, at the right of ten columns.
std::string counted(int64_t number) {
    std::string text = std::to_string(number);
    for (size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
    return std::string(10 - std::min<size_t>(10, text.size()), ' ') + text;
}

std::string milliseconds(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f ms", value);
    return text.data();
}

int64_t per_second(int64_t now, int64_t before, double seconds) {
    if (seconds <= 0) return 0;
    return static_cast<int64_t>(static_cast<double>(now - before) / seconds + 0.5);
}

}  // namespace

Progress progress(pg::Session& session) {
    const pg::Result row = session.execute(kProgress);
    return {.committed = row.integer(0, 0),
            .backlog = row.integer(0, 1),
            .applied = row.integer(0, 2),
            .order_row_count = row.integer(0, 3),
            .customer_row_count = row.integer(0, 4)};
}

void LiveBlock::show(const std::string& title, const Progress& now, const Latency& latency,
                     const std::optional<Kills>& kills) {
    const Clock::time_point at = Clock::now();
    const double seconds =
        last_at_ ? std::chrono::duration<double>(at - *last_at_).count() : 0;
    if (is_terminal_) {
        draw_block(title, now, latency, kills, seconds);
    } else {
        draw_line(title, now, latency, kills, seconds);
    }
    out_.flush();
    last_ = now;
    last_at_ = at;
}

void LiveBlock::draw_block(const std::string& title, const Progress& now, const Latency& latency,
                           const std::optional<Kills>& kills, double seconds) {
    const auto row = [&](const char* name, int64_t count, int64_t before) {
        return name + counted(count) + " events" + counted(per_second(count, before, seconds)) +
               "/s";
    };
    std::ostringstream text;
    text << title << "\n"
         << row("  committed ", now.committed, last_.committed) << "\n"
         << row("  published ", now.published(), last_.published()) << "   backlog " << now.backlog
         << "\n"
         << row("  applied   ", now.applied, last_.applied) << "\n"
         << "  commit to visible   p50 " << milliseconds(latency.p50) << "   p99 "
         << milliseconds(latency.p99) << "   of " << latency.order_count << " orders\n"
         << "  read models         orders " << now.order_row_count << " rows   customer_totals "
         << now.customer_row_count << " rows\n";
    if (kills) {
        text << "  kill -9             " << kills->count << " times"
             << (kills->last.empty() ? "" : ", last: " + kills->last) << "\n";
    }
    const std::string block = text.str();
    // Up to the block's first line, and clear from there.
    if (drawn_line_count_ > 0) out_ << "\x1b[" << drawn_line_count_ << "A\x1b[J";
    drawn_line_count_ = static_cast<int>(std::count(block.begin(), block.end(), '\n'));
    out_ << block;
}

void LiveBlock::draw_line(const std::string& title, const Progress& now, const Latency& latency,
                          const std::optional<Kills>& kills, double seconds) {
    out_ << title << ": committed " << now.committed << " ("
         << per_second(now.committed, last_.committed, seconds) << "/s), published "
         << now.published() << " (" << per_second(now.published(), last_.published(), seconds)
         << "/s), applied " << now.applied << " ("
         << per_second(now.applied, last_.applied, seconds) << "/s), backlog " << now.backlog
         << ", commit to visible p50 " << milliseconds(latency.p50) << " p99 "
         << milliseconds(latency.p99) << ", rows " << now.order_row_count << " + "
         << now.customer_row_count;
    if (kills) {
        out_ << ", killed " << kills->count << " times"
             << (kills->last.empty() ? "" : ", last " + kills->last);
    }
    out_ << "\n";
}

}  // namespace millrace
