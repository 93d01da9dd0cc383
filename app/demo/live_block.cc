#include "app/demo/live_block.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "app/table.h"

namespace millrace {

namespace {

constexpr std::string_view kProgress = R"(
    SELECT (SELECT coalesce(sum(changes), 0)::bigint FROM shop.orders),
           (SELECT count(*) FROM millrace.pending_tasks),
           orders.events, orders.n,
           (SELECT count(*) FROM read_models.customer_totals)
    FROM (SELECT coalesce(sum(events), 0)::bigint AS events, count(*) AS n
          FROM read_models.orders) orders)";

// Events a second.
struct Rates {
    int64_t committed;
    int64_t published;
    int64_t applied;
};

// At the right of ten columns.
std::string column(int64_t number) {
    const std::string text = with_commas(number);
    return std::string(10 - std::min<size_t>(10, text.size()), ' ') + text;
}

std::string duration_text(double milliseconds) {
    if (milliseconds == 0) return "-";  // None was measured yet.
    std::array<char, 32> text{};
    if (milliseconds < 1000) {
        std::snprintf(text.data(), text.size(), "%.1f ms", milliseconds);
    } else {
        std::snprintf(text.data(), text.size(), "%.2f s", milliseconds / 1000);
    }
    return text.data();
}

Rates rates_between(const Progress& before, const Progress& now, double seconds) {
    const auto rate = [&](int64_t count) {
        return seconds > 0 ? std::llround(static_cast<double>(count) / seconds) : 0;
    };
    return {.committed = rate(now.committed - before.committed),
            .published = rate(now.published() - before.published()),
            .applied = rate(now.applied - before.applied)};
}

std::string block_of(const Figures& figures, const std::optional<Rates>& rates) {
    const Progress& progress = figures.progress;
    std::ostringstream text;
    const auto row = [&](const char* name, int64_t count, int64_t Rates::*rate) -> std::ostream& {
        text << "\n" << name << column(count) << " events";
        if (rates) text << column(*rates.*rate) << "/s";
        return text;
    };
    text << figures.title;
    row("  committed ", progress.committed, &Rates::committed);
    row("  published ", progress.published(), &Rates::published)
        << "   backlog " << with_commas(progress.backlog);
    row("  applied   ", progress.applied, &Rates::applied);
    text << "\n  commit to visible   p50 " << duration_text(figures.latency.p50) << "   p99 "
         << duration_text(figures.latency.p99) << "   of "
         << with_commas(figures.latency.order_count) << " orders\n  read models         orders "
         << with_commas(progress.order_row_count) << " rows   customer_totals "
         << with_commas(progress.customer_row_count) << " rows\n";
    if (figures.kills) {
        text << "  kill -9             " << figures.kills->count << " times"
             << (figures.kills->last.empty() ? "" : ", last: " + figures.kills->last) << "\n";
    }
    return text.str();
}

std::string line_of(const Figures& figures, const std::optional<Rates>& rates) {
    const Progress& progress = figures.progress;
    std::ostringstream text;
    const auto counter = [&](const char* name, int64_t count, int64_t Rates::*rate) {
        text << name << count;
        if (rates) text << " (" << *rates.*rate << "/s)";
    };
    text << figures.title;
    counter(": committed ", progress.committed, &Rates::committed);
    counter(", published ", progress.published(), &Rates::published);
    counter(", applied ", progress.applied, &Rates::applied);
    text << ", backlog " << progress.backlog << ", commit to visible p50 "
         << duration_text(figures.latency.p50) << " p99 " << duration_text(figures.latency.p99)
         << ", rows " << progress.order_row_count << " + " << progress.customer_row_count;
    if (figures.kills) {
        text << ", killed " << figures.kills->count << " times"
             << (figures.kills->last.empty() ? "" : ", last " + figures.kills->last);
    }
    text << "\n";
    return text.str();
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

void LiveBlock::show(const Figures& figures) {
    const Clock::time_point at = Clock::now();
    const double seconds = last_at_ ? std::chrono::duration<double>(at - *last_at_).count() : 0;
    const Rates rates = rates_between(last_, figures.progress, seconds);
    if (is_terminal_) {
        draw_over(block_of(figures, rates));
    } else {
        out_ << line_of(figures, rates) << std::flush;
    }
    last_ = figures.progress;
    last_at_ = at;
}

void LiveBlock::show_last(const Figures& figures) {
    if (is_terminal_) {
        draw_over(block_of(figures, std::nullopt));
    } else {
        out_ << line_of(figures, std::nullopt) << std::flush;
    }
}

// Over the block before, line by line, so that nothing flickers. A line that is wider than the
// terminal is cut: if it wrapped, the next block would begin too low.
void LiveBlock::draw_over(const std::string& block) {
    out_ << "\r\x1b[?7l";
    if (drawn_line_count_ > 0) out_ << "\x1b[" << drawn_line_count_ << "A";
    std::istringstream lines(block);
    std::string line;
    while (std::getline(lines, line)) out_ << line << "\x1b[K\n";
    out_ << "\x1b[K\x1b[?7h" << std::flush;
    drawn_line_count_ = std::count(block.begin(), block.end(), '\n');
}

}  // namespace millrace
