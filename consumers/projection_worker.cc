#include "consumers/projection_worker.h"

#include <algorithm>

#include "consumers/log_facts.h"
#include "core/log.h"
#include "core/stop.h"

namespace millrace {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kStepMax{100};
constexpr seconds kUpkeepEvery{1};
// A member that has died holds a rebalance up, and with it our leaving, until its session ends.
constexpr seconds kLeaveMargin{2};
constexpr milliseconds kLeaveMax{10000};
constexpr seconds kRetryMax{5};
// So long may a call under way go on after a stop was requested: a batch may still end well.
constexpr seconds kStopGrace{5};

}  // namespace

pg::SessionOptions author_session(const ProjectionOptions& options) {
    pg::SessionOptions session = options.session;
    session.application_name += " " + options.projection.name;
    session.settings = pg::common_settings();
    session.settings.emplace_back("statement_timeout",
                                  std::to_string(options.statement_timeout.count()));
    // Shorter, so that a held lock is a conflict, which is waited out, and no overload.
    session.settings.emplace_back("lock_timeout",
                                  std::to_string(options.statement_timeout.count() / 2));
    // Of each answer: the server ends a statement first; past this it does not answer at all.
    session.call_timeout = options.statement_timeout * 2;
    return session;
}

ProjectionWorker::ProjectionWorker(const ProjectionOptions& options,
                                   const ProjectionShared& shared,
                                   std::unique_ptr<Handler> handler, WorkerWatch& watch)
    : options_(options),
      shared_(shared),
      handler_(std::move(handler)),
      watch_(watch),
      halt_(options, shared, watch),
      letters_(options.projection, options.letters),
      collector_(*handler_, shared.metrics, options),
      storm_(options.storm),
      retry_backoff_(options.retry_backoff, kRetryMax) {}

void ProjectionWorker::run(std::stop_token stop) {
    stop_ = std::move(stop);
    while (!stop_.stop_requested()) {
        try {
            step();
        } catch (const Failure& failure) {
            recover(failure);
        }
    }
    leave();
    drop_session();
}

// Asked while a call waits for PostgreSQL: a loop that waits for a server is alive.
bool ProjectionWorker::may_wait() {
    watch_.loop.note_progress();
    if (!stop_.stop_requested()) return true;
    if (!stop_seen_at_) stop_seen_at_ = Clock::now();
    return Clock::now() - *stop_seen_at_ < kStopGrace;
}

void ProjectionWorker::step() {
    watch_.loop.note_progress();
    const auto left = std::clamp<milliseconds>(
        std::chrono::ceil<milliseconds>(not_before_ - Clock::now()), milliseconds(0), kStepMax);
    if (assignment_) {
        const milliseconds limit =
            left > milliseconds(0) ? left : assignment_->idle_time(options_.batch);
        assignment_->fetch(limit, options_.batch.event_count);
    } else {
        wait_for(stop_, left);
    }
    if (Clock::now() < not_before_) return;

    connect();
    if (!look_at_halt()) return;
    open_for_work();
    join();
    assignment_->take_due(*positions_, batch_ ? &*batch_ : nullptr, stop_);
    if (batch_ && batch_->is_stale) drop_batch();
    apply_next();
    // A halt has left the group.
    if (!assignment_) return;
    upkeep();
    if (Clock::now() >= not_before_) patience_.forget_old();
}

void ProjectionWorker::apply_next() {
    if (batch_) {
        const OwnedPartition* partition = assignment_->find(batch_->generation);
        // Its partition was taken away, is read anew, or can't be had for now: the position tells
        // what became of the batch, and meanwhile the others' turn has come.
        if (partition == nullptr || partition->hold != OwnedPartition::Hold::kHeld) drop_batch();
    }
    if (!batch_ && !collect_next()) return;
    OwnedPartition* partition = assignment_->find(batch_->generation);
    if (partition == nullptr) {
        drop_batch();
        return;
    }
    if (batch_->is_committed) {
        applied(*partition);
        return;
    }
    if (partition->lost_send_count >= options_.retry_count && batch_->event_count > 1) {
        shrink(*partition);
        return;
    }
    if (const StormBreaker storm = judge(storm_, *batch_); storm.is_tripped()) {
        halt_in_storm(storm.text() + ", " + causes_of(batch_->letters));
        return;
    }

    const auto begin = Clock::now();
    batch_->move.epoch = partition->position.epoch;
    batch_->is_in_doubt = true;
    SentInParts sent;
    try {
        sent = send_batch(*partition);
    } catch (const Failure& failure) {
        if (failure.kind() != FailureKind::kTransient && failure.kind() != FailureKind::kUnknown) {
            throw;
        }
        shared_.metrics.failure(failure.reason());
        recover_lost_send(*partition, failure);
        return;
    }
    // Outside of the block above: what fails here, the position's next look say, lost no send.
    if (sent.refusal) {
        refused(*partition, *sent.refusal);
        return;
    }
    if (!sent.storm.empty()) {
        halt_in_storm(sent.storm);
        return;
    }
    note_duration(*batch_, Clock::now() - begin);
    applied(*partition);
}

bool ProjectionWorker::collect_next() {
    if (OwnedPartition* due = assignment_->next_due(options_.batch)) {
        batch_ = collector_.collect(*due, options_.batch);
        return true;
    }
    const OwnedPartition* quiet = assignment_->next_to_catch_up();
    if (quiet == nullptr) return false;
    handler_->clear();
    batch_ = collector_.catch_up(*quiet);
    batch_->move.leader_epoch =
        LogFacts(consumer_->raw()).leader_epoch_at(quiet->where, quiet->end_offset);
    return true;
}

