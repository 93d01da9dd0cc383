#pragma once

#include <optional>
#include <string>
#include <vector>

#include "consumers/failure_policy.h"
#include "consumers/handler.h"
#include "consumers/refusal.h"
#include "consumers/set_aside.h"
#include "consumers/storm_breaker.h"
#include "core/pg/session.h"
#include "schema/event_parser.h"

namespace millrace {

struct BisectionOptions {
    OnPoison on_poison = OnPoison::kParkKey;
    ClassOverrides overrides{};
    int attempt_count = 1;  // For the letters.
};

// The events to be applied, by index.
struct BisectionWork {
    const FillEvent& fill;
    const std::vector<size_t>& items;
    bool is_known_bad = false;  // All of them together were refused already.
};

// What became of each event; their indexes are in order.
struct BisectionResult {
    std::vector<size_t> applied;
    std::vector<DeadLetter> letters;
    std::vector<size_t> parked;
    int part_count = 0;         // Parts that were tried.
    std::optional<Refusal> refusal;  // What ended it, being no record's fault: roll back.
    std::string storm;               // Too many culprits: roll back. Empty: not so.
};

// Applies the events inside the transaction that is open on `session`, and finds the culprits by
// halves, each under a savepoint, from the first to the last (PROTOCOL 7.8): k culprits among n
// cost about 2k log2(n/k) parts. A part's deferred constraints are checked before its savepoint is
// released; they stay deferred for the parts behind it. `storm` is shown what it finds, and ends it
// when it trips. Throws as the session does.
BisectionResult bisect(pg::Session& session, Handler& handler, const BisectionWork& work,
                       const BisectionOptions& options, StormBreaker storm);

}  // namespace millrace
