#include "app/worker.h"

#include "app/options.h"
#include "core/log.h"
#include "relay/relay.h"

namespace millrace {

Worker::Worker(const Config& config, std::string instance, bool migrate_first, Lifetime& lifetime)
    : config_(config),
      instance_(std::move(instance)),
      migrate_first_(migrate_first),
      lifetime_(lifetime) {}

void Worker::run(std::stop_token stop) {
    const std::optional<Ground> ground =
        check_ground(config_, migrate_first_, reaper_, [](const std::string&) {}, stop);
    if (ground) serve(*ground, std::move(stop));
}

void Worker::serve(const Ground& ground, std::stop_token stop) {
    Relay relay(relay_options(config_, ground.installation, instance_), ground.installation,
                ground.ledger_topic_id, reaper_, metrics_,
                [this](const Failure& failure) { lifetime_.fail(failure); });
    log(LogLevel::kInfo, "app", "running",
        {{"installation", ground.installation.name}, {"prefix", ground.installation.prefix}});
    relay.run(std::move(stop));
    log(LogLevel::kInfo, "app", "stopped");
}

}  // namespace millrace
