#include "relay/publisher.h"

#include <algorithm>

#include "core/crash_point.h"
#include "core/kafka/admin.h"
#include "core/log.h"
#include "core/stop.h"
#include "relay/ledger_topic.h"
#include "relay/settler.h"

namespace millrace {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kBalanceEvery{100};
constexpr seconds kSweepEvery{10};
constexpr milliseconds kSweepLimit{50};  // Nothing is published meanwhile.
constexpr seconds kInitLimit{15};
constexpr seconds kAbortLimit{1};
constexpr milliseconds kTakeEvery{100};
// A claim of so many took long enough to publish that others have come: the next is made without a
// probe. An empty claim costs a dead version of the publisher's row; if tasks come at random, one
// in fifty is empty.
constexpr size_t kBusyClaim = 4;

}  // namespace

Publisher::Publisher(PublisherOptions options, RelayShared shared, PublisherWatch& watch)
    : options_(std::move(options)),
      shared_(shared),
      watch_(watch),
      backoff_(milliseconds(50), seconds(2)),
      producers_(options_.kafka, shared.installation, shared.reaper),
      topics_(options_.unpublishable.topic_grace,
              [this](const std::string& topic) { return ask_for(topic); }),
      task_limit_(options_.batch.task_count) {
    options_.session.settings = Outbox::session_settings();
}

void Publisher::run(std::stop_token stop) {
    while (!stop.stop_requested()) {
        try {
            serve(stop);
        } catch (const Failure& failure) {
            recover(failure, stop);
        }
    }
    try {
        hand_over();
    } catch (const Failure& failure) {
        // Another process's keeper settles what is left.
        log(LogLevel::kWarn, "relay", "could not hand over",
            {{"reason", failure.reason()}, {"detail", failure.detail()}});
    }
    drop_everything();
}

void Publisher::serve(std::stop_token stop) {
    take_and_settle(stop);
    while (!stop.stop_requested()) {
        watch_.loop.note_progress();
        const Clock::time_point now = Clock::now();
        if (now >= next_balance_) {
            balance();
            next_balance_ = now + kBalanceEvery;
        }
        if (now >= next_sweep_) {
            sweep();
            next_sweep_ = now + kSweepEvery;
        }
        if (const auto early = last_start_ + options_.linger - now; early > milliseconds(0)) {
            wait_for(stop, std::min<Clock::duration>(early, kBalanceEvery));
            continue;
        }
        if (step() > 0) {
            backoff_.reset();
            idle_wait_ = options_.poll_min;
            continue;
        }
        wait_for(stop, idle_wait_);
        // Eases from the first millisecond to the slowest poll within a few hundred idle looks.
        idle_wait_ = std::min(options_.poll_max, milliseconds(idle_wait_.count() + 1));
    }
}

// --- Taking and settling -----------------------------------------------------------------------

void Publisher::take_and_settle(std::stop_token stop) {
    while (!stop.stop_requested() && !is_settled_) {
        watch_.loop.note_progress();
        if (!session_) {
            // Nobody runs our publisher until we have one. If the server refuses us, the lease's
            // connection gives it up after some seconds (PROTOCOL 2.8).
            watch_.clear_publisher();
            session_.emplace(options_.session);
            outbox_.emplace(*session_);
            publishers_.emplace(*session_);
            dead_.emplace(*session_);
        }
        session_->rollback();
        if (!try_take(stop)) {
            wait_for(stop, kTakeEvery);
            continue;
        }
        settle();
    }
}

