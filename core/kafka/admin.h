#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::kafka {

struct TopicOptions {
    std::string name;
    int32_t partition_count = 1;
    int16_t replication = 1;
    std::map<std::string, std::string> config;
};

struct TopicFacts {
    std::string topic_id;  // As librdkafka prints it: base64 of a uuid.
    int32_t partition_count = 0;
    int32_t replication = 0;
};

struct LogEnd {
    int64_t offset = 0;
    std::optional<int32_t> leader_epoch;  // Of the leader that told it.
};

// The partition the Java client's default partitioner gives a key: murmur2, positive, modulo.
int32_t partition_of(std::string_view key, int32_t partition_count);

// Questions and orders to the cluster over any client of ours. Each call blocks at most `limit` and
// a second more, and throws kTransient when no broker answers.
class Admin {
  public:
    explicit Admin(rd_kafka_t* client, std::chrono::milliseconds limit = std::chrono::seconds(10))
        : client_(client), limit_(static_cast<int>(limit.count())) {}

    // Throws unless a broker answers a plain question; returns the milliseconds of `limit` that are
    // left, at least one. Every order below asks first: while one waits for a broker that is gone,
    // librdkafka connects without any back-off, thousands of times a second.
    int require_answer(const std::string& what) const;
    std::string cluster_id();
    // Nothing when the broker says that there is no such topic.
    std::optional<TopicFacts> topic_facts(const std::string& topic);
    // Partitions of the topic by the client's metadata: quicker than topic_facts.
    std::optional<int32_t> partition_count(const std::string& topic);
    std::map<std::string, std::string> topic_config(const std::string& topic);
    // False when it exists already.
    bool create_topic(const TopicOptions& options);
    // False when there is none.
    bool delete_topic(const std::string& topic);
    // The next offset of each of the partitions, transactions still open included. Left out is one
    // that nobody tells it of: without a leader, say. Throws when those are all.
    std::map<int32_t, int64_t> high_watermarks(const std::string& topic,
                                               const std::vector<int32_t>& partitions);
    // The same, but that of the first record of a transaction that is still open: what a
    // read_committed reader can be shown ends there.
    std::map<int32_t, int64_t> last_stable_offsets(const std::string& topic,
                                                   const std::vector<int32_t>& partitions);
    LogEnd last_stable_end(const std::string& topic, int32_t partition);

  private:
    std::map<int32_t, LogEnd> ends(const std::string& topic,
                                   const std::vector<int32_t>& partitions,
                                   rd_kafka_IsolationLevel_t isolation);

    rd_kafka_t* client_;
    int limit_;  // Milliseconds.
};

}  // namespace millrace::kafka
