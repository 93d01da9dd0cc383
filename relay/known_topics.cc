#include "relay/known_topics.h"

#include "core/check.h"
#include "schema/topic_name.h"

namespace millrace {

namespace {

constexpr std::chrono::milliseconds kAskEvery{200};
// Beyond the grace, until a miss is forgotten.
constexpr std::chrono::seconds kRemembered{2};

}  // namespace

TopicState KnownTopics::look(std::string_view topic, Clock::time_point now) {
    if (known_.find(topic) != known_.end()) return TopicState::kThere;
    if (!is_topic_name(topic)) return TopicState::kInvalid;
    auto miss = misses_.find(topic);
    if (miss != misses_.end() && now - miss->second.asked_at < kAskEvery) {
        return state_of(miss->second, now);
    }
    const std::string name(topic);
    const TopicAnswer answer = ask_(name);
    if (answer.partition_count > 0) {
        known_.emplace(name, answer.partition_count);
        misses_.erase(name);
        return TopicState::kThere;
    }
    if (miss == misses_.end()) miss = misses_.emplace(name, Miss{now, now, false}).first;
    miss->second.asked_at = now;
    miss->second.is_refused = answer.is_refused;
    return state_of(miss->second, now);
}

int32_t KnownTopics::partition_count(std::string_view topic) const {
    const auto known = known_.find(topic);
    MILLRACE_CHECK(known != known_.end(), "a topic was looked at before it is written to");
    return known->second;
}

std::vector<std::string> KnownTopics::awaited(Clock::time_point now) {
    std::vector<std::string> missed;
    for (const auto& [topic, miss] : misses_) {
        if (state_of(miss, now) == TopicState::kAwaited) missed.push_back(topic);
    }
    std::erase_if(missed, [&](const std::string& topic) {
        return look(topic, now) != TopicState::kAwaited;
    });
    return missed;
}

void KnownTopics::forget_old_misses(Clock::time_point now) {
    std::erase_if(misses_, [&](const auto& miss) {
        return now - miss.second.since > grace_ + kRemembered;
    });
}

TopicState KnownTopics::state_of(const Miss& miss, Clock::time_point now) const {
    if (now - miss.since < grace_) return TopicState::kAwaited;
    return miss.is_refused ? TopicState::kRefused : TopicState::kMissing;
}

}  // namespace millrace