bool Publisher::try_take(std::stop_token stop) {
    const std::optional<Uuid> instance = shared_.lease.instance();
    if (!instance) {
        show("no lease");
        return false;
    }
    if (shared_.lease.is_cut_off()) {
        show("cut off from Kafka, which answers other relays");
        return false;
    }
    for (const FreePublisher& free : publishers_->find_free(state_)) {
        if (stop.stop_requested()) return false;
        if (const auto wait = not_before_.find(free.number);
            wait != not_before_.end() && Clock::now() < wait->second) {
            continue;
        }
        const bool is_mine =
            state_ && state_->number == free.number && state_->epoch == free.epoch;
        const auto taken = publishers_->take(free, *instance, session_->backend_pid(),
                                             session_->backend_started());
        if (!taken) {
            // Its row is locked. Had its owner died in the middle of a send, no time-out of
            // PostgreSQL would end its backend (PROTOCOL 2.4); ours from before an error is ours to
            // end at once.
            if (!is_mine) continue;
            if (publishers_->terminate(free.pid, free.started)) {
                shared_.metrics.backends_terminated.Increment();
            }
            // Not on to another number: only the lease may give ours up, and it soon does.
            return false;
        }
        MILLRACE_CRASH_POINT("relay.after_take");
        state_ = taken;
        // Whoever had our old publisher meanwhile meets the task by itself.
        if (!is_mine) suspect_.reset();
        watch_.set_publisher(*state_, session_->backend_pid(), session_->backend_started());
        shared_.metrics.takeover(is_mine ? "own" : free.had_owner ? "dead_owner" : "free");
        log(LogLevel::kInfo, "relay", "publisher taken",
            {{"publisher", taken->number}, {"epoch", taken->epoch}});
        return true;
    }
    show("no free publisher");
    return false;
}

void Publisher::settle() {
    const auto begin = Clock::now();
    counters_.load(*session_, state_->number, state_->generation);
    producers_.init(state_->number, counters_.topics(), kInitLimit);
    shared_.lease.note_kafka_answer();
    MILLRACE_CRASH_POINT("relay.after_init");

    Settler settler(*session_, shared_.installation, shared_.ledger,
                    ledger_topic_id(producers_.raw(), shared_.installation), shared_.metrics);
    settler.settle(*state_, kSettleLimit, [this](Publishers& publishers) {
        publishers.free_idle_lanes(state_->number);
        publishers.set_running(state_->number);
    });
    shared_.lease.note_kafka_answer();

    state_->lanes = publishers_->lanes_of(state_->number);
    counters_.load(*session_, state_->number, state_->generation);
    writer_.emplace(options_.message_format, sequence_prefix(shared_.installation, *state_));
    topics_.forget_known();
    load_parked();
    floor_.clear();
    is_settled_ = true;
    expects_more_ = false;
    next_balance_ = {};
    log(LogLevel::kInfo, "relay", "publisher settled",
        {{"publisher", state_->number},
         {"epoch", state_->epoch},
         {"seq", state_->seq},
         {"lanes", state_->lanes.size()},
         {"operation", "settle"},
         {"duration_ms",
          std::chrono::duration_cast<milliseconds>(Clock::now() - begin).count()}});
    show("");
    if (suspect_) {
        const Suspect suspect = *std::exchange(suspect_, std::nullopt);
        set_aside(suspect.task, suspect.reason, suspect.detail);
    }
}

void Publisher::hand_over() {
    if (!state_ || !session_ || session_->is_broken()) return;
    session_->rollback();
    if (!is_settled_) {
        // In doubt: the lanes stay with the publisher until a keeper has settled it (PROTOCOL 2.6).
        publishers_->release(*state_);
        return;
    }
    sweep();
    {
        pg::Transaction transaction(*session_);
        publishers_->check(*state_);
        publishers_->free_all_lanes(state_->number);
        publishers_->bump_version(state_->number);
        transaction.commit();
    }
    MILLRACE_CRASH_POINT("relay.mid_handover");
    publishers_->release(*state_);
    log(LogLevel::kInfo, "relay", "handed over",
        {{"publisher", state_->number}, {"lanes", state_->lanes.size()}});
}

// --- One transaction ---------------------------------------------------------------------------

