#pragma once

#include <string>

#include "consumers/set_aside.h"
#include "core/pg/result.h"

namespace millrace {

// What PostgreSQL refused in a batch.
struct Refusal {
    pg::ServerError error;
    std::string statement;       // Of the handler's: file and line; else in words.
    bool is_of_move = false;     // The compare-and-set's: nothing behind it ran.
    bool is_of_copies = false;   // Of the letters' Kafka copies, which can be done without.
    bool is_of_handler = false;  // Of its statements, or of constraints they deferred.

    // One line: statement, message, SQLSTATE, constraint.
    std::string text() const;
};

// Of what PostgreSQL refused.
Cause cause_of(const Refusal& refusal, FailureClass failure_class, int attempt_count);

}  // namespace millrace
