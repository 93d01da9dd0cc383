#include "app/start.h"

#include <chrono>

#include "app/installer.h"
#include "app/options.h"
#include "core/log.h"
#include "core/stop.h"
#include "relay/ledger_topic.h"
#include "relay/outbox.h"
#include "relay/start_checks.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kSayEvery{30};
constexpr std::chrono::milliseconds kTryEvery{500};

bool is_outage(const Failure& failure) {
    return failure.kind() == FailureKind::kTransient || failure.kind() == FailureKind::kUnknown;
}

// Whatever else a check meets ends the process: nothing runs yet that could go on without it.
Failure as_fatal(const Failure& failure) {
    if (failure.kind() == FailureKind::kFatal) return failure;
    return misconfigured(failure.reason(), failure.detail());
}

Ground look(const Config& config, bool migrate_first, kafka::Reaper& reaper) {
    if (migrate_first) {
        const Installing made = install(config, {}, reaper);
        for (const std::string& line : made.done) {
            log(LogLevel::kInfo, "app", "migrate up: " + line);
        }
        for (const Failure& refused : made.refused) {
            // What the database has of it is served, or it is shown as not served.
            const bool is_held_back = refused.reason() == "needs_rebuild" ||
                                      refused.reason() == "definition_changed";
            if (!is_held_back) throw refused;
        }
    }
    Ground ground;
    {
        pg::SessionOptions options = session_options(config);
        // The checks look at the plan that the relay's own sessions would get.
        options.settings = Outbox::session_settings();
        pg::Session session(options);
        ground.installation = require_installation(session);
        if (config.boolean("relay.enabled")) check_relay_start(session, ground.installation);
    }
    check_same_installation(config, ground.installation, kafka_cluster_id(config, reaper));
    check_ledger_topic(kafka_options(config), ground.installation, reaper);
    return ground;
}

}  // namespace

std::optional<Ground> check_ground(const Config& config, bool migrate_first, kafka::Reaper& reaper,
                                   const std::function<void(const std::string&)>& show,
                                   std::stop_token stop) {
    std::string waits_for;
    Clock::time_point said{};
    do {
        try {
            Ground ground = look(config, migrate_first, reaper);
            if (!waits_for.empty()) log(LogLevel::kInfo, "app", "the servers answer");
            show("");
            return ground;
        } catch (const Failure& failure) {
            if (!is_outage(failure)) throw as_fatal(failure);
            if (failure.reason() != waits_for || Clock::now() - said >= kSayEvery) {
                said = Clock::now();
                log(LogLevel::kWarn, "app", "waits for a server",
                    {{"reason", failure.reason()}, {"detail", failure.detail()}});
            }
            waits_for = failure.reason();
            show(failure.reason() + ": " + failure.detail());
        }
    } while (wait_for(stop, kTryEvery));
    return std::nullopt;
}

}  // namespace millrace
