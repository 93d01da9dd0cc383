#include "relay/parked_keys.h"

namespace millrace {

void ParkedKeys::add(std::string_view topic, std::string_view key, QueueName queue) {
    queues_.insert_or_assign(Key(topic, key), queue);
}

void ParkedKeys::remove(const std::set<QueueName>& queues) {
    if (queues.empty()) return;
    std::erase_if(queues_, [&](const auto& entry) { return queues.contains(entry.second); });
}

std::optional<QueueName> ParkedKeys::find(std::string_view topic, std::string_view key) const {
    const auto found = queues_.find(KeyView(topic, key));
    if (found == queues_.end()) return std::nullopt;
    return found->second;
}

void Parking::apply_to(ParkedKeys& parked) const {
    parked.remove(emptied);
    for (const DeadEntry& entry : entries) {
        if (!entry.queue) continue;
        parked.add(entry.task.topic, *entry.task.key, {entry.task.lane, *entry.queue});
    }
}

Parking park(std::vector<Task>& tasks, const ParkedKeys& parked, std::set<QueueName> emptied,
             const UnpublishableOptions& options, const TopicFaults& faults) {
    Parking parking{.entries = {}, .emptied = std::move(emptied)};
    ParkedKeys began;  // By this claim.
    const auto queue_of = [&](const Task& task) -> std::optional<QueueName> {
        if (!task.key) return std::nullopt;
        const std::optional<QueueName> queue = parked.find(task.topic, *task.key);
        // A key is free in the very transaction that empties its queue (PROTOCOL 5.2).
        if (queue && !parking.emptied.contains(*queue)) return queue;
        return began.find(task.topic, *task.key);
    };
    std::vector<Task> left;
    left.reserve(tasks.size());
    for (const Task& task : tasks) {
        // What an operator has released is what the others of its key wait for.
        const std::optional<QueueName> queue =
            task.was_dead ? std::nullopt : queue_of(task);
        if (queue) {
            parking.entries.push_back({task, std::string(kQueuedBehind), "", queue->id});
            continue;
        }
        const auto fault = faults.find(task.topic);
        if (task.was_dead || fault == faults.end()) {
            left.push_back(task);
            continue;
        }
        const bool begins_queue =
            task.key && options.policy_of(task.topic) == OnUnpublishable::kParkKey;
        if (begins_queue) began.add(task.topic, *task.key, {task.lane, task.id});
        parking.entries.push_back({task, fault->second.reason, fault->second.detail,
                                   begins_queue ? std::optional(task.id) : std::nullopt});
    }
    tasks = std::move(left);
    return parking;
}

}  // namespace millrace
