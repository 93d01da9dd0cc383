#include "consumers/failure_policy.h"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace millrace {

namespace {

struct Rule {
    std::string_view prefix;  // Five characters: one code; fewer: all that begin so.
    FailureClass failure_class;
};

// The first that fits decides, so exceptions stand before their class.
constexpr std::array kRules{
    Rule{"MR001", FailureClass::kLost},
    Rule{"MR004", FailureClass::kCapped},
    Rule{"40001", FailureClass::kConflict},     // serialization_failure
    Rule{"40P01", FailureClass::kConflict},     // deadlock_detected
    Rule{"55P03", FailureClass::kConflict},     // lock_not_available
    Rule{"57014", FailureClass::kOverload},     // query_canceled: statement_timeout
    Rule{"53200", FailureClass::kOverload},     // out_of_memory
    Rule{"08", FailureClass::kConnection},      // connection_exception
    Rule{"57P0", FailureClass::kConnection},    // shutdown, starting up
    Rule{"53300", FailureClass::kConnection},   // too_many_connections
    Rule{"25006", FailureClass::kConnection},   // read only: a standby after a failover
    Rule{"25P03", FailureClass::kConnection},   // idle_in_transaction_session_timeout
    Rule{"53100", FailureClass::kEnvironment},  // disk_full
    Rule{"28", FailureClass::kEnvironment},     // invalid authorization
    Rule{"42501", FailureClass::kEnvironment},  // insufficient_privilege
    Rule{"42P01", FailureClass::kEnvironment},  // undefined_table
    Rule{"42703", FailureClass::kEnvironment},  // undefined_column
    Rule{"3F000", FailureClass::kEnvironment},  // invalid_schema_name
    Rule{"58", FailureClass::kEnvironment},     // system_error
    Rule{"XX", FailureClass::kEnvironment},     // internal_error
    Rule{"26000", FailureClass::kStalePlan},    // invalid_sql_statement_name
    Rule{"0A000", FailureClass::kStalePlan},    // cached plan must not change result type
    Rule{"21000", FailureClass::kBug},          // cardinality_violation
    Rule{"42", FailureClass::kBug},             // syntax_error_or_access_rule_violation
    Rule{"22", FailureClass::kRecord},          // data_exception
    Rule{"23", FailureClass::kRecord},          // integrity_constraint_violation
    Rule{"54", FailureClass::kRecord},          // program_limit_exceeded
    Rule{"P0001", FailureClass::kRecord},       // raise_exception
};

// What an override may say; the others are no choice of a projection's.
struct ClassName {
    std::string_view name;
    FailureClass failure_class;
};
constexpr std::array kClassNames{ClassName{"conflict", FailureClass::kConflict},
                                 ClassName{"overload", FailureClass::kOverload},
                                 ClassName{"environment", FailureClass::kEnvironment},
                                 ClassName{"bug", FailureClass::kBug},
                                 ClassName{"record", FailureClass::kRecord}};

// Some code has both beginnings.
bool is_touched(const Rule& rule, std::string_view prefix) {
    return rule.prefix.starts_with(prefix) || prefix.starts_with(rule.prefix);
}

std::string class_names() {
    std::string names;
    for (const ClassName& known : kClassNames) {
        names += (names.empty() ? "" : ", ") + std::string(known.name);
    }
    return names;
}

}  // namespace

std::string_view name_of(FailureClass failure_class) {
    switch (failure_class) {
        case FailureClass::kConflict: return "conflict";
        case FailureClass::kOverload: return "overload";
        case FailureClass::kConnection: return "connection";
        case FailureClass::kEnvironment: return "environment";
        case FailureClass::kStalePlan: return "stale_plan";
        case FailureClass::kBug: return "bug";
        case FailureClass::kRecord: return "record";
        case FailureClass::kLost: return "lost";
        case FailureClass::kCapped: return "capped";
        case FailureClass::kUnclassified: return "unclassified";
    }
    return "invalid";
}

std::string_view reason_of(FailureClass failure_class) {
    switch (failure_class) {
        case FailureClass::kConflict: return "pg_conflict";
        case FailureClass::kOverload: return "pg_overload";
        case FailureClass::kConnection: return "pg_connection_lost";
        case FailureClass::kEnvironment: return "pg_environment";
        case FailureClass::kStalePlan: return "pg_stale_plan";
        case FailureClass::kBug: return "pg_bug";
        case FailureClass::kRecord: return "pg_record";
        case FailureClass::kLost: return "position_lost";
        case FailureClass::kCapped: return "set_aside_cap";
        case FailureClass::kUnclassified: return "pg_unclassified";
    }
    return "invalid";
}

