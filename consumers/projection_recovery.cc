// What a ProjectionWorker does when something goes wrong.

#include <algorithm>

#include "consumers/projection_metrics.h"
#include "consumers/projection_worker.h"
#include "core/log.h"

namespace millrace {

namespace {

std::string sqlstate_label(const std::string& sqlstate) {
    return sqlstate.empty() ? "connection" : sqlstate;
}

}  // namespace

// The one place that decides what follows on what PostgreSQL refused.
void ProjectionWorker::refused(OwnedPartition& partition, const Refusal& refusal) {
    const std::string& sqlstate = refusal.error.sqlstate;
    const FailureClass failure_class = class_of(sqlstate);
    if (batch_->refusal_class != failure_class) batch_->refusal_count = 0;
    batch_->refusal_class = failure_class;
    ++batch_->refusal_count;
    const NextStep next = next_step({.failure_class = failure_class,
                                     .attempt_count = batch_->refusal_count,
                                     .event_count = batch_->event_count},
                                    options_.retry_count);
    // A connection that ended may have ended behind the COMMIT.
    batch_->is_in_doubt = failure_class == FailureClass::kConnection;
    log(next == NextStep::kHalt ? LogLevel::kError : LogLevel::kWarn, "consumers", "batch refused",
        {{"projection", options_.projection.name},
         {"batch", batch_->text()},
         {"attempt", batch_->refusal_count},
         {"sqlstate", sqlstate},
         {"class", name_of(failure_class)},
         {"then", name_of(next)},
         {"error", refusal.text()}});
    take_next_step(partition, next, refusal);
}

void ProjectionWorker::take_next_step(OwnedPartition& partition, NextStep next,
                                      const Refusal& refusal) {
    const std::string& sqlstate = refusal.error.sqlstate;
    const std::string reason = "pg_" + std::string(name_of(batch_->refusal_class));
    const std::string why = reason + ": " + refusal.text();
    switch (next) {
        case NextStep::kRetry:
            shared_.metrics.retry(sqlstate_label(sqlstate));
            wait_before_next(retry_backoff_.next(), why);
            return;
        case NextStep::kShrink:
            shared_.metrics.retry(sqlstate_label(sqlstate));
            event_count_max_ = std::max<size_t>(1, batch_->event_count / 2);
            drop_batch();
            retry_backoff_.reset();
            wait_before_next(retry_backoff_.next(), why);
            return;
        case NextStep::kReconnect:
            shared_.metrics.retry(sqlstate_label(sqlstate));
            drop_session();
            wait_before_next(retry_backoff_.next(), why);
            return;
        case NextStep::kWait:
            drop_session();
            wait_before_next(wait_backoff_.next(), why);
            return;
        case NextStep::kResync:
            shared_.metrics.positions_lost.Increment();
            drop_batch();
            assignment_->resync(partition, *positions_);
            return;
        case NextStep::kHalt:
            halt_projection(reason, batch_->text() + ": " + refusal.text());
            return;
    }
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
        wait_before_next(wait_backoff_.next(), failure.what());
        return;
    }
    if (!failure.sqlstate().empty()) {
        // Not of a batch: the handler's preparing, or our own bookkeeping.
        const NextStep next = next_step({.failure_class = class_of(failure.sqlstate()),
                                         .attempt_count = ++open_attempt_count_,
                                         .event_count = 1},
                                        options_.retry_count);
        if (next == NextStep::kHalt) {
            halt_projection(failure.reason(), failure.detail());
            return;
        }
        drop_session();
        wait_before_next(wait_backoff_.next(), failure.what());
        return;
    }
    switch (failure.kind()) {
        case FailureKind::kFatal:
            // A password that is wrong now was right at the start, and will be again.
            if (failure.reason() != "pg_refused") throw failure;
            [[fallthrough]];
        case FailureKind::kTransient:
        case FailureKind::kUnknown:
        case FailureKind::kLost:
            drop_session();
            wait_before_next(wait_backoff_.next(), failure.what());
            return;
        case FailureKind::kPoison:
        case FailureKind::kHalt: halt_projection(failure.reason(), failure.detail()); return;
    }
}

void ProjectionWorker::wait_before_next(std::chrono::milliseconds wait, const std::string& why) {
    not_before_ = Clock::now() + wait;
    watch_.set_waiting(why);
    next_upkeep_ = {};
}

// For the fleet: the catalog has the word, and this loop leaves the group at once, so that its
// partitions do not look owned. Others meet the halt at their next look.
void ProjectionWorker::halt_projection(const std::string& reason, const std::string& detail) {
    if (halt_.is_halted()) {
        // Not even the halt can be written: wait for that, as for everything beside us.
        drop_session();
        wait_before_next(wait_backoff_.next(), reason + ": " + detail);
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
            event_count_max_ = options_.batch.event_count;
            open_attempt_count_ = 0;
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
