#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "consumers/topic_partition.h"
#include "core/metrics.h"

namespace millrace {

// The metrics of one projection (prefix millrace_projection_), and what its loops count together.
// Thread-safe: all loops of a projection share one.
class ProjectionMetrics {
  public:
    ProjectionMetrics(Metrics& metrics, const std::string& projection);

    // One batch; `oldest`: Kafka's time of its first event.
    void applied(size_t event_count, std::chrono::milliseconds oldest,
                 const std::map<std::string, size_t>& skipped);
    void retry(const std::string& sqlstate);
    void sequence_jump(const std::string& kind);
    void failure(const std::string& reason);
    void dead_letter(const std::string& failure_class);
    // A batch whose culprits were sought, by so many parts.
    void bisected(int part_count);
    // Empty: not halted.
    void set_halted(const std::string& reason);
    void set_lag(const TopicPartition& where, int64_t event_count, double seconds);
    // For a partition that this process no longer reads: others show its lag.
    void forget_lag(const TopicPartition& where);
    // Batches of this process and projection so far, this one included.
    int64_t count_batch() { return ++batch_count_; }

  private:
    using Labels = Metrics::Labels;
    void add(const std::string& name, const std::string& help, const std::string& label,
             const std::string& value, double count = 1);

    Metrics& metrics_;
    const std::string projection_;
    std::atomic<int64_t> batch_count_{0};
    std::mutex mutex_;
    std::map<std::string, prometheus::Counter*> counters_;
    std::map<std::string, prometheus::Gauge*> halted_;
    struct Lag {
        prometheus::Gauge* event_count;
        prometheus::Gauge* seconds;
    };
    std::map<TopicPartition, Lag> lags_;
    prometheus::Counter& events_applied_;
    prometheus::Histogram& batch_events_;
    prometheus::Histogram& commit_to_applied_seconds_;
    prometheus::Counter& bisections_;
    prometheus::Counter& bisection_parts_;

  public:
    prometheus::Counter& positions_lost;
    prometheus::Counter& backends_terminated;
    prometheus::Counter& sends_lost;
    prometheus::Counter& parked;
    prometheus::Counter& copies_skipped;
    prometheus::Counter& bisected_clean;
    prometheus::Histogram& batch_seconds;
    prometheus::Gauge& waiting;
};

}  // namespace millrace
