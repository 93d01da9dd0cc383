#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "consumers/failure_policy.h"
#include "schema/event.h"

namespace millrace {

// What follows on a poisoned event.
enum class OnPoison {
    kParkKey,  // A dead letter; later events of its key wait behind it.
    kSkip,     // A dead letter; later events of its key go on.
    kHalt,     // The projection waits for a human.
};

// Whether later events of this one's key wait behind its letter. One without a key has none.
inline bool parks_key(OnPoison on_poison, const Event& event) {
    return on_poison == OnPoison::kParkKey && event.key.has_value();
}

// Why a record can't be applied.
struct Cause {
    FailureClass failure_class = FailureClass::kRecord;
    std::string reason{};
    std::string sqlstate{};    // Empty: PostgreSQL was not asked.
    std::string constraint{};  // Empty: none was named.
    std::string statement{};   // Line of the projection file, or in words; empty: none was run.
    std::string error{};
    int attempt_count = 1;

    // Reason, SQLSTATE and constraint, for groups.
    std::string text() const {
        std::string text = reason;
        if (!sqlstate.empty()) text += " " + sqlstate;
        if (!constraint.empty()) text += " " + constraint;
        return text;
    }
};

// A record that is set aside, by its index among a batch's.
struct DeadLetter {
    size_t index = 0;
    bool parks = false;  // Later events of its key wait behind it.
    Cause cause;
};

// How many for which cause, the most frequent first, for people.
std::string causes_of(const std::vector<DeadLetter>& letters);

// Keys as bytes, to be asked for without a copy.
struct KeyHash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
};
using KeySet = std::unordered_set<std::string, KeyHash, std::equal_to<>>;

// Fills in what the message of that index has, as EventParser::parse takes it.
using FillEvent = std::function<void(size_t index, Event& event)>;

}  // namespace millrace