size_t Publisher::step() {
    if (state_->lanes.empty()) {
        show("");
        return 0;
    }
    std::vector<std::string> left_out = topics_.awaited(Clock::now());
    const bool released = has_released(left_out);
    if (!std::exchange(expects_more_, false) && !released) {
        const Probe probe = outbox_->probe(state_->lanes, floor_, left_out);
        if (!probe.found) {
            show("");
            if (left_out.empty()) floor_.found_nothing(probe.snapshot);
            return 0;
        }
    }
    last_start_ = Clock::now();
    Claim claim = outbox_->claim(
        *state_, floor_,
        {.task_count = task_limit_, .byte_count = options_.batch.byte_count},
        scope_of_claim(released, std::move(left_out)));
    shared_.metrics.claim_seconds.Observe(
        std::chrono::duration<double>(Clock::now() - last_start_).count());
    if (claim.tasks.empty() || claim.is_torn) {
        // The floor's state stays: what was selected may have been locked (PROTOCOL 6).
        if (claim.is_torn) shared_.metrics.torn_claims.Increment();
        session_->rollback();
        return 0;
    }
    if (claim.seq != state_->seq + 1) {
        throw unknown("seq_jumped", "the claim got seq " + std::to_string(claim.seq) + " after " +
                                        std::to_string(state_->seq));
    }
    MILLRACE_CRASH_POINT("relay.after_claim");
    return publish(claim);
}

// One task at a time, when one is looked for that a broker refuses, comes from either part in turn.
ClaimScope Publisher::scope_of_claim(bool has_released, std::vector<std::string> topics_left_out) {
    ClaimScope scope{.has_released = has_released,
                     .has_pending = true,
                     .topics_left_out = std::move(topics_left_out)};
    if (has_released && task_limit_ == 1) {
        is_released_turn_ = !is_released_turn_;
        scope.has_released = is_released_turn_;
        scope.has_pending = !is_released_turn_;
    }
    return scope;
}

size_t Publisher::publish(Claim& claim) {
    expects_more_ =
        claim.tasks.size() >= std::min(kBusyClaim, static_cast<size_t>(task_limit_));
    const std::optional<TopicFaults> faults = look_at_topics(claim);
    if (!faults) return 0;
    const Parking parking = set_aside_from(claim, *faults);
    if (claim.tasks.empty()) return park_alone(parking);
    const size_t count = publish_claimed(claim) + parking.entries.size();
    note_parked(parking);
    return count;
}

size_t Publisher::publish_claimed(const Claim& claim) {
    produced_count_ = claim.tasks.size();
    // Its correlation id matters once it stands alone, for then it may be accused.
    const Task& first = claim.tasks.front();
    first_ = {.id = {first.lane, first.id, first.event_id}};
    if (claim.tasks.size() == 1) first_ = mark_of(first);

    auto [producer, was_replaced] = producers_.next();
    if (was_replaced) shared_.metrics.tainted_producers.Increment();
    is_in_kafka_ = true;
    try {
        commit_to_kafka(producer, claim);
    } catch (const Failure& failure) {
        const bool is_refused_topic = failure.reason() == "topic_not_authorised";
        // The settle ends it, too, but a batch that is halved has many of them.
        if (is_refused_topic || failure.kind() == FailureKind::kPoison) producer.abort(kAbortLimit);
        if (is_refused_topic) note_refused_topic(claim, failure);
        // The ledger's record is ours: no task is to blame for it (PROTOCOL 5.1). That of a smaller
        // claim is smaller.
        if (failure.kind() != FailureKind::kPoison ||
            !producer.has_refused(shared_.installation.ledger_topic())) {
            throw;
        }
        halve_claims();
        throw unknown("ledger_refused", failure.detail());
    }
    shared_.lease.note_kafka_answer();
    MILLRACE_CRASH_POINT("relay.before_pg_commit");
    // COMMIT the DELETE only now: a crash before it leaves the rows, and the ledger tells the next
    // owner that they are out; the other order would lose them.
    session_->commit();
    MILLRACE_CRASH_POINT("relay.after_pg_commit");
    confirmed(claim);
    return claim.tasks.size();
}

void Publisher::commit_to_kafka(kafka::Producer& producer, const Claim& claim) {
    producer.begin();
    MILLRACE_CRASH_POINT("relay.after_begin");
    produce_all(producer, claim);
    produce_ledger_record(producer, claim);
    MILLRACE_CRASH_POINT("relay.after_ledger");
    // While the broker takes the records. The round trip also proves that our session, and so the
    // lock of the publisher's row, is still there: between the claim and the Kafka commit nothing
    // else would notice a take-over during a pause.
    if (counters_.is_due()) {
        counters_.store(*session_);
    } else {
        session_->execute("SELECT");
    }
    producer.flush();
    MILLRACE_CRASH_POINT("relay.before_kafka_commit");
    producer.commit();
    MILLRACE_CRASH_POINT("relay.after_kafka_commit");
}

