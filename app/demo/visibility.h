#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>

#include "core/pg/session.h"

namespace millrace {

// Milliseconds from COMMIT to visible, of the orders that were watched.
struct Latency {
    int64_t order_count = 0;
    double p50 = 0;
    double p99 = 0;
};

// Measures how long after its COMMIT an order shows in the read model, as a reader would: by asking
// for it every 2 ms. `committed` and `latency` from any thread, `run` on one.
class VisibilityWatch {
  public:
    explicit VisibilityWatch(pg::SessionOptions options) : options_(std::move(options)) {}

    // Not watched if too many wait already.
    void committed(const std::string& order_id);
    // Until stop; throws what the session does.
    void run(std::stop_token stop);
    Latency latency() const;

  private:
    using Clock = std::chrono::steady_clock;

    void look(pg::Session& session);

    const pg::SessionOptions options_;
    mutable std::mutex mutex_;
    std::map<std::string, Clock::time_point> waiting_;  // When each order was committed.
    std::map<int64_t, int64_t> count_by_tenths_;        // Of a millisecond.
    int64_t order_count_ = 0;
};

}  // namespace millrace
