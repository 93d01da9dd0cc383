#pragma once

#include <cstddef>
#include <string_view>

namespace millrace {

// What an error of PostgreSQL says about its cause (PROTOCOL 7.8).
enum class FailureClass {
    kConflict,     // Another transaction was in the way: a deadlock's victim, a lock.
    kOverload,     // Too much at once: a time limit, memory.
    kConnection,   // The server or the session is gone; the batch may have been committed.
    kEnvironment,  // What a human mends beside us: rights, a full disk, a missing table.
    kStalePlan,    // A prepared statement that no longer fits.
    kBug,          // The statement can never succeed.
    kRecord,       // This input can never succeed.
    kLost,         // The position has moved away (MR001).
    kUnclassified,
};
// As logs, metrics and the README's table name it.
std::string_view reason_of(FailureClass failure_class);

// Total: every code has a class; none at all means that the connection broke.
FailureClass class_of(std::string_view sqlstate);

// Of a statement that touches one row by its key: time is up, since somebody holds the row's lock.
bool is_lock_wait(std::string_view sqlstate);

// What a loop does next with its batch.
enum class NextStep {
    kRetry,      // The same batch, after a back-off.
    kShrink,     // Half of it, after a back-off.
    kReconnect,  // A new session; the position tells whether the batch was committed.
    kWait,       // Until the environment is mended, looking again by itself.
    kPutOff,     // This partition, the others' turn meanwhile: its position's row is locked.
    kResync,     // PROTOCOL 7.3.
    kHalt,       // The projection, for the fleet.
};
std::string_view name_of(NextStep step);

struct FailedAttempt {
    FailureClass failure_class;
    int attempt_count = 1;   // Of this class in a row, this one included.
    size_t event_count = 1;  // In the batch.
};

// `retry_count_max`: attempts of an unchanged batch before something else is tried.
NextStep next_step(const FailedAttempt& attempt, int retry_count_max);

}  // namespace millrace