void Publisher::produce_all(kafka::Producer& producer, const Claim& claim) {
    size_t count = 0;
    for (const Task& task : claim.tasks) {
        const int32_t partition = partition_of(task, topics_.partition_count(task.topic));
        producer.produce(
            writer_->record(task, partition, counters_.next(task.topic, partition)));
        if (++count == (claim.tasks.size() + 1) / 2) MILLRACE_CRASH_POINT("relay.mid_produce");
    }
}

void Publisher::produce_ledger_record(kafka::Producer& producer, const Claim& claim) {
    LedgerRecord record{.installation = shared_.installation.id,
                        .publisher = state_->number,
                        .epoch = state_->epoch,
                        .seq = claim.seq,
                        .tasks = {},
                        .counters = counters_.unstored()};
    record.tasks.reserve(claim.tasks.size());
    for (const Task& task : claim.tasks) {
        record.tasks.push_back({task.lane, task.id, digest_of(task.event_id)});
    }
    std::sort(record.tasks.begin(), record.tasks.end());
    const std::string topic = shared_.installation.ledger_topic();
    const std::string key = ledger_key(state_->number);
    const std::string value = encode(record);
    producer.produce({.topic = topic, .partition = state_->number, .key = key, .value = value});
}

void Publisher::confirmed(const Claim& claim) {
    is_in_kafka_ = false;
    show("");
    state_->seq = claim.seq;
    const int64_t resets_before = floor_.sequence_reset_count();
    if (claim.claimed_to) {
        floor_.claimed(claim.snapshot, claim.xid, claim.sequence_value, *claim.claimed_to);
    }
    if (floor_.sequence_reset_count() > resets_before) {
        shared_.metrics.sequence_resets.Increment();
        log(LogLevel::kError, "relay", "the sequence of ids went backwards; the floor was cleared",
            {{"publisher", state_->number}, {"last_id", *claim.claimed_to}});
    }
    counters_.committed();
    task_limit_ = std::min(options_.batch.task_count, task_limit_ * 2);

    shared_.metrics.transaction("committed");
    note_duration(claim, Clock::now() - last_start_);
    if (claim.sequence_value) {
        shared_.metrics.floor_lag_tasks.Set(
            static_cast<double>(*claim.sequence_value - floor_.floor()));
    }
    std::map<std::string_view, int64_t> by_topic;
    for (const Task& task : claim.tasks) ++by_topic[task.topic];
    for (const auto& [topic, count] : by_topic) {
        shared_.metrics.published(std::string(topic), count);
    }
}

void Publisher::note_duration(const Claim& claim, Clock::duration taken) const {
    shared_.metrics.transaction_seconds.Observe(std::chrono::duration<double>(taken).count());
    const auto duration = std::chrono::duration_cast<milliseconds>(taken);
    const LogLevel level = level_of_batch(duration);
    if (!is_logged(level)) return;
    log(level, "relay", "transaction published",
        {{"operation", "publish"},
         {"publisher", state_->number},
         {"seq", claim.seq},
         {"tasks", claim.tasks.size()},
         {"duration_ms", duration.count()}});
}

// A refused topic is an answer under the policy dead_letter only; any other is waited for, as the
// environment's fault.
TopicAnswer Publisher::ask_for(const std::string& topic) {
    try {
        return {.partition_count =
                    kafka::Admin(producers_.raw()).partition_count(topic).value_or(0)};
    } catch (const Failure& failure) {
        const bool is_set_aside_alone =
            options_.unpublishable.policy_of(topic) == OnUnpublishable::kDeadLetter;
        if (failure.reason() != "topic_not_authorised" || !is_set_aside_alone) throw;
        return {.is_refused = true};
    }
}

// --- Lanes -------------------------------------------------------------------------------------

