#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <thread>
#include <vector>

#include "core/kafka/reaper.h"
#include "core/metrics.h"
#include "relay/keeper.h"
#include "relay/members.h"
#include "relay/publisher.h"

namespace millrace {

struct RelayOptions {
    PublisherOptions publisher;
    int publisher_count = 1;
    std::chrono::milliseconds lease{3000};
    std::chrono::milliseconds cut_off_after{30000};  // PROTOCOL 2.7.
};

// What a look at the relay's threads shows, for /readyz and /livez.
struct RelayStatus {
    std::vector<std::string> waiting;  // Why publishers of this process do not publish.
    std::chrono::milliseconds longest_silence{0};
};

// The relay of one process: lease, keeper and publishers, a thread each. Built by the composition
// root once both servers have answered.
class Relay {
  public:
    // `on_fatal` is called once, from the thread that ended by a kFatal Failure.
    Relay(RelayOptions options, const Installation& installation, kafka::Reaper& reaper,
          Metrics& metrics, std::function<void(const Failure&)> on_fatal);

    // Starts the threads; returns when stop was requested and all have handed over and ended:
    // within one Kafka transaction (15 s) and a few calls of a session.
    void run(std::stop_token stop);
    RelayStatus status() const;

  private:
    std::jthread start(std::function<void(std::stop_token)> loop);

    RelayOptions options_;
    std::function<void(const Failure&)> on_fatal_;
    RelayMetrics metrics_;
    Lease lease_;
    LedgerReader ledger_;
    std::vector<std::unique_ptr<PublisherWatch>> watches_;  // Publishers', then the keeper's.
    std::vector<std::unique_ptr<Publisher>> publishers_;
    std::unique_ptr<Keeper> keeper_;
    std::unique_ptr<LeaseLoop> lease_loop_;
};

}  // namespace millrace