std::string_view name_of(NextStep step) {
    switch (step) {
        case NextStep::kRetry: return "retry";
        case NextStep::kShrink: return "shrink";
        case NextStep::kReconnect: return "reconnect";
        case NextStep::kWait: return "wait";
        case NextStep::kPutOff: return "put_off";
        case NextStep::kResync: return "resync";
        case NextStep::kBisect: return "bisect";
        case NextStep::kSetAside: return "set_aside";
        case NextStep::kDropCopies: return "drop_copies";
        case NextStep::kHalt: return "halt";
    }
    return "invalid";
}

ClassOverride parse_override(std::string_view prefix, std::string_view class_name) {
    const bool is_code =
        prefix.size() >= 2 && prefix.size() <= 5 &&
        std::all_of(prefix.begin(), prefix.end(), [](char c) {
            return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
        });
    if (!is_code) throw std::invalid_argument("is no SQLSTATE, nor the beginning of one");
    const auto found = std::find_if(kClassNames.begin(), kClassNames.end(),
                                    [&](const ClassName& known) {
                                        return known.name == class_name;
                                    });
    if (found == kClassNames.end()) {
        throw std::invalid_argument("is one of " + class_names());
    }
    for (const Rule& rule : kRules) {
        if (!is_touched(rule, prefix)) continue;
        const FailureClass was = rule.failure_class;
        if (was == FailureClass::kLost || was == FailureClass::kCapped) {
            throw std::invalid_argument("would change the meaning of " + std::string(rule.prefix) +
                                        ", which is millrace's own");
        }
        if (was == FailureClass::kConnection) {
            throw std::invalid_argument("would change the meaning of " + std::string(rule.prefix) +
                                        ", by which an outage is known");
        }
        const bool is_of_record = found->failure_class == FailureClass::kRecord;
        if (is_of_record && (was == FailureClass::kEnvironment || was == FailureClass::kConflict ||
                             was == FailureClass::kStalePlan)) {
            throw std::invalid_argument("would blame a record for " + std::string(rule.prefix) +
                                        ", which is not of its making");
        }
    }
    return {.prefix = std::string(prefix), .failure_class = found->failure_class};
}

FailureClass class_of(std::string_view sqlstate, const ClassOverrides& overrides) {
    if (sqlstate.empty()) return FailureClass::kConnection;
    const ClassOverride* best = nullptr;
    for (const ClassOverride& rule : overrides) {
        if (!sqlstate.starts_with(rule.prefix)) continue;
        if (best == nullptr || rule.prefix.size() > best->prefix.size()) best = &rule;
    }
    if (best != nullptr) return best->failure_class;
    for (const Rule& rule : kRules) {
        if (sqlstate.starts_with(rule.prefix)) return rule.failure_class;
    }
    return FailureClass::kUnclassified;
}

bool may_be(std::string_view prefix, FailureClass failure_class) {
    return std::any_of(kRules.begin(), kRules.end(), [&](const Rule& rule) {
        return rule.failure_class == failure_class && is_touched(rule, prefix);
    });
}

bool is_lock_wait(std::string_view sqlstate) {
    return sqlstate == "55P03" || sqlstate == "57014";  // lock_timeout, statement_timeout
}

NextStep next_step(const FailedAttempt& attempt, int retry_count_max) {
    const bool may_retry = attempt.attempt_count < retry_count_max;
    const bool can_shrink = attempt.event_count > 1;
    switch (attempt.failure_class) {
        case FailureClass::kConflict:
            // A single event meets no conflict of its own making: the other side will end.
            return may_retry || !can_shrink ? NextStep::kRetry : NextStep::kShrink;
        case FailureClass::kOverload:
            if (can_shrink) return NextStep::kShrink;
            if (may_retry) return NextStep::kRetry;
            // One event alone asks for more than the server gives (PROTOCOL 7.8).
            return attempt.sets_aside ? NextStep::kSetAside : NextStep::kHalt;
        case FailureClass::kConnection: return NextStep::kReconnect;
        case FailureClass::kEnvironment: return NextStep::kWait;
        case FailureClass::kStalePlan:
            // A new session prepares everything again; once is enough to know.
            return attempt.attempt_count == 1 ? NextStep::kReconnect : NextStep::kHalt;
        case FailureClass::kBug: return NextStep::kHalt;
        case FailureClass::kRecord:
            if (!attempt.sets_aside) return can_shrink ? NextStep::kShrink : NextStep::kHalt;
            return can_shrink ? NextStep::kBisect : NextStep::kSetAside;
        case FailureClass::kLost: return NextStep::kResync;
        case FailureClass::kCapped: return NextStep::kHalt;
        case FailureClass::kUnclassified: return may_retry ? NextStep::kRetry : NextStep::kHalt;
    }
    return NextStep::kHalt;
}

}  // namespace millrace
