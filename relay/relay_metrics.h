#pragma once

#include <map>
#include <mutex>
#include <string>

#include "core/metrics.h"

namespace millrace {

// The relay's metrics (prefix millrace_relay_). Thread-safe: all threads of a process share one.
class RelayMetrics {
  public:
    explicit RelayMetrics(Metrics& metrics);

    void published(const std::string& topic, int64_t count);
    void transaction(const std::string& outcome);
    void takeover(const std::string& cause);
    void fenced(const std::string& by);
    void failure(const std::string& reason);
    // Gauges by reason: sets those given, and the others to zero.
    void set_halted_lanes(const std::map<std::string, int>& by_reason);
    void set_halted_publishers(const std::map<std::string, int>& by_reason);
    void set_dead_tasks(const std::map<std::string, int>& by_reason);

  private:
    // Children by the value of their one label; the first use makes them.
    struct Counters {
        std::string name;
        std::string help;
        std::string label;
        std::map<std::string, prometheus::Counter*> by_value;
    };
    struct Gauges {
        std::string name;
        std::string help;
        std::map<std::string, prometheus::Gauge*> by_reason;
    };
    void add(Counters& counters, const std::string& value, double count = 1);
    void set(Gauges& gauges, const std::map<std::string, int>& by_reason);

    Metrics& metrics_;
    std::mutex mutex_;
    Counters published_;
    Counters transactions_;
    Counters takeovers_;
    Counters fenced_;
    Gauges halted_lanes_;
    Gauges halted_publishers_;
    Gauges dead_tasks_;

  public:
    prometheus::Histogram& transaction_seconds;
    prometheus::Histogram& claim_seconds;
    prometheus::Gauge& backlog_tasks;
    prometheus::Gauge& oldest_task_age_seconds;
    prometheus::Gauge& lanes_owned;
    prometheus::Gauge& waiting;
    prometheus::Gauge& floor_lag_tasks;
    prometheus::Counter& backends_terminated;
    prometheus::Counter& redos;
    prometheus::Counter& redo_mismatches;
    prometheus::Counter& tainted_producers;
    prometheus::Counter& floor_violations;
    prometheus::Counter& sequence_resets;
    prometheus::Counter& torn_claims;
    prometheus::Counter& sweeps_cut;
    prometheus::Counter& lanes_moved;
};

}  // namespace millrace
