#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "consumers/topic_partition.h"
#include "core/kafka/client.h"
#include "core/kafka/handles.h"
#include "core/kafka/reaper.h"

namespace millrace {

struct GroupOptions {
    kafka::ClientOptions kafka;
    std::string group;
    std::vector<std::string> topics;
    std::chrono::milliseconds session_timeout{6000};  // The heartbeat is a tenth of it.
};

// What the group gave to this member, or took from it, in the order in which it happened.
struct AssignmentChange {
    TopicPartition where;
    bool is_gained = false;
};

// What one poll brought. `generation` names the stretch of reading that it belongs to: it is of one
// fetch_from(), so that what an earlier one left behind is told apart (PROTOCOL 7.4). 0: of none.
struct Fetched {
    enum class Kind {
        kNothing,
        kRecord,
        kEnd,      // All that is committed was read; `offset` is the next one.
        kRefused,  // The log does not go on at the offset asked for; the partition stands still.
    };
    Kind kind = Kind::kNothing;
    uint64_t generation = 0;
    kafka::Message message;  // Of kRecord.
    int64_t offset = 0;
    std::string detail;         // Of kRefused.
    bool is_truncated = false;  // Of kRefused: the log was cut below what had been read.
};

// One member of a consumer group. Which partitions it has is the group's decision; where each is
// read from is the caller's, who knows the positions: the offsets Kafka holds are never read. Not
// thread-safe: one loop, whose poll() also runs librdkafka's callbacks. Destruction is quick and
// does not leave the group; close() before it does.
class GroupConsumer {
  public:
    GroupConsumer(const GroupOptions& options, kafka::Reaper& reaper);

    // Waits at most `limit`. To be called often: rebalances happen in here. Throws kTransient
    // `kafka_client_failed` when the client can't go on: then only destruction is allowed.
    Fetched poll(std::chrono::milliseconds limit);
    // What changed since the last call. A partition that was taken away is not read any more.
    std::vector<AssignmentChange> take_changes();

    // Begins to read a partition of ours, from `offset`; ends an earlier stretch, whose records
    // have left librdkafka's queue before the new one begins. Returns the new stretch's generation;
    // 0 if the group took the partition away meanwhile. `leader_epoch` is that of the record before
    // `offset`: if the log does not hold it any more, the stretch begins with kRefused. Blocks
    // 200 ms at most, throws kTransient: the stretch has not begun.
    uint64_t fetch_from(const TopicPartition& where, int64_t offset,
                        std::optional<int32_t> leader_epoch);
    void stop_fetching(const TopicPartition& where);
    // What librdkafka has read ahead is dropped, and read again after resume().
    void pause(const TopicPartition& where);
    void resume(const TopicPartition& where);
    // For lag tools only; returns at once, and a refusal is no failure.
    void commit_later(const std::map<TopicPartition, int64_t>& next_offsets);

    // Leaves the group, so that others need not wait for the session timeout; if it is rebalancing,
    // once this member has been let in again. Blocks at most `limit`; afterwards only destruction
    // is allowed.
    void close(std::chrono::milliseconds limit);

    // Why nothing comes, as far as the client knows: topics that do not exist, no broker.
    std::string trouble() const;
    rd_kafka_t* raw() const { return client_.get(); }

  private:
    // Written by callbacks; lives as long as the client.
    struct State {
        std::vector<AssignmentChange> changes;
        std::map<TopicPartition, uint64_t> fetching;
        // Partitions of which the queue may still hold records of a stretch that has ended.
        std::set<TopicPartition> ended;
        std::set<TopicPartition> paused;
        // Messages come in runs of one partition; reset whenever `fetching` changes.
        const rd_kafka_topic_t* last_topic = nullptr;
        int32_t last_partition = -1;
        uint64_t last_generation = 0;
        std::map<std::string, std::string> topic_troubles;
        std::string client_trouble;
        std::chrono::steady_clock::time_point client_trouble_at;
    };

    static void on_rebalance(rd_kafka_t* client, rd_kafka_resp_err_t code,
                             rd_kafka_topic_partition_list_t* partitions, void* opaque) noexcept;
    static void on_error(rd_kafka_t* client, int code, const char* reason, void* opaque) noexcept;
    static kafka::Client make(const GroupOptions& options, const std::shared_ptr<State>& state,
                              kafka::Reaper& reaper);
    void validate(rd_kafka_topic_partition_list_t* list, const TopicPartition& where);
    bool is_member() const;
    Fetched next(std::chrono::milliseconds limit);
    Fetched judge(kafka::Message message);
    void drain();
    uint64_t generation_of(const rd_kafka_message_t& message);
    void note_trouble(const rd_kafka_message_t& message);
    void note_topic_trouble(const std::string& topic, const std::string& why);

    std::shared_ptr<State> state_;
    kafka::Client client_;
    std::deque<Fetched> drained_;  // What drain() met of other partitions; after the client.
    uint64_t generation_count_ = 0;
};

}  // namespace millrace