SentInParts ProjectionWorker::send_batch(const OwnedPartition& partition) {
    const BatchTools tools{*session_, *positions_, *handler_, letters_};
    const FillEvent fill = filler_of(partition);
    if (!batch_->is_in_parts) return {.refusal = send(tools, fill, *batch_)};
    const auto attempts = partition.refusal_counts.find(FailureClass::kRecord);
    const BisectionOptions options{
        .on_poison = options_.letters.on_poison,
        .overrides = options_.overrides,
        .attempt_count = attempts == partition.refusal_counts.end() ? 1 : attempts->second};
    const size_t letter_count = batch_->letters.size();
    SentInParts sent = send_in_parts(tools, fill, options, storm_, *batch_);
    shared_.metrics.bisected(sent.part_count);
    const bool is_clean = batch_->letters.size() == letter_count;
    if (is_clean && !sent.refusal && sent.storm.empty()) shared_.metrics.bisected_clean.Increment();
    return sent;
}

void ProjectionWorker::note_duration(const Batch& batch, Clock::duration taken) const {
    shared_.metrics.batch_seconds.Observe(std::chrono::duration<double>(taken).count());
    const auto duration = std::chrono::duration_cast<milliseconds>(taken);
    const LogLevel level = level_of_batch(duration);
    if (!is_logged(level)) return;
    log(level, "consumers", "batch applied",
        {{"operation", "apply"},
         {"projection", options_.projection.name},
         {"batch", batch.text()},
         {"events", batch.event_count},
         {"duration_ms", duration.count()}});
}

void ProjectionWorker::applied(OwnedPartition& partition) {
    const Batch batch = *std::exchange(batch_, std::nullopt);
    handler_->clear();
    assignment_->applied(partition, batch);
    retry_backoff_.reset();
    patience_.forget(kLostSend);
    patience_.forget(reason_of(FailureClass::kConnection));

    storm_ = judge(std::move(storm_), batch);
    shared_.metrics.applied(batch.event_count, batch.oldest, batch.skipped);
    note_set_aside(batch);
    if (batch.event_count > 0) analyze();
}

void ProjectionWorker::note_set_aside(const Batch& batch) const {
    if (batch.set_aside_count() == 0) return;
    shared_.metrics.parked.Increment(static_cast<double>(batch.parked.size()));
    for (const DeadLetter& letter : batch.letters) {
        shared_.metrics.dead_letter(std::string(name_of(letter.cause.failure_class)));
    }
    if (batch.letters.empty()) return;
    log(LogLevel::kError, "consumers", "events set aside as dead letters",
        {{"projection", options_.projection.name},
         {"batch", batch.text()},
         {"letters", batch.letters.size()},
         {"parked", batch.parked.size()},
         {"causes", causes_of(batch.letters)},
         {"look", "millrace dlq summary"}});
}

// A generic plan made over an empty table keeps its sequential scan.
void ProjectionWorker::analyze() {
    const int64_t count = shared_.metrics.count_batch();
    if (count != 10 && count != 100 && count != 1000) return;
    try {
        handler_->analyze(*session_);
    } catch (const Failure& failure) {
        // Only slower without it; but a session that broke, or whose answer did not come in time,
        // must not be used for the next batch.
        log(LogLevel::kWarn, "consumers", "tables not analysed",
            {{"projection", options_.projection.name}, {"why", failure.what()}});
        if (failure.sqlstate().empty() || !session_->is_idle()) drop_session();
    }
}

void ProjectionWorker::drop_batch() {
    batch_.reset();
    handler_->clear();
}

void ProjectionWorker::upkeep() {
    if (Clock::now() < not_before_) return;
    if (Clock::now() < next_upkeep_) return;
    next_upkeep_ = Clock::now() + kUpkeepEvery;
    assignment_->show_progress();
    const std::string waiting = assignment_->waiting();
    watch_.loop.set_waiting(waiting.empty() ? consumer_->trouble() : waiting);
}

// --- Session and group -------------------------------------------------------------------------

void ProjectionWorker::connect() {
    if (session_) return;
    pg::SessionOptions session = author_session(options_);
    session.may_wait = [this] { return may_wait(); };
    session_.emplace(std::move(session));
}

void ProjectionWorker::open_for_work() {
    if (positions_) return;
    positions_.emplace(*session_, options_.projection, owner_);
    try {
        handler_->open(*session_);
    } catch (const Failure&) {
        positions_.reset();
        throw;
    }
}

void ProjectionWorker::join() {
    if (!consumer_) {
        consumer_ = std::make_unique<GroupConsumer>(
            GroupOptions{.kafka = options_.kafka,
                         .group = options_.group,
                         .topics = options_.topics,
                         .session_timeout = options_.session_timeout},
            shared_.reaper);
        assignment_ = std::make_unique<Assignment>(options_, *consumer_, shared_.metrics, watch_);
        next_upkeep_ = {};
    }
    if (is_seeded_) return;
    assignment_->seed(*positions_);
    is_seeded_ = true;
}

void ProjectionWorker::leave() {
    drop_batch();
    if (!consumer_) return;
    assignment_->commit_offsets();
    assignment_.reset();
    consumer_->close(std::min<milliseconds>(options_.session_timeout + kLeaveMargin, kLeaveMax));
    consumer_.reset();
}

void ProjectionWorker::drop_session() {
    positions_.reset();
    session_.reset();
    if (assignment_) assignment_->session_lost();
}

}  // namespace millrace
