#pragma once

#include <optional>
#include <string>

#include "consumers/batch.h"
#include "consumers/handler.h"
#include "consumers/positions.h"
#include "core/pg/session.h"

namespace millrace {

// What PostgreSQL refused in a batch.
struct Refusal {
    pg::ServerError error;
    std::string statement;    // Which: of the handler's, file and line.
    bool is_of_move = false;  // The compare-and-set's: nothing behind it ran.

    // One line: statement, message, SQLSTATE, constraint.
    std::string text() const;
};

// Sends one batch as one transaction in one pipeline: BEGIN, the position's compare-and-set, the
// handler's statements, COMMIT (PROTOCOL 7.1). Nothing when it is committed. After a Refusal
// nothing of it is, and the session is idle again. Throws when the connection breaks or no answer
// comes in time: then only the position tells whether it is.
std::optional<Refusal> send(pg::Session& session, Positions& positions, Handler& handler,
                            const Batch& batch);

}  // namespace millrace
