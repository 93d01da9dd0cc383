#pragma once

#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "consumers/batch.h"
#include "consumers/group_consumer.h"
#include "consumers/owned_partition.h"
#include "consumers/position_taker.h"
#include "consumers/positions.h"
#include "consumers/projection_metrics.h"
#include "consumers/projection_options.h"
#include "consumers/topic_watch.h"
#include "consumers/worker_watch.h"

namespace millrace {

// The partitions of one loop: joins what the group gives with the positions in PostgreSQL (PROTOCOL
// 7.2 to 7.4). Not thread-safe. Calls that are given Positions throw as the session does, and kHalt
// when a log and its position do not belong together.
class Assignment {
  public:
    using Clock = OwnedPartition::Clock;

    Assignment(const ProjectionOptions& options, GroupConsumer& consumer,
               ProjectionMetrics& metrics, WorkerWatch& watch);
    // Nothing is told any more of partitions that are others' from now on.
    ~Assignment();
    Assignment(const Assignment&) = delete;
    Assignment& operator=(const Assignment&) = delete;

    // Positions for all partitions there are, if the projection was never seen.
    void seed(Positions& positions);
    // Polls until nothing is left, `count_max` records came or, for the first, `limit` has passed.
    void fetch(std::chrono::milliseconds limit, size_t count_max);
    // Confirms what a lost session held, then takes what is wanted, as far as it is due. Ends at
    // the first that could not be taken, which may have cost seconds: the others' turn is in the
    // next round, which does not begin with it. `batch`: the one that was sent last; if its end was
    // in doubt, its position now tells.
    void take_due(Positions& positions, Batch* batch, const std::stop_token& stop);
    // The compare-and-set failed (PROTOCOL 7.3).
    void resync(OwnedPartition& partition, Positions& positions);
    // Somebody holds the lock of the position's row: the others' turn, until it is let go.
    void put_off(OwnedPartition& partition, std::string why,
                 std::optional<std::chrono::milliseconds> wait = std::nullopt);
    // The session is gone that took them.
    void session_lost();
    // Moves on after a COMMIT.
    void applied(OwnedPartition& partition, const Batch& batch);

    // Null when its stretch of reading has ended.
    OwnedPartition* find(uint64_t generation);
    // The partition whose batch is to be closed now; null: none. One whose records wait longest is
    // first.
    OwnedPartition* next_due(const BatchLimits& limits);
    // One that stands behind markers of transactions for a while, so that retention can't pass it.
    OwnedPartition* next_to_catch_up();
    // How long poll may wait for something else to become due.
    std::chrono::milliseconds idle_time(const BatchLimits& limits) const;

    // Once a second: what lag tools and metrics show, and a look at the topics themselves, which
    // throws kHalt `topic_recreated`.
    void show_progress();
    void commit_offsets();
    // Why a partition of ours is not read; empty: none.
    std::string waiting() const;

  private:
    void note_changes();
    void note(Fetched fetched);
    void note_record(OwnedPartition& partition, Fetched fetched);
    bool try_take(OwnedPartition& partition, Positions& positions, Batch* batch,
                  std::vector<OwnedPartition*>& taken);
    void confirm(OwnedPartition& partition, Positions& positions, Batch* batch);
    void begin(OwnedPartition& partition, const Position& position);
    // Tells why, and tries again after `wait`; without one, after twice the last one.
    void postpone(OwnedPartition& partition, std::string why,
                  std::optional<std::chrono::milliseconds> wait = std::nullopt);
    // Throws kHalt `topic_recreated`.
    void check_topics();

    const ProjectionOptions& options_;
    GroupConsumer& consumer_;
    ProjectionMetrics& metrics_;
    WorkerWatch& watch_;
    PositionTaker taker_;
    TopicWatch topic_watch_;
    std::map<TopicPartition, OwnedPartition> partitions_;
    OwnedPartition* last_found_ = nullptr;
    std::map<TopicPartition, int64_t> to_commit_;
};

}  // namespace millrace
