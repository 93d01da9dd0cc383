#pragma once

#include <optional>
#include <string>

#include "consumers/batch.h"
#include "consumers/bisection.h"
#include "consumers/dead_letters.h"
#include "consumers/handler.h"
#include "consumers/positions.h"
#include "consumers/refusal.h"
#include "core/pg/session.h"

namespace millrace {

// With what a batch is sent.
struct BatchTools {
    pg::Session& session;
    Positions& positions;
    Handler& handler;
    DeadLetters& letters;
};

// Sends one batch as one transaction in one pipeline: BEGIN, the position's compare-and-set, the
// handler's statements, what is set aside, COMMIT (PROTOCOL 7.1). Nothing when it is committed.
// After a Refusal nothing of it is, and the session is idle again. Throws when the connection
// breaks or no answer comes in time: then only the position tells whether it is.
std::optional<Refusal> send(const BatchTools& tools, const FillEvent& fill, const Batch& batch);

// What came of a batch that was sent in parts.
struct SentInParts {
    std::optional<Refusal> refusal{};
    std::string storm{};        // Too much of it is poisoned: not committed. Empty: not so.
    int part_count = 0;  // Parts that were tried.
};

// The same for a batch that was refused as a whole for a record's sake: its culprits are found and
// set aside in the same transaction (PROTOCOL 7.8). Before COMMIT is sent they move from `items` to
// `letters`, those behind them to `parked`: if this throws then, `batch` is what may have been
// committed; after a refusal or a storm it is as it was. The handler holds nothing afterwards,
// unless the beginning was refused.
SentInParts send_in_parts(const BatchTools& tools, const FillEvent& fill,
                          const BisectionOptions& options, const StormBreaker& storm,
                          Batch& batch);

}  // namespace millrace
