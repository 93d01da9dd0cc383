#include "app/worker.h"

#include <thread>

#include "app/admin_server.h"
#include "app/options.h"
#include "app/server_probes.h"
#include "core/log.h"

namespace millrace {

Worker::Worker(const Config& config, std::string instance, bool migrate_first, Lifetime& lifetime)
    : config_(config),
      instance_(std::move(instance)),
      migrate_first_(migrate_first),
      lifetime_(lifetime) {}

void Worker::run(std::stop_token stop) {
    metrics_
        .gauge("millrace_build_info", "1; the label says which build.",
               {{"version", MILLRACE_VERSION}})
        .Set(1);
    // First, so that a busy port ends the process before it does anything, and so that a probe gets
    // an answer while the servers are being waited for.
    const AdminServer admin(config_.text("admin.listen"), health_, metrics_);
    ground_ = check_ground(
        config_, migrate_first_, reaper_,
        [this](const std::string& waits_for) { health_.set_start(waits_for); }, stop);
    if (ground_) serve(*ground_, std::move(stop));
}

void Worker::serve(const Ground& ground, std::stop_token stop) {
    const bool has_relay = config_.boolean("relay.enabled");
    const bool has_projections = config_.boolean("projections.enabled");
    if (!has_relay && !has_projections) {
        throw misconfigured("nothing_to_run",
                            "relay.enabled and projections.enabled are false: there is nothing to "
                            "run");
    }
    const auto on_fatal = [this](const Failure& failure) { lifetime_.fail(failure); };
    if (has_relay) {
        relay_.emplace(relay_options(config_, ground.installation, instance_), ground.installation,
                       reaper_, metrics_, on_fatal);
        health_.watch([this] {
            const RelayStatus status = relay_->status();
            LoopStatus shown{.reasons = {}, .longest_silence = status.longest_silence};
            for (const std::string& why : status.waiting) {
                shown.reasons.push_back("a publisher of this process waits: " + why);
            }
            return shown;
        });
    }
    if (has_projections) {
        projections_.emplace(config_, ground.installation, instance_, reaper_, metrics_, on_fatal);
        health_.watch([this] { return projections_->status(); });
    }
    PostgresProbe postgres_probe(session_options(config_), health_, metrics_);
    KafkaProbe kafka_probe(kafka_options(config_, ground.installation, instance_),
                           ground.installation.ledger_topic(), health_, metrics_, reaper_);
    // They see the process's own stop, so that they end while the relay hands over, not after it.
    // From here on nothing may throw: whoever unwinds waits for them, and nobody has stopped them.
    const std::jthread postgres_thread([&postgres_probe, stop] { postgres_probe.run(stop); });
    const std::jthread kafka_thread([&kafka_probe, stop] { kafka_probe.run(stop); });

    log(LogLevel::kInfo, "app", "running",
        {{"installation", ground.installation.name}, {"prefix", ground.installation.prefix}});
    {
        // Both hand over side by side.
        std::vector<std::jthread> loops;
        if (has_relay) loops.emplace_back([this, stop] { relay_->run(stop); });
        if (has_projections) loops.emplace_back([this, stop] { projections_->run(stop); });
    }
    log(LogLevel::kInfo, "app", "stopped");
}

}  // namespace millrace
