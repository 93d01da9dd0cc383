#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "consumers/assignment.h"
#include "consumers/batch.h"
#include "consumers/batch_sender.h"
#include "consumers/dead_letters.h"
#include "consumers/failure_policy.h"
#include "consumers/fleet_halt.h"
#include "consumers/group_consumer.h"
#include "consumers/handler.h"
#include "consumers/patience.h"
#include "consumers/positions.h"
#include "consumers/projection_options.h"
#include "consumers/storm_breaker.h"
#include "consumers/worker_watch.h"
#include "core/backoff.h"
#include "core/pg/session.h"

namespace millrace {

// A session that runs the statements of that projection's author.
pg::SessionOptions author_session(const ProjectionOptions& options);

// A trouble of Patience: the connection was lost while a batch was sent.
constexpr std::string_view kLostSend = "lost_send";

// One loop of a projection: one Kafka consumer, one session, one handler. Applies each event once:
// whatever happens to it, the position in PostgreSQL decides what is done (PROTOCOL 7). It never
// waits but in its poll, so that the group is served meanwhile; what failed is tried again when its
// time has come. A call that waits for PostgreSQL ends with the session's call_timeout, or 5 s
// after a stop was requested; one that waits for a broker, after 11 s.
class ProjectionWorker {
  public:
    ProjectionWorker(const ProjectionOptions& options, const ProjectionShared& shared,
                     std::unique_ptr<Handler> handler, WorkerWatch& watch);

    // Returns on stop, the group left; throws only kFatal.
    void run(std::stop_token stop);

  private:
    using Clock = std::chrono::steady_clock;

    void step();
    void apply_next();
    void upkeep();

    // The session, then what works on it, then the group; each does nothing when it is there.
    void connect();
    void open_for_work();
    void join();
    void leave();
    void drop_session();

    void note_duration(const Batch& batch, Clock::duration taken) const;
    void applied(OwnedPartition& partition);
    void note_set_aside(const Batch& batch) const;
    // The next batch is collected, unless there is one. False: there is nothing to do.
    bool collect_next();
    SentInParts send_batch(const OwnedPartition& partition);
    void halt_in_storm(const std::string& why);
    void refused(OwnedPartition& partition, const Refusal& refusal);
    FailureClass class_of_refusal(const Refusal& refusal) const;
    NextStep next_step_after(const Refusal& refusal, FailureClass failure_class, int count) const;
    void set_aside(OwnedPartition& partition, const Refusal& refusal);
    void take_next_step(OwnedPartition& partition, NextStep next, const Refusal& refusal);
    void recover_lost_send(OwnedPartition& partition, const Failure& failure);
    // The others' turn meanwhile; without `wait` a little longer each time.
    void put_off(OwnedPartition& partition, const std::string& why,
                 std::optional<std::chrono::milliseconds> wait);
    void shrink(OwnedPartition& partition);
    void drop_batch();
    void analyze();

    bool may_wait();
    void recover(const Failure& failure);
    void wait_before_next(std::chrono::milliseconds wait, const std::string& why);
    void halt_projection(const std::string& reason, const std::string& detail);
    bool look_at_halt();

    const ProjectionOptions& options_;
    const ProjectionShared& shared_;
    std::unique_ptr<Handler> handler_;
    WorkerWatch& watch_;
    const Uuid owner_ = Uuid::random();
    FleetHalt halt_;
    DeadLetters letters_;
    BatchCollector collector_;
    StormBreaker storm_;
    Backoff retry_backoff_;  // Of a batch that met a conflict.
    Patience patience_;      // With everything outside of us.

    std::optional<pg::Session> session_;
    std::optional<Positions> positions_;  // Set when the session is open for work.
    std::unique_ptr<GroupConsumer> consumer_;
    std::unique_ptr<Assignment> assignment_;  // Before the consumer it must go: it holds messages.
    bool is_seeded_ = false;

    std::optional<Batch> batch_;  // Collected in the handler, not yet committed.

    std::stop_token stop_;
    std::optional<Clock::time_point> stop_seen_at_;
    Clock::time_point not_before_{};  // Nothing but polling until then.
    Clock::time_point next_upkeep_{};
};

}  // namespace millrace
