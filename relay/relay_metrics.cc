#include "relay/relay_metrics.h"

namespace millrace {

RelayMetrics::RelayMetrics(Metrics& metrics)
    : metrics_(metrics),
      published_{"millrace_relay_tasks_published_total", "Tasks published, by topic.", "topic", {}},
      transactions_{"millrace_relay_transactions_total",
                    "Kafka transactions: committed, or in doubt until settled.", "outcome", {}},
      takeovers_{"millrace_relay_takeovers_total", "Publishers taken, by why.", "cause", {}},
      fenced_{"millrace_relay_fenced_total",
              "Times this process found that another had taken its publisher, by who told it.",
              "by", {}},
      halted_lanes_{"millrace_relay_lanes_halted", "Halted lanes of the installation.", {}},
      halted_publishers_{"millrace_relay_publishers_halted",
                         "Halted publishers of the installation.", {}},
      dead_tasks_{"millrace_relay_dead_tasks",
                  "Tasks set aside or waiting behind one, sampled; counted up to 100000.", {}},
      transaction_seconds(metrics.seconds("millrace_relay_transaction_seconds",
                                          "From the claim's begin to its COMMIT.")),
      claim_seconds(metrics.seconds("millrace_relay_claim_seconds", "One claim's round trip.")),
      backlog_tasks(metrics.gauge("millrace_relay_backlog_tasks",
                                  "Tasks that wait, sampled; counted up to 100000.")),
      oldest_task_age_seconds(metrics.gauge("millrace_relay_oldest_task_age_seconds",
                                            "Age of the oldest waiting task, sampled.")),
      lanes_owned(metrics.gauge("millrace_relay_lanes_owned", "Lanes this process publishes.")),
      waiting(metrics.gauge("millrace_relay_waiting",
                            "Threads of this process that can't publish and say why in /readyz.")),
      floor_lag_tasks(metrics.gauge("millrace_relay_floor_lag_tasks",
                                    "Newest id of the sequence less the claim's floor.")),
      backends_terminated(metrics.counter("millrace_relay_backends_terminated_total",
                                          "Sessions of dead relays that were ended.")),
      redos(metrics.counter("millrace_relay_redos_total",
                            "Transactions whose PostgreSQL half was done again from the ledger.")),
      redo_mismatches(metrics.counter("millrace_relay_redo_mismatch_total",
                                      "Redos that found fewer rows than the ledger names.")),
      tainted_producers(
          metrics.counter("millrace_relay_tainted_producers_total",
                          "Producers replaced because a request was retried unseen.")),
      floor_violations(metrics.counter("millrace_relay_floor_violations_total",
                                       "Rows found at or below the floor: a defect.")),
      sequence_resets(metrics.counter("millrace_relay_sequence_resets_total",
                                      "Times the sequence of ids was seen to go backwards.")),
      torn_claims(metrics.counter("millrace_relay_torn_claims_total",
                                  "Claims rolled back because a selected row had changed.")),
      sweeps_cut(metrics.counter("millrace_relay_sweeps_cut_total",
                                 "Looks below the floor that were cut short.")),
      lanes_moved(metrics.counter("millrace_relay_lanes_moved_total",
                                  "Lanes this process took or gave back.")) {}

void RelayMetrics::published(const std::string& topic, int64_t count) {
    add(published_, topic, static_cast<double>(count));
}

void RelayMetrics::transaction(const std::string& outcome) { add(transactions_, outcome); }

void RelayMetrics::takeover(const std::string& cause) { add(takeovers_, cause); }

void RelayMetrics::fenced(const std::string& by) { add(fenced_, by); }

void RelayMetrics::failure(const std::string& reason) {
    metrics_.failures(reason).Increment();
}

void RelayMetrics::set_halted_lanes(const std::map<std::string, int>& by_reason) {
    set(halted_lanes_, by_reason);
}

void RelayMetrics::set_halted_publishers(const std::map<std::string, int>& by_reason) {
    set(halted_publishers_, by_reason);
}

void RelayMetrics::set_dead_tasks(const std::map<std::string, int>& by_reason) {
    set(dead_tasks_, by_reason);
}

void RelayMetrics::add(Counters& counters, const std::string& value, double count) {
    const std::lock_guard lock(mutex_);
    prometheus::Counter*& counter = counters.by_value[value];
    if (counter == nullptr) {
        counter = &metrics_.counter(counters.name, counters.help, {{counters.label, value}});
    }
    counter->Increment(count);
}

void RelayMetrics::set(Gauges& gauges, const std::map<std::string, int>& by_reason) {
    const std::lock_guard lock(mutex_);
    for (const auto& [reason, gauge] : gauges.by_reason) gauge->Set(0);
    for (const auto& [reason, count] : by_reason) {
        prometheus::Gauge*& gauge = gauges.by_reason[reason];
        if (gauge == nullptr) {
            gauge = &metrics_.gauge(gauges.name, gauges.help, {{"reason", reason}});
        }
        gauge->Set(count);
    }
}

}  // namespace millrace
