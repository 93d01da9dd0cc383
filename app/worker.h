#pragma once

#include <optional>
#include <stop_token>
#include <string>

#include "app/config.h"
#include "app/health.h"
#include "app/lifetime.h"
#include "app/projection_host.h"
#include "app/start.h"
#include "core/kafka/reaper.h"
#include "core/metrics.h"
#include "relay/relay.h"

namespace millrace {

// The composition root of `run`: makes every long-lived object and thread, and ends them in reverse
// order.
class Worker {
  public:
    Worker(const Config& config, std::string instance, bool migrate_first, Lifetime& lifetime);

    // Returns when stop was requested and everything has handed over and ended; throws kFatal when
    // it can't begin. Stops within the longer of one Kafka transaction (15 s) with a few calls of a
    // session, and what ProjectionRunner::run() says.
    void run(std::stop_token stop);

  private:
    void serve(const Ground& ground, std::stop_token stop);

    const Config& config_;
    std::string instance_;
    bool migrate_first_;
    Lifetime& lifetime_;
    kafka::Reaper reaper_;
    Metrics metrics_;
    Health health_;
    // Members, so that they outlive the admin server, which asks the relay, which refers to the
    // ground.
    std::optional<Ground> ground_;
    std::optional<Relay> relay_;
    std::optional<ProjectionHost> projections_;
};

}  // namespace millrace
