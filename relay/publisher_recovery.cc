// What a Publisher does when something goes wrong.

#include <algorithm>

#include "core/log.h"
#include "core/stop.h"
#include "relay/publisher.h"
#include "relay/settler.h"

namespace millrace {

void Publisher::recover(const Failure& failure, std::stop_token stop) {
    shared_.metrics.failure(failure.reason());
    if (is_in_kafka_) shared_.metrics.transaction("in_doubt");
    if (failure.reason() == "kafka_fenced") shared_.metrics.fenced("kafka");
    if (failure.reason() == "publisher_lost") shared_.metrics.fenced("postgres");
    log(LogLevel::kWarn, "relay", "publisher interrupted",
        {{"kind", name_of(failure.kind())},
         {"reason", failure.reason()},
         {"detail", failure.detail()}});
    show(failure.reason());

    switch (failure.kind()) {
        case FailureKind::kFatal:
            if (ends_program(failure)) throw failure;
            break;
        case FailureKind::kLost:
            if (failure.reason() == "publisher_changed" && !is_in_kafka_) {
                try {
                    reload();
                    show("");
                    return;
                } catch (const Failure& again) {
                    note_again(again);
                }
            }
            break;
        case FailureKind::kTransient:
            // Nothing of Kafka was begun when a claim met a lock: the publisher stays settled.
            if (failure.sqlstate() == "55P03" && is_settled_ && !is_in_kafka_ &&
                !session_->is_broken()) {
                try {
                    session_->rollback();
                    log(LogLevel::kWarn, "relay", "claim waits for a lock",
                        {{"holder", outbox_->blocker()}});
                    return;
                } catch (const Failure& again) {
                    // The session went meanwhile: as for any other failure.
                    note_again(again);
                }
            }
            break;
        case FailureKind::kPoison: note_poison(failure); break;
        case FailureKind::kHalt:
            if (is_unreadable(failure.reason())) leave_unread(failure.reason());
            break;
        case FailureKind::kUnknown: break;
    }
    drop_everything();
    // Looking for the culprit is no outage: all lanes of this publisher wait for its end.
    if (failure.kind() == FailureKind::kPoison && failure.reason() != "topic_missing") return;
    const bool is_halted = failure.kind() == FailureKind::kHalt;
    wait_for(stop, is_halted ? std::chrono::seconds(1) : backoff_.next());
}

// A refused batch of one task names the culprit; a larger one is cut in half until it does.
void Publisher::note_poison(const Failure& failure) {
    // The topic was deleted since it was asked for: the next claim asks, and then it waits a while.
    if (failure.reason() == "topic_missing") return;
    if (produced_count_ == 1) {
        suspect_ = Suspect{first_, failure.reason(), failure.detail()};
        return;
    }
    halve_claims();
}

// A broker that lets us see a topic and not write to it. Under the policy dead_letter, which copies
// of dead letters always have, the task is set aside; any other waits until the right is granted.
void Publisher::note_refused_topic(const Claim& claim, const Failure& failure) {
    const auto is_set_aside_alone = [this](const Task& task) {
        return options_.unpublishable.policy_of(task.topic) == OnUnpublishable::kDeadLetter;
    };
    if (std::none_of(claim.tasks.begin(), claim.tasks.end(), is_set_aside_alone)) return;
    // Looked for as any other culprit; a task of another policy is not accused.
    throw poison("topic_not_authorised", failure.detail());
}

void Publisher::halve_claims() {
    task_limit_ = std::max<int32_t>(1, static_cast<int32_t>(produced_count_ / 2));
}

// Another member may be able to read the record: it gets the publisher, lanes and all, and this
// thread takes another one (PROTOCOL 4.1).
void Publisher::leave_unread(const std::string& reason) {
    const std::optional<Uuid> instance = shared_.lease.instance();
    if (!instance || session_->is_broken()) return;
    try {
        session_->rollback();
        publishers_->leave_unread(*state_, reason, *instance);
        not_before_[state_->number] = Clock::now() + kSettleAgainAfter;
        state_.reset();
        watch_.clear_publisher();
    } catch (const Failure& again) {
        note_again(again);
    }
}

// A second failure while the first one was dealt with.
void Publisher::note_again(const Failure& failure) {
    shared_.metrics.failure(failure.reason());
    log(LogLevel::kWarn, "relay", "publisher interrupted again",
        {{"reason", failure.reason()}, {"detail", failure.detail()}});
}

// Whatever the failure, the transaction is in doubt: producers and session go, and the next take
// settles (PROTOCOL 3.7). The publisher stays remembered.
void Publisher::drop_everything() {
    is_settled_ = false;
    is_in_kafka_ = false;
    producers_.drop();
    outbox_.reset();
    dead_.reset();
    parked_.clear();
    may_have_released_ = false;
    publishers_.reset();
    session_.reset();
    show_lanes(0);
}

}  // namespace millrace
