#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "relay/outbox.h"
#include "relay/unpublishable.h"

namespace millrace {

// The reason of a task with which nothing is wrong but the one it waits for.
constexpr std::string_view kQueuedBehind = "queued_behind";

// A queue of dead_tasks: its lane, and the id of the task that began it.
struct QueueName {
    int16_t lane = 0;
    int64_t id = 0;

    friend auto operator<=>(const QueueName&, const QueueName&) = default;
};

// A task that is set aside, why, and the queue it stands in or begins.
struct DeadEntry {
    Task task;
    std::string reason;
    std::string detail;
    std::optional<int64_t> queue;
};

// Why tasks of a topic can't be published, by topic.
struct TopicFault {
    std::string reason;
    std::string detail;
};
using TopicFaults = std::map<std::string, TopicFault, std::less<>>;

// The keys of a publisher's lanes that are parked, as its thread knows them at its version. A later
// task of such a key waits behind its queue (PROTOCOL 5.1). Not thread-safe; no I/O.
class ParkedKeys {
  public:
    void add(std::string_view topic, std::string_view key, QueueName queue);
    void remove(const std::set<QueueName>& queues);
    void clear() { queues_.clear(); }

    std::optional<QueueName> find(std::string_view topic, std::string_view key) const;
    bool is_empty() const { return queues_.empty(); }

  private:
    using Key = std::pair<std::string, std::string>;
    using KeyView = std::pair<std::string_view, std::string_view>;
    struct Less {
        using is_transparent = void;
        template <typename A, typename B>
        bool operator()(const A& a, const B& b) const {
            return KeyView(a.first, a.second) < KeyView(b.first, b.second);
        }
    };

    std::map<Key, QueueName, Less> queues_;
};

// What one claim sets aside, and what that changes once it is committed.
struct Parking {
    std::vector<DeadEntry> entries;  // In id order.
    std::set<QueueName> emptied;     // Queues that it takes to their end.

    // Once its transaction is committed.
    void apply_to(ParkedKeys& parked) const;
};

// Takes out of `tasks`, a claim in the order in which it would be published, those that must not
// be: tasks of a key that is parked and whose queue this claim does not empty, and those whose
// topic has a fault. Pure.
Parking park(std::vector<Task>& tasks, const ParkedKeys& parked, std::set<QueueName> emptied,
             const UnpublishableOptions& options, const TopicFaults& faults);

}  // namespace millrace
