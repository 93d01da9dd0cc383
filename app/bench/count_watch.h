#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace millrace {

// A count that another process or thread raises, looked at again and again: when it moved first and
// when last. One thread.
class CountWatch {
  public:
    using Clock = std::chrono::steady_clock;

    // It may stand still for `patience`, from now on; `complaint` then says what did not come.
    CountWatch(std::chrono::seconds patience, std::function<std::string()> complaint);

    // Whether it is more than ever. Throws kFatal `bench_unsound` when patience is at its end.
    bool note(int64_t count, Clock::time_point at = Clock::now());

    // The largest that was noted.
    int64_t count() const { return count_; }
    Clock::time_point moved_at() const { return moved_at_; }
    // From the first move to the last. Throws kFatal `bench_unsound` if there was but one: what
    // came between two looks has no time of its own.
    double seconds() const;

  private:
    const std::chrono::seconds patience_;
    const std::function<std::string()> complaint_;
    int64_t count_ = 0;
    std::optional<Clock::time_point> first_moved_at_;
    Clock::time_point moved_at_ = Clock::now();
};

}  // namespace millrace
