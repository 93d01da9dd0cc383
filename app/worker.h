#pragma once

#include <stop_token>
#include <string>

#include "app/config.h"
#include "app/lifetime.h"
#include "app/start.h"
#include "core/kafka/reaper.h"
#include "core/metrics.h"

namespace millrace {

// The composition root of `run`: makes every long-lived object and thread, and ends them in reverse
// order.
class Worker {
  public:
    Worker(const Config& config, std::string instance, bool migrate_first, Lifetime& lifetime);

    // Returns when stop was requested and everything has handed over and ended; throws kFatal when it
    // can't begin. Within one Kafka transaction (15 s) and a few calls of a session.
    void run(std::stop_token stop);

  private:
    void serve(const Ground& ground, std::stop_token stop);

    const Config& config_;
    std::string instance_;
    bool migrate_first_;
    Lifetime& lifetime_;
    kafka::Reaper reaper_;
    Metrics metrics_;
};

}  // namespace millrace
