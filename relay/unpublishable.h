#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "schema/topic_name.h"

namespace millrace {

// What becomes of a task that can't be published (PROTOCOL 5).
enum class OnUnpublishable {
    kParkKey,     // It is set aside, and later tasks of its topic and key wait behind it.
    kDeadLetter,  // It alone is set aside.
    kHaltLane,    // Its lane halts until somebody acts.
};

struct UnpublishableOptions {
    OnUnpublishable policy = OnUnpublishable::kParkKey;
    std::map<std::string, OnUnpublishable, std::less<>> by_topic{};
    // How long a topic that does not exist is waited for, without holding up the others.
    std::chrono::milliseconds topic_grace{30000};

    // A copy of a dead letter holds up nothing, whatever is configured (PROTOCOL 5.1).
    OnUnpublishable policy_of(std::string_view topic) const {
        if (is_dead_letter_topic(topic)) return OnUnpublishable::kDeadLetter;
        const auto own = by_topic.find(topic);
        return own != by_topic.end() ? own->second : policy;
    }
};

}  // namespace millrace
