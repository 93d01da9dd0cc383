#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>

namespace millrace {

// Exponential back-off with full jitter: the wait before try n is uniform in (0, first * 2^n],
// never above `longest`. Source: M. Brooker, "Exponential Backoff And Jitter", AWS, 2015.
// Not thread-safe: one per loop.
class Backoff {
  public:
    Backoff(std::chrono::milliseconds first, std::chrono::milliseconds longest)
        : first_(first), longest_(longest), random_(std::random_device{}()) {}

    std::chrono::milliseconds next() {
        const int doublings = std::min(try_count_++, 20);
        const auto limit = std::min(longest_, first_ * (int64_t{1} << doublings));
        std::uniform_int_distribution<int64_t> pick(1, std::max<int64_t>(1, limit.count()));
        return std::chrono::milliseconds(pick(random_));
    }

    void reset() { try_count_ = 0; }
    int try_count() const { return try_count_; }

  private:
    std::chrono::milliseconds first_;
    std::chrono::milliseconds longest_;
    std::minstd_rand random_;
    int try_count_ = 0;
};

}  // namespace millrace
