#include "relay/known_topics.h"

#include <algorithm>

#include "core/check.h"
#include "schema/topic_name.h"

namespace millrace {

namespace {

constexpr std::chrono::milliseconds kAskEvery{200};
constexpr std::chrono::seconds kForgottenAfter{2};  // Beyond its grace, a miss is.
// Not asked, or not answered, for longer: a topic must be missed for as long anew.
constexpr std::chrono::seconds kSilence{2};
// Of all awaited topics together; those that were not asked for are the first ones next time.
constexpr std::chrono::milliseconds kAwaitedLimit{20};
// Each try costs a refused batch and a settle.
constexpr std::chrono::seconds kRefusedFor{10};

}  // namespace

TopicState KnownTopics::look(std::string_view topic, Clock::time_point now) {
    if (const auto refused = refused_until_.find(topic); refused != refused_until_.end()) {
        if (now < refused->second) return TopicState::kRefused;
        refused_until_.erase(refused);
    }
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
    // One answer after a silence is a first answer. Where the grace is long, looks may be seldom.
    if (now - miss->second.asked_at > std::max<Clock::duration>(kSilence, grace_ / 2)) {
        miss->second.since = std::max(miss->second.since, std::min(now, now - grace_ + kSilence));
    }
    miss->second.asked_at = now;
    miss->second.is_refused = answer.is_refused;
    return state_of(miss->second, now);
}

void KnownTopics::note_refused(const std::string& topic, Clock::time_point now) {
    refused_until_[topic] = now + kRefusedFor;
}

void KnownTopics::ask_anew(Clock::time_point now) {
    refused_until_.clear();
    for (auto& [topic, miss] : misses_) miss.asked_at = std::min(miss.asked_at, now - kAskEvery);
}

int32_t KnownTopics::partition_count(std::string_view topic) const {
    const auto known = known_.find(topic);
    MILLRACE_CHECK(known != known_.end(), "a topic was looked at before it is written to");
    return known->second;
}

std::vector<std::string> KnownTopics::awaited(Clock::time_point now) {
    std::vector<std::pair<Clock::time_point, std::string>> missed;
    for (const auto& [topic, miss] : misses_) {
        if (state_of(miss, now) == TopicState::kAwaited) missed.emplace_back(miss.asked_at, topic);
    }
    std::sort(missed.begin(), missed.end());
    const Clock::time_point begin = Clock::now();
    std::vector<std::string> awaited;
    for (auto& [asked_at, topic] : missed) {
        const bool may_ask = Clock::now() - begin < kAwaitedLimit;
        if (!may_ask || look(topic, now) == TopicState::kAwaited) {
            awaited.push_back(std::move(topic));
        }
    }
    return awaited;
}

void KnownTopics::forget_old_misses(Clock::time_point now) {
    std::erase_if(misses_, [&](const auto& miss) {
        return now - miss.second.since > grace_ + kForgottenAfter;
    });
}

TopicState KnownTopics::state_of(const Miss& miss, Clock::time_point now) const {
    if (now - miss.since < grace_) return TopicState::kAwaited;
    return miss.is_refused ? TopicState::kRefused : TopicState::kMissing;
}

}  // namespace millrace
