#include "relay/keeper.h"

#include "core/backoff.h"
#include "core/crash_point.h"
#include "core/log.h"
#include "core/stop.h"
#include "relay/dead_tasks.h"
#include "relay/ledger_topic.h"
#include "relay/settler.h"

namespace millrace {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kRoundEvery{100};
constexpr seconds kKafkaFresh{2};
constexpr seconds kInitLimit{8};  // The other dead publishers wait meanwhile.
constexpr seconds kLockedLimit{2};
constexpr seconds kPingEvery{1};
constexpr seconds kSampleEvery{5};

}  // namespace

Keeper::Keeper(PublisherOptions options, RelayShared shared, PublisherWatch& watch)
    : options_(std::move(options)), shared_(shared), watch_(watch) {
    options_.session.settings = Outbox::session_settings();
    options_.session.application_name += " keeper";
}

void Keeper::run(std::stop_token stop) {
    while (!stop.stop_requested()) {
        // Also while no session can be had: an outage is no reason to start the process again.
        watch_.loop.note_progress();
        try {
            keep(stop);
        } catch (const Failure& failure) {
            if (ends_program(failure)) throw;
            // If no session can be had again, the publisher it holds is given up as one that nobody
            // runs (PROTOCOL 2.8); if one can, it is taken again first.
            watch_.clear_publisher();
            shared_.metrics.failure(failure.reason());
            log(LogLevel::kWarn, "keeper", "keeper interrupted",
                {{"reason", failure.reason()}, {"detail", failure.detail()}});
            wait_for(stop, backoff_.next());
        }
    }
}

void Keeper::keep(std::stop_token stop) {
    pg::Session session(options_.session);
    while (wait_for(stop, kRoundEvery)) {
        watch_.loop.note_progress();
        ping_kafka();
        keep_round(session);
        sample(session);
        backoff_.reset();
    }
}

void Keeper::keep_round(pg::Session& session) {
    const std::optional<Uuid> instance = shared_.lease.instance();
    // A process that is cut off from Kafka could only take and fail.
    if (!instance || shared_.lease.kafka_silence() > kKafkaFresh) return;
    for (const FreePublisher& free : Publishers(session).find_free(held_)) {
        if (!free.has_lanes) continue;
        if (const auto wait = not_before_.find(free.number);
            wait != not_before_.end() && Clock::now() < wait->second) {
            continue;
        }
        take_over(session, free, *instance);
    }
}

void Keeper::take_over(pg::Session& session, const FreePublisher& free, const Uuid& instance) {
    Publishers publishers(session);
    auto taken =
        publishers.take(free, instance, session.backend_pid(), session.backend_started());
    if (!taken) {
        free_locked_row(session, free);
        return;
    }
    locked_since_.clear();
    hold(*taken, session);
    const Clock::time_point begin = Clock::now();
    // A producer pair of its own for the dead publisher's ids; it goes when the settle has ended.
    ProducerPair producers(options_.kafka, shared_.installation, shared_.reaper);
    try {
        producers.init(taken->number, {}, kInitLimit);
        Settler settler(session, shared_.installation, shared_.ledger,
                        ledger_topic_id(producers.raw(), shared_.installation), shared_.metrics);
        settler.settle(*taken, kSettleLimit, [&](Publishers& locked) {
            // In the transaction that ends the settle: later it could hit the number's next owner.
            locked.free_all_lanes(taken->number);
            locked.release(*taken);
            locked.bump_version(taken->number);
            MILLRACE_CRASH_POINT("relay.keeper_settled");
        });
    } catch (const Failure& failure) {
        if (failure.kind() == FailureKind::kFatal || session.is_broken()) throw;
        session.rollback();
        // Its lanes stay with it until somebody can settle it.
        if (is_unreadable(failure.reason())) {
            publishers.leave_unread(*taken, failure.reason(), instance);
        } else {
            publishers.release(*taken);
        }
        let_go();
        not_before_[free.number] = Clock::now() + kSettleAgainAfter;
        throw;
    }
    let_go();
    shared_.lease.note_kafka_answer();
    shared_.metrics.takeover("keeper");
    log(LogLevel::kInfo, "keeper", "settled a dead relay's publisher",
        {{"publisher", free.number},
         {"epoch", taken->epoch},
         {"operation", "settle"},
         {"duration_ms",
          std::chrono::duration_cast<milliseconds>(Clock::now() - begin).count()}});
}

// Remembered until it is settled or released: should this session end before, the next one takes
// the publisher again (PROTOCOL 2.1), unless the lease has given it up by then.
void Keeper::hold(const PublisherState& taken, const pg::Session& session) {
    held_ = taken;
    watch_.set_publisher(taken, session.backend_pid(), session.backend_started());
}

void Keeper::let_go() {
    held_.reset();
    watch_.clear_publisher();
}

// A client that was stopped while a large result was on its way leaves its backend in ClientWrite,
// where no time-out of PostgreSQL fires: end exactly that session (PROTOCOL 2.4).
void Keeper::free_locked_row(pg::Session& session, const FreePublisher& free) {
    const auto [since, is_new] =
        locked_since_.try_emplace({free.number, free.epoch}, Clock::now());
    if (is_new || Clock::now() - since->second < kLockedLimit) return;
    locked_since_.erase(since);
    if (!Publishers(session).terminate(free.pid, free.started)) return;
    shared_.metrics.backends_terminated.Increment();
    log(LogLevel::kWarn, "keeper", "ended the session of a dead relay",
        {{"publisher", free.number}, {"pid", free.pid}});
}

void Keeper::ping_kafka() {
    if (Clock::now() < next_ping_) return;
    next_ping_ = Clock::now() + kPingEvery;
    try {
        shared_.ledger.ping();
        shared_.lease.note_kafka_answer();
    } catch (const Failure&) {
        // An outage is told by the process's own probe.
    }
}

void Keeper::sample(pg::Session& session) {
    if (Clock::now() < next_sample_) return;
    next_sample_ = Clock::now() + kSampleEvery;
    const Backlog backlog = backlog_.look(session);
    shared_.metrics.backlog_tasks.Set(static_cast<double>(backlog.task_count));
    shared_.metrics.oldest_task_age_seconds.Set(static_cast<double>(backlog.oldest_age_seconds));

    const Publishers::Halted halted = Publishers(session).halted();
    shared_.metrics.set_halted_lanes(halted.lanes);
    shared_.metrics.set_halted_publishers(halted.publishers);
    shared_.metrics.set_dead_tasks(DeadTasks(session).counts());
}

}  // namespace millrace
