#include "relay/waiting_tasks.h"

#include <algorithm>

namespace millrace {

namespace {

using std::chrono::milliseconds;

bool fits(milliseconds created_at, const std::optional<milliseconds>& record_time) {
    // What has the time zero is given the producer's.
    return !record_time || created_at == milliseconds(0) || created_at == *record_time;
}

}  // namespace

void WaitingTasks::add(const WaitingTask& task) {
    entries_[task.topic].emplace(
        task.id.event_id,
        Entry{.lane = task.id.lane, .id = task.id.id, .created_at = task.created_at});
    ++size_;
    oldest_ = std::min(oldest_, task.created_at);
}

std::optional<LedgerTask> WaitingTasks::take(const PublishedEvent& event) {
    const auto of_topic = entries_.find(event.topic);
    if (of_topic == entries_.end()) return std::nullopt;
    const auto [first, last] = of_topic->second.equal_range(event.event_id);
    auto found = last;
    for (auto entry = first; entry != last; ++entry) {
        if (!fits(entry->second.created_at, event.created_at)) continue;
        if (found == last || entry->second.id < found->second.id) found = entry;
    }
    if (found == last) return std::nullopt;
    const LedgerTask task{.lane = found->second.lane,
                          .id = found->second.id,
                          .digest = digest_of(event.event_id)};
    of_topic->second.erase(found);
    --size_;
    return task;
}

std::vector<std::string> WaitingTasks::topics() const {
    std::vector<std::string> topics;
    for (const auto& [topic, entries] : entries_) topics.push_back(topic);
    return topics;
}

}  // namespace millrace
