#include "app/demo/visibility.h"

#include "core/stop.h"

namespace millrace {

namespace {

using Tenths = std::chrono::duration<int64_t, std::ratio<1, 10'000>>;

constexpr std::chrono::milliseconds kLookEvery{2};
constexpr size_t kWaitingMax = 2000;
constexpr std::string_view kVisible =
    "SELECT order_id FROM read_models.orders WHERE order_id = ANY ($1)";

}  // namespace

void VisibilityWatch::committed(const std::string& order_id) {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() < kWaitingMax) waiting_.emplace(order_id, Clock::now());
}

void VisibilityWatch::run(std::stop_token stop) {
    pg::Session session(options_);
    do {
        look(session);
    } while (wait_for(stop, kLookEvery));
}

void VisibilityWatch::look(pg::Session& session) {
    pg::ArrayBuilder ids(pg::Type::kText);
    {
        const std::lock_guard lock(mutex_);
        if (waiting_.empty()) return;
        for (const auto& [order_id, committed_at] : waiting_) ids.add_bytes(order_id);
    }
    const pg::Result visible = session.execute(kVisible, pg::Params().array(ids));
    const Clock::time_point now = Clock::now();
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < visible.row_count(); ++i) {
        const auto found = waiting_.find(visible.text(i, 0));
        ++count_by_tenths_[std::chrono::duration_cast<Tenths>(now - found->second).count()];
        ++order_count_;
        waiting_.erase(found);
    }
}

Latency VisibilityWatch::latency() const {
    const std::lock_guard lock(mutex_);
    Latency latency{.order_count = order_count_};
    int64_t passed = 0;
    for (const auto& [tenths, count] : count_by_tenths_) {
        const double milliseconds = static_cast<double>(tenths) / 10;
        if (passed * 100 < order_count_ * 50) latency.p50 = milliseconds;
        if (passed * 100 < order_count_ * 99) latency.p99 = milliseconds;
        passed += count;
    }
    return latency;
}

}  // namespace millrace
