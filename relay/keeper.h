#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <stop_token>
#include <utility>

#include "relay/backlog.h"
#include "relay/publisher.h"

namespace millrace {

// Settles publishers whose owner is dead and frees their lanes, while the process's own publishers
// go on (PROTOCOL 2.10); and samples what the relay's gauges show. One thread, one session.
class Keeper {
  public:
    Keeper(PublisherOptions options, RelayShared shared, PublisherWatch& watch);

    // Returns on stop; outages are waited out; throws only kFatal.
    void run(std::stop_token stop);

  private:
    using Clock = std::chrono::steady_clock;

    void keep(std::stop_token stop);
    void keep_round(pg::Session& session);
    void take_over(pg::Session& session, const FreePublisher& free, const Uuid& instance);
    void hold(const PublisherState& taken, const pg::Session& session);
    void let_go();
    void free_locked_row(pg::Session& session, const FreePublisher& free);
    void ping_kafka();
    void sample(pg::Session& session);

    PublisherOptions options_;
    RelayShared shared_;
    PublisherWatch& watch_;
    std::optional<PublisherState> held_;  // Taken, and not yet settled or released.
    // When a publisher's row was first seen locked though its owner is dead, by number and epoch.
    std::map<std::pair<int16_t, int64_t>, Clock::time_point> locked_since_;
    std::map<int16_t, Clock::time_point> not_before_;  // Could not be settled: not again for 10 s.
    Backoff backoff_{std::chrono::milliseconds(100), std::chrono::seconds(2)};
    BacklogLook backlog_;
    Clock::time_point next_ping_{};
    Clock::time_point next_sample_{};
};

}  // namespace millrace
