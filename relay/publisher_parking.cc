// What a Publisher does about tasks that can't be published (PROTOCOL 5).

#include <algorithm>

#include "core/crash_point.h"
#include "core/log.h"
#include "relay/publisher.h"

namespace millrace {

namespace {

// So long may looks at topics keep a claim open, whose session may idle for 20 s.
constexpr std::chrono::seconds kLookMax{5};
// So long may taking back a topic's tasks keep the publisher from everything else.
constexpr std::chrono::seconds kTakeBackMax{5};

}  // namespace

// After its version was read: whoever changes these rows later raises it, and the next transaction
// meets that (PROTOCOL 4.5).
void Publisher::load_parked() {
    parked_ = dead_->parked(state_->lanes, [this] { watch_.loop.note_progress(); });
    may_have_released_ = true;
}

bool Publisher::has_released(const std::vector<std::string>& topics_left_out) {
    if (!may_have_released_) return false;
    if (dead_->has_released(state_->lanes, topics_left_out)) return true;
    // What is left out may be claimed later.
    may_have_released_ = !topics_left_out.empty();
    return false;
}

std::optional<TopicFaults> Publisher::look_at_topics(const Claim& claim) {
    const Clock::time_point now = Clock::now();
    TopicFaults faults;
    std::map<std::string, TaskMark> awaited;  // The first task of each topic.
    for (const Task& task : claim.tasks) {
        // The claim is open meanwhile: what was learnt stays known for the next one.
        if (Clock::now() - now > kLookMax) {
            session_->rollback();
            return std::nullopt;
        }
        // What waits behind another of its key needs no topic yet.
        if (!task.was_dead && is_parked(task)) continue;
        const TopicState state = topics_.look(task.topic, now);
        if (state == TopicState::kThere) continue;
        const TopicFault fault = fault_of(task.topic, state);
        const bool halts =
            options_.unpublishable.policy_of(task.topic) == OnUnpublishable::kHaltLane;
        if (state != TopicState::kAwaited && !halts && !task.was_dead) {
            faults.try_emplace(std::string(task.topic), fault);
            continue;
        }
        const TaskMark mark = mark_of(task);
        if (state == TopicState::kAwaited) {
            awaited.emplace(mark.topic, mark);
            continue;
        }
        session_->rollback();
        if (halts) {
            halt_lane(mark, fault.reason, fault.detail);
        } else {
            take_back_topic(mark.topic, fault);
        }
        return std::nullopt;
    }
    if (awaited.empty()) return faults;
    session_->rollback();
    for (const auto& [topic, mark] : awaited) {
        log(LogLevel::kWarn, "relay", "waits for a topic; the others go on",
            {{"topic", topic}, {"task", mark.id.id}});
    }
    return std::nullopt;
}

// In the claim's own transaction: what it publishes and what it sets aside leave pending_tasks
// together, and the ledger names the former alone (PROTOCOL 5.3).
Parking Publisher::set_aside_from(Claim& claim, const TopicFaults& faults) {
    std::set<QueueName> taken;
    for (const Task& task : claim.tasks) {
        if (task.queue) taken.insert({task.lane, *task.queue});
    }
    std::set<QueueName> emptied = dead_->pass_marks(taken);
    if (faults.empty() && parked_.is_empty()) return {.entries = {}, .emptied = std::move(emptied)};
    Parking parking =
        park(claim.tasks, parked_, std::move(emptied), options_.unpublishable, faults);
    if (parking.entries.empty() || claim.tasks.empty()) return parking;
    dead_->add(parking.entries);
    MILLRACE_CRASH_POINT("relay.after_park");
    return parking;
}

// A claim of nothing but parked tasks publishes nothing, so its seq must not move: it is rolled
// back, and they are moved without it (PROTOCOL 5.3).
size_t Publisher::park_alone(const Parking& parking) {
    session_->rollback();
    std::vector<TaskId> ids;
    for (const DeadEntry& entry : parking.entries) {
        ids.push_back({entry.task.lane, entry.task.id, entry.task.event_id});
    }
    pg::Transaction transaction(*session_);
    publishers_->check(*state_);
    // Changed since by somebody who locked the lane: the next claim meets what is left.
    if (outbox_->take_out(ids).tasks.size() != ids.size()) return 0;
    dead_->add(parking.entries);
    MILLRACE_CRASH_POINT("relay.after_park");
    transaction.commit();
    note_parked(parking);
    return parking.entries.size();
}

// The transaction is committed.
void Publisher::note_parked(const Parking& parking) {
    parking.apply_to(parked_);
    std::map<std::string, std::pair<int64_t, const DeadEntry*>> by_reason;
    for (const DeadEntry& entry : parking.entries) {
        if (entry.reason == kQueuedBehind) continue;
        auto& [count, first] = by_reason[entry.reason];
        if (count++ == 0) first = &entry;
    }
    for (const auto& [reason, found] : by_reason) {
        note_set_aside(reason, found.second->detail, mark_of(found.second->task), found.first);
    }
}

// After a settle: its transaction is known to have published nothing (PROTOCOL 5.1).
void Publisher::set_aside(const TaskMark& task, const std::string& reason,
                          const std::string& why) {
    const OnUnpublishable policy = options_.unpublishable.policy_of(task.topic);
    if (policy == OnUnpublishable::kHaltLane) {
        halt_lane(task, reason, why);
        return;
    }
    const std::vector<int16_t>& lanes = state_->lanes;
    // Moved away while we were paused: whoever has it will meet the same task.
    if (std::find(lanes.begin(), lanes.end(), task.id.lane) == lanes.end()) return;
    const bool parks_key = policy == OnUnpublishable::kParkKey;
    std::optional<std::pair<std::string, std::string>> begun;  // Topic and key of a new queue.
    pg::Transaction transaction(*session_);
    publishers_->check(*state_);
    if (task.was_dead) {
        if (!dead_->take_back(task.id, reason, why, parks_key)) return;
    } else {
        const TakenTasks taken = outbox_->take_out({task.id});
        if (taken.tasks.empty()) return;
        const Task& found = taken.tasks.front();
        const bool begins_queue = parks_key && found.key;
        if (begins_queue) begun.emplace(found.topic, *found.key);
        dead_->add({{found, reason, why, begins_queue ? std::optional(found.id) : std::nullopt}});
    }
    publishers_->bump_version(state_->number);
    MILLRACE_CRASH_POINT("relay.after_set_aside");
    transaction.commit();

    ++state_->version;
    if (reason == "topic_not_authorised") topics_.note_refused(task.topic, Clock::now());
    // What is parked by it is known: all keys are read anew only where a queue may have ended.
    if (begun) {
        parked_.add(begun->first, begun->second, {task.id.lane, task.id.id});
    } else if (task.was_dead) {
        load_parked();
    }
    note_set_aside(reason, why, task, 1);
}

void Publisher::take_back_topic(const std::string& topic, const TopicFault& fault) {
    const bool parks_key =
        options_.unpublishable.policy_of(topic) == OnUnpublishable::kParkKey;
    const Clock::time_point end = Clock::now() + kTakeBackMax;
    int64_t count = 0;
    // In transactions of a bounded length: a statement over millions would meet its time limit, and
    // be begun anew for ever. A later claim meets what is left.
    for (int64_t taken = -1; taken != 0 && Clock::now() < end;) {
        pg::Transaction transaction(*session_);
        publishers_->check(*state_);
        taken = dead_->take_back_topic(state_->lanes, topic, fault.reason, fault.detail, parks_key);
        if (taken == 0) break;
        publishers_->bump_version(state_->number);
        MILLRACE_CRASH_POINT("relay.after_take_back");
        transaction.commit();
        ++state_->version;
        count += taken;
    }
    load_parked();
    shared_.metrics.failure(fault.reason);
    log(LogLevel::kError, "relay", "released tasks failed again",
        {{"reason", fault.reason}, {"detail", fault.detail}, {"tasks", count}});
}

TopicFault Publisher::fault_of(std::string_view topic, TopicState state) {
    const std::string quoted = "'" + std::string(topic) + "'";
    switch (state) {
        case TopicState::kRefused:
            return {"topic_not_authorised", quoted + " is not ours to write to"};
        case TopicState::kInvalid:
            return {"topic_invalid", quoted + " can't be the name of a topic"};
        case TopicState::kThere:
        case TopicState::kAwaited:
        case TopicState::kMissing: break;
    }
    return {"topic_missing", quoted + " does not exist"};
}

bool Publisher::is_parked(const Task& task) const {
    return task.key && parked_.find(task.topic, *task.key);
}

Publisher::TaskMark Publisher::mark_of(const Task& task) {
    return {.id = {task.lane, task.id, task.event_id},
            .topic = std::string(task.topic),
            .was_dead = task.was_dead,
            .correlation_id = correlation_id(task)};
}

void Publisher::note_set_aside(const std::string& reason, const std::string& detail,
                               const TaskMark& first, int64_t count) {
    shared_.metrics.failure(reason);
    log(LogLevel::kError, "relay", "tasks set aside",
        {{"reason", reason},
         {"detail", detail},
         {"tasks", count},
         {"topic", first.topic},
         {"task", first.id.id},
         {"correlation_id", first.correlation_id},
         {"then", "millrace outbox list"}});
}

}  // namespace millrace
