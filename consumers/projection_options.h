#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "consumers/dead_letters.h"
#include "consumers/handler.h"
#include "consumers/log_facts.h"
#include "consumers/positions.h"
#include "consumers/storm_breaker.h"
#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/pg/session.h"

namespace millrace {

class ProjectionMetrics;

// What a jump of millrace-seq does (PROTOCOL 7.4).
enum class OnGap { kHalt, kCount };

struct BatchLimits {
    size_t event_count = 2000;
    size_t byte_count = 4 << 20;
    // How long the first record of a batch waits for more.
    std::chrono::milliseconds linger{2};
};

struct ProjectionOptions {
    pg::SessionOptions session;
    kafka::ClientOptions kafka;  // Its client id: `<8 hex of the installation>/<instance>`.
    ProjectionName projection;
    std::string group;  // `<prefix>.<projection>.v<version>`
    std::vector<std::string> topics;
    StartAt start;
    int thread_count = 2;
    BatchLimits batch;
    std::chrono::milliseconds session_timeout{6000};
    int retry_count = 5;
    std::chrono::milliseconds retry_backoff{100};
    std::chrono::milliseconds statement_timeout{30000};
    OnGap on_gap = OnGap::kHalt;
    DeadLetterOptions letters;
    StormLimits storm;
    ClassOverrides overrides;
    // Another took our partition and still we have it: how long until we take it back (PROTOCOL
    // 7.3).
    std::chrono::milliseconds retake_after{30000};
    std::chrono::milliseconds halt_poll{1000};
    // A partition that was quiet for so long moves its position past the markers at its end. Asks
    // the broker, behind the long poll of what is read.
    std::chrono::milliseconds catch_up_after{60000};
};

// The projection's halt, which stands in the catalog for the whole fleet and over restarts. Its
// table belongs to another layer, which the composition root joins to this one. Called on the
// loop's own session, outside a transaction.
struct HaltSwitch {
    // The first reason stays.
    std::function<void(pg::Session& session, const std::string& reason)> set;
    // The reason while it is halted.
    std::function<std::optional<std::string>(pg::Session& session)> get;
};

// What the loops of one projection share.
struct ProjectionShared {
    HaltSwitch halt;
    kafka::Reaper& reaper;
    ProjectionMetrics& metrics;
};

using HandlerFactory = std::function<std::unique_ptr<Handler>()>;

}  // namespace millrace
