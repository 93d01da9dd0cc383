// What a ProjectionWorker does when something goes wrong.

#include <algorithm>

#include "consumers/projection_metrics.h"
#include "consumers/projection_worker.h"
#include "core/check.h"
#include "core/log.h"

namespace millrace {

namespace {

// Troubles that are no class of PostgreSQL's errors.
constexpr std::string_view kKafka = "kafka";
constexpr std::string_view kHaltUnwritten = "halt_unwritten";
constexpr int kDoublingsMax = 6;

// The copies fail where the letters would not.
bool can_do_without_copies(FailureClass failure_class) {
    switch (failure_class) {
        case FailureClass::kConflict:
        case FailureClass::kOverload:
        case FailureClass::kConnection:
        case FailureClass::kLost: return false;
        case FailureClass::kEnvironment:
        case FailureClass::kStalePlan:
        case FailureClass::kBug:
        case FailureClass::kRecord:
        case FailureClass::kCapped:
        case FailureClass::kUnclassified: return true;
    }
    return false;
}

std::string sqlstate_label(const std::string& sqlstate) {
    return sqlstate.empty() ? "connection" : sqlstate;
}

}  // namespace

// The one place that decides what follows on what PostgreSQL refused.
void ProjectionWorker::refused(OwnedPartition& partition, const Refusal& refusal) {
    const std::string& sqlstate = refusal.error.sqlstate;
    const FailureClass failure_class = class_of_refusal(refusal);
    const int count = ++partition.refusal_counts[failure_class];
    const NextStep next = next_step_after(refusal, failure_class, count);
    // A connection that ended may have ended behind the COMMIT.
    batch_->is_in_doubt = failure_class == FailureClass::kConnection;
    shared_.metrics.failure(std::string(reason_of(failure_class)));
    log(next == NextStep::kHalt ? LogLevel::kError : LogLevel::kWarn, "consumers", "batch refused",
        {{"projection", options_.projection.name},
         {"batch", batch_->text()},
         {"attempt", count},
         {"sqlstate", sqlstate},
         {"reason", reason_of(failure_class)},
         {"then", name_of(next)},
         {"error", refusal.text()}});
    take_next_step(partition, next, refusal);
}

void ProjectionWorker::take_next_step(OwnedPartition& partition, NextStep next,
                                      const Refusal& refusal) {
    const std::string& sqlstate = refusal.error.sqlstate;
    const FailureClass failure_class = class_of_refusal(refusal);
    const std::string reason(reason_of(failure_class));
    const std::string why = reason + ": " + refusal.text();
    switch (next) {
        case NextStep::kRetry:
            shared_.metrics.retry(sqlstate_label(sqlstate));
            if (const int beyond = partition.refusal_counts[failure_class] - options_.retry_count;
                beyond >= 0) {
                // Tried for ever: no reason to keep the other partitions waiting.
                const int doublings = std::min(beyond, kDoublingsMax);
                put_off(partition, why, options_.retry_backoff * (1 << doublings));
                return;
            }
            wait_before_next(retry_backoff_.next(), why);
            return;
        case NextStep::kShrink:
            shared_.metrics.retry(sqlstate_label(sqlstate));
            shrink(partition);
            wait_before_next(retry_backoff_.next(), why);
            return;
        case NextStep::kReconnect:
            shared_.metrics.retry(sqlstate_label(sqlstate));
            if (failure_class == FailureClass::kConnection) {
                recover_lost_send(partition, transient("pg_connection_lost", refusal.text()));
                return;
            }
            drop_session();
            wait_before_next(retry_backoff_.next(), why);
            return;
        case NextStep::kWait:
            // Perhaps one event of one partition only, by a trigger of its table.
            put_off(partition, why, patience_.next(reason_of(failure_class)).wait);
            drop_session();
            return;
        case NextStep::kPutOff:
            put_off(partition, why, std::nullopt);
            return;
        case NextStep::kResync:
            shared_.metrics.positions_lost.Increment();
            drop_batch();
            assignment_->resync(partition, *positions_);
            return;
        case NextStep::kBisect: batch_->is_in_parts = true; return;
        case NextStep::kSetAside: set_aside(partition, refusal); return;
        case NextStep::kDropCopies:
            shared_.metrics.copies_skipped.Increment(static_cast<double>(batch_->letters.size()));
            batch_->has_copies = false;
            return;
        case NextStep::kHalt:
            halt_projection(reason, batch_->text() + ": " + refusal.text());
            return;
    }
}

// What the handler did not send is no record's fault.
FailureClass ProjectionWorker::class_of_refusal(const Refusal& refusal) const {
    const FailureClass failure_class = class_of(refusal.error.sqlstate, options_.overrides);
    const bool is_misplaced =
        (failure_class == FailureClass::kRecord && !refusal.is_of_handler) ||
        // Raised by an author's trigger: our own codes have one place each.
        (failure_class == FailureClass::kLost && !refusal.is_of_move) ||
        (failure_class == FailureClass::kCapped && refusal.is_of_handler);
    return is_misplaced ? FailureClass::kBug : failure_class;
}

NextStep ProjectionWorker::next_step_after(const Refusal& refusal, FailureClass failure_class,
                                           int count) const {
    if (refusal.is_of_move && is_lock_wait(refusal.error.sqlstate)) return NextStep::kPutOff;
    if (refusal.is_of_copies && can_do_without_copies(failure_class)) return NextStep::kDropCopies;
    const NextStep next =
        next_step({.failure_class = failure_class,
                   .attempt_count = count,
                   .event_count = batch_->event_count,
                   .sets_aside = options_.letters.on_poison != OnPoison::kHalt},
                  options_.retry_count);
    // No event is at fault for a lock on the dead letters' own tables.
    const bool accuses = next == NextStep::kBisect || next == NextStep::kSetAside;
    if (accuses && (!refusal.is_of_handler || batch_->items.empty())) return NextStep::kRetry;
    if (next != NextStep::kBisect || !batch_->is_in_parts) return next;
    // All its parts passed, and then COMMIT was refused: somebody else's change came between.
    return count < options_.retry_count ? NextStep::kRetry : NextStep::kShrink;
}

// Its only event can't be applied.
void ProjectionWorker::set_aside(OwnedPartition& partition, const Refusal& refusal) {
    const FailureClass failure_class = class_of_refusal(refusal);
    MILLRACE_CHECK(batch_->items.size() == 1, "one event stands alone");
    Event event;
    const size_t index = batch_->items.front();
    filler_of(partition)(index, event);
    batch_->set_aside({.index = index,
                       .parks = parks_key(options_.letters.on_poison, event),
                       .cause = cause_of(refusal, failure_class,
                                         partition.refusal_counts[failure_class])},
                      event);
    batch_->event_count = 0;
    handler_->clear();
}

// So much is poisoned that not the events are at fault. Nothing of this batch is committed.
void ProjectionWorker::halt_in_storm(const std::string& why) {
    halt_projection("poison_storm", batch_->text() + ": " + why);
}

// The connection was lost while a batch was sent: an outage, or the batch itself ended its backend.
// Nobody can tell, so it is tried smaller after a while, and one event for ever, the other
// partitions' turn meanwhile: an outage is never a record's fault. What it shows is for a human to
// judge.
void ProjectionWorker::recover_lost_send(OwnedPartition& partition, const Failure& failure) {
    shared_.metrics.sends_lost.Increment();
    const int count = ++partition.lost_send_count;
    const bool is_suspect = count >= options_.retry_count && batch_->event_count <= 1;
    const std::string why =
        failure.what() + (": " + batch_->text()) + " was sent " + std::to_string(count) +
        (count == 1 ? " time" : " times") + " and the connection lost each time";
    const Patience::Try next = patience_.next(kLostSend);
    log(is_suspect ? LogLevel::kError : LogLevel::kWarn, "consumers",
        is_suspect ? "connection lost with the same event again and again"
                   : "connection lost while a batch was sent",
        {{"projection", options_.projection.name},
         {"batch", batch_->text()},
         {"events", batch_->event_count},
         {"times", count},
         {"reason", failure.reason()},
         {"detail", failure.detail()},
         {"again_after_ms", next.wait.count()}});
    if (is_suspect) {
        partition.event_count_cap = 1;
        put_off(partition, why, next.wait);
        drop_session();
        return;
    }
    drop_session();
    wait_before_next(next.wait, why);
}

void ProjectionWorker::put_off(OwnedPartition& partition, const std::string& why,
                               std::optional<std::chrono::milliseconds> wait) {
    drop_batch();
    assignment_->put_off(partition, why, wait);
    next_upkeep_ = {};  // Which shows it.
}

void ProjectionWorker::shrink(OwnedPartition& partition) {
    partition.note_trouble(batch_->event_count / 2);
    drop_batch();
    retry_backoff_.reset();
    patience_.forget(kLostSend);
}

// Of what was thrown: the connection broke, a broker is silent, or a record is refused by us.
void ProjectionWorker::recover(const Failure& failure) {
    shared_.metrics.failure(failure.reason());
    log(LogLevel::kWarn, "consumers", "projection interrupted",
        {{"projection", options_.projection.name},
         {"kind", name_of(failure.kind())},
         {"reason", failure.reason()},
         {"detail", failure.detail()}});
    if (failure.reason() == "kafka_client_failed") leave();
    if (failure.reason().starts_with("kafka_") && failure.kind() == FailureKind::kTransient) {
        wait_before_next(patience_.next(kKafka).wait, failure.what());
        return;
    }
    if (!failure.sqlstate().empty()) {
        // Not of a batch: the handler's preparing, or our own bookkeeping.
        const FailureClass failure_class = class_of(failure.sqlstate());
        const Patience::Try attempt = patience_.next(reason_of(failure_class));
        const NextStep next = next_step({.failure_class = failure_class,
                                         .attempt_count = attempt.count,
                                         .event_count = 1,
                                         .sets_aside = false},  // No event is at hand.
                                        options_.retry_count);
        // Too little memory or time is waited for.
        if (next == NextStep::kHalt && failure_class != FailureClass::kOverload) {
            halt_projection(failure.reason(), failure.detail());
            return;
        }
        drop_session();
        wait_before_next(attempt.wait, failure.what());
        return;
    }
    switch (failure.kind()) {
        case FailureKind::kFatal:
            if (ends_program(failure)) {
                // The process ends by this: the others need not wait for the session's end.
                leave();
                throw failure;
            }
            [[fallthrough]];
        case FailureKind::kTransient:
        case FailureKind::kUnknown:
        case FailureKind::kLost:
            drop_session();
            wait_before_next(patience_.next(reason_of(FailureClass::kConnection)).wait,
                             failure.what());
            return;
        case FailureKind::kPoison:
        case FailureKind::kHalt: halt_projection(failure.reason(), failure.detail()); return;
    }
}

void ProjectionWorker::wait_before_next(std::chrono::milliseconds wait, const std::string& why) {
    not_before_ = Clock::now() + wait;
    watch_.loop.set_waiting(why);
    next_upkeep_ = {};
}

// For the fleet: the catalog has the word, and this loop leaves the group at once, so that its
// partitions do not look owned. Others meet the halt at their next look.
void ProjectionWorker::halt_projection(const std::string& reason, const std::string& detail) {
    if (halt_.is_halted()) {
        // Not even the halt can be written: wait for that, as for everything beside us.
        drop_session();
        wait_before_next(patience_.next(kHaltUnwritten).wait, reason + ": " + detail);
        return;
    }
    halt_.declare(reason, detail);
    leave();
    drop_session();
}

// False while halted.
bool ProjectionWorker::look_at_halt() {
    switch (halt_.look(*session_)) {
        case FleetHalt::Change::kNone: break;
        case FleetHalt::Change::kHalted: leave(); break;
        case FleetHalt::Change::kResumed:
            patience_.forget_all();
            storm_ = StormBreaker(options_.storm);
            // An operator may have removed its positions, so that it begins anew.
            is_seeded_ = false;
            break;
    }
    if (halt_.is_halted()) {
        // The session stays for the next look, without what the handler had prepared on it.
        if (positions_) drop_session();
        not_before_ = halt_.next_look();
    }
    return !halt_.is_halted();
}

}  // namespace millrace
