#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>

namespace millrace::bench {

// How old the oldest event is that was handed in and not applied yet. One thread.
class LagWatch {
  public:
    using Clock = std::chrono::steady_clock;

    void handed_in(int64_t count, Clock::time_point at) { history_.push_back({count, at}); }

    std::chrono::milliseconds applied(int64_t count, Clock::time_point at) {
        while (!history_.empty() && history_.front().count <= count) history_.pop_front();
        if (history_.empty()) return std::chrono::milliseconds(0);
        const auto lag =
            std::chrono::duration_cast<std::chrono::milliseconds>(at - history_.front().at);
        greatest_ = std::max(greatest_, lag);
        return lag;
    }

    std::chrono::milliseconds greatest() const { return greatest_; }

  private:
    struct Moment {
        int64_t count;
        Clock::time_point at;
    };
    std::deque<Moment> history_;
    std::chrono::milliseconds greatest_{0};
};

}  // namespace millrace::bench
