#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
    kCapped,       // More would be set aside than the caps allow (MR004).
    kUnclassified,
};
// Of the class itself, as dead letters have it.
std::string_view name_of(FailureClass failure_class);
// As logs, metrics and the README's table name it.
std::string_view reason_of(FailureClass failure_class);

// Codes that one projection classes otherwise than the table does.
struct ClassOverride {
    std::string prefix;  // Five characters: one code; two to four: all that begin so.
    FailureClass failure_class;
};
using ClassOverrides = std::vector<ClassOverride>;
// Of a code and a class as a configuration writes them. Throws std::invalid_argument that says why
// not: an outage is never a record's fault, and our own codes are ours.
ClassOverride parse_override(std::string_view prefix, std::string_view class_name);

// Total: every code has a class; none at all means that the connection broke. The longest override
// that fits decides, then the table.
FailureClass class_of(std::string_view sqlstate, const ClassOverrides& overrides = {});

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
    kBisect,     // Find the culprits among its events, apply the others (PROTOCOL 7.8).
    kSetAside,   // Its only event becomes a dead letter.
    kDropCopies,  // The same batch without its letters' Kafka copies.
    kHalt,       // The projection, for the fleet.
};
std::string_view name_of(NextStep step);

struct FailedAttempt {
    FailureClass failure_class;
    int attempt_count = 1;   // Of this class in a row, this one included.
    size_t event_count = 1;  // In the batch.
    bool sets_aside;         // False: a poisoned event halts the projection.
};

// Whether the table has a code of that class which begins so, or is the beginning of it.
bool may_be(std::string_view prefix, FailureClass failure_class);

// `retry_count_max`: attempts of an unchanged batch before something else is tried.
NextStep next_step(const FailedAttempt& attempt, int retry_count_max);

}  // namespace millrace