void Publisher::balance() {
    const LaneShare wanted = publishers_->share_of(*state_);
    show_lanes(state_->lanes.size());
    // Without work no claim would meet it, and what an operator has released would wait.
    if (wanted.version != state_->version) {
        reload();
        return;
    }
    if (wanted.is_settled()) return;
    if (!wanted.to_give.empty()) sweep();

    pg::Transaction transaction(*session_);
    publishers_->check(*state_);
    if (!wanted.to_give.empty()) publishers_->free_lanes(state_->number, wanted.to_give);
    const std::vector<int16_t> gained =
        publishers_->take_free_lanes(state_->number, wanted.to_take);
    if (wanted.to_give.empty() && gained.empty()) return;
    publishers_->bump_version(state_->number);
    MILLRACE_CRASH_POINT("relay.mid_lane_move");
    transaction.commit();

    ++state_->version;
    std::erase_if(state_->lanes, [&](int16_t lane) {
        return std::find(wanted.to_give.begin(), wanted.to_give.end(), lane) !=
               wanted.to_give.end();
    });
    state_->lanes.insert(state_->lanes.end(), gained.begin(), gained.end());
    std::sort(state_->lanes.begin(), state_->lanes.end());
    if (!gained.empty()) {
        floor_.clear();
        topics_.forget_old_misses(Clock::now());
    }
    load_parked();
    shared_.metrics.lanes_moved.Increment(
        static_cast<double>(wanted.to_give.size() + gained.size()));
    log(LogLevel::kInfo, "relay", "lanes moved",
        {{"publisher", state_->number},
         {"given", wanted.to_give.size()},
         {"taken", gained.size()},
         {"lanes", state_->lanes.size()}});
    show("");
}

// Somebody changed our lanes or their flags: the row is locked in a statement of its own, and what
// it means is read by later ones, or an old snapshot would give the old lanes with the new version.
void Publisher::reload() {
    session_->rollback();
    pg::Transaction transaction(*session_);
    const LockedPublisher row = publishers_->lock(*state_);
    if (row.halted) throw lost("publisher_lost", "halted: " + *row.halted);
    if (row.seq != state_->seq) throw unknown("seq_jumped", "the row's seq moved under its owner");
    publishers_->free_idle_lanes(state_->number);
    const std::vector<int16_t> lanes = publishers_->lanes_of(state_->number);
    transaction.commit();

    state_->version = row.version;
    state_->lanes = lanes;
    floor_.clear();
    topics_.forget_old_misses(Clock::now());
    topics_.ask_anew(Clock::now());
    load_parked();
    next_balance_ = {};
}

void Publisher::sweep() {
    if (state_->lanes.empty()) return;
    // A verb that died before its last order told nobody.
    may_have_released_ = true;
    const std::optional<bool> found = outbox_->has_row_below(state_->lanes, floor_, kSweepLimit);
    if (!found) shared_.metrics.sweeps_cut.Increment();
    if (!found.value_or(false)) return;
    shared_.metrics.floor_violations.Increment();
    log(LogLevel::kError, "relay", "a task stood below the floor; the floor was cleared",
        {{"publisher", state_->number}, {"floor", floor_.floor()}});
    floor_.clear();
}

void Publisher::halt_lane(const TaskMark& task, const std::string& reason,
                          const std::string& why) {
    const int16_t lane = task.id.lane;
    const std::string detail = "task " + std::to_string(task.id.id) + ": " + why;
    pg::Transaction transaction(*session_);
    publishers_->check(*state_);
    // Moved away while we were paused: whoever has it will meet the same task.
    if (!publishers_->halt_lane(state_->number, lane, reason + ": " + detail)) return;
    publishers_->bump_version(state_->number);
    transaction.commit();

    ++state_->version;
    std::erase(state_->lanes, lane);
    shared_.metrics.failure(reason);
    log(LogLevel::kError, "relay", "lane halted",
        {{"lane", lane},
         {"reason", reason},
         {"detail", detail},
         {"correlation_id", task.correlation_id},
         {"then", "mend the cause and run 'millrace lanes resume " + std::to_string(lane) + "'"}});
}

// --- What is shown -----------------------------------------------------------------------------

void Publisher::show(const std::string& waiting) {
    watch_.loop.set_waiting(waiting);
}

// The publishers of a process share the gauge.
void Publisher::show_lanes(size_t count) {
    shared_.metrics.lanes_owned.Increment(static_cast<double>(count) -
                                          static_cast<double>(std::exchange(shown_lanes_, count)));
}

}  // namespace millrace
