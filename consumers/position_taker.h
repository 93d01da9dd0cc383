#pragma once

#include <map>
#include <string>
#include <vector>

#include "consumers/log_facts.h"
#include "consumers/owned_partition.h"
#include "consumers/positions.h"
#include "consumers/projection_metrics.h"
#include "consumers/projection_options.h"
#include "consumers/worker_watch.h"

namespace millrace {

// The kHalt for a position that was there and is gone: nobody knows where to go on.
Failure position_missing(const TopicPartition& where);

// Takes positions (PROTOCOL 7.2) and holds them against the logs they are in. Throws as the session
// does, kTransient with a reason `kafka_...` when a broker does not answer, and kHalt when a log
// and its position do not belong together. Not thread-safe.
class PositionTaker {
  public:
    PositionTaker(const ProjectionOptions& options, rd_kafka_t* client,
                  ProjectionMetrics& metrics, WorkerWatch& watch);

    // Makes positions for all partitions there are, if the projection was never seen: once for the
    // fleet, whoever looks when.
    void seed(Positions& positions);
    // Answers are kept between two calls of this, so that each topic is asked for once.
    void begin_round() { topics_.clear(); }
    // Makes this loop the owner, and fills the partition's position. False: the log does not reach
    // it yet, which may be a follower's that has just become leader; look again.
    bool take(OwnedPartition& partition, Positions& positions);
    // Which of its keys are parked (PROTOCOL 7.3, 7.5), after each look at its position.
    void load_parked(OwnedPartition& partition, Positions& positions) const;
    // The position's row is locked: its owner may have been stopped in the middle of a send, which
    // no time-out of PostgreSQL ends (PROTOCOL 7.2a).
    void end_owner(const TopicPartition& where, Positions& positions);
    // Throws kHalt `topic_recreated` if they differ.
    static void check_topic(const OwnedPartition& partition, const Uuid& topic_id);

  private:
    Position take_position(const TopicPartition& where, Positions& positions);
    std::vector<NewPosition> start_all(const std::string& topic, const LogTopic& found,
                                       int32_t first, const StartAt& start) const;
    bool check_range(OwnedPartition& partition) const;
    bool is_judged(const std::string& topic);
    const LogTopic& topic_of(const std::string& topic);

    const ProjectionOptions& options_;
    const LogFacts facts_;
    ProjectionMetrics& metrics_;
    WorkerWatch& watch_;
    std::map<std::string, LogTopic> topics_;
    std::map<std::string, bool> compacted_;
};

}  // namespace millrace
