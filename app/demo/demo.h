#pragma once

#include <chrono>
#include <stop_token>

#include "app/config.h"

namespace millrace {

struct DemoOptions {
    std::chrono::milliseconds duration{20000};
    bool runs_until_stopped = false;
    int orders_per_second = 100;
    bool has_chaos = false;  // Two relays, two workers, and a kill -9 every two seconds.
};

// A shop, relays and workers on the configured servers, live on standard output, and at the end the
// proof that every event was applied once and in order. A stop ends the shop early; the proof
// follows. Returns the exit code, 3 if the proof failed; throws Failure when it could not be had.
// Whatever it made is gone afterwards, but its log folder after a failure.
int run_demo(const Config& config, const DemoOptions& options, std::stop_token stop);

}  // namespace millrace
