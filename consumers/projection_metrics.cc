#include "consumers/projection_metrics.h"

namespace millrace {

namespace {

constexpr const char* kLagEvents = "millrace_projection_lag_events";
constexpr const char* kLagEventsHelp = "Records between position and log end.";
constexpr const char* kLagSeconds = "millrace_projection_lag_seconds";
constexpr const char* kLagSecondsHelp = "Age of the oldest record not applied.";

}  // namespace

ProjectionMetrics::ProjectionMetrics(Metrics& metrics, const std::string& projection)
    : metrics_(metrics),
      projection_(projection),
      events_applied_(metrics.counter("millrace_projection_events_applied_total",
                                      "Events applied to the read model.",
                                      {{"projection", projection}})),
      batch_events_(metrics.counts("millrace_projection_batch_events", "Events in a batch.",
                                   {{"projection", projection}})),
      commit_to_applied_seconds_(
          metrics.seconds("millrace_projection_commit_to_applied_seconds",
                          "From the insert of a batch's oldest task to the read model's COMMIT.",
                          {{"projection", projection}})),
      bisections_(metrics.counter("millrace_projection_bisections_total",
                                  "Batches whose culprits were sought by halves.",
                                  {{"projection", projection}})),
      bisection_parts_(metrics.counter("millrace_projection_bisection_parts_total",
                                       "Parts of batches that were tried to find culprits.",
                                       {{"projection", projection}})),
      positions_lost(metrics.counter("millrace_projection_positions_lost_total",
                                     "Batches refused because the position had moved.",
                                     {{"projection", projection}})),
      backends_terminated(
          metrics.counter("millrace_projection_backends_terminated_total",
                          "Sessions of earlier owners that were ended to free a position.",
                          {{"projection", projection}})),
      sends_lost(metrics.counter("millrace_projection_sends_lost_total",
                                 "Batches whose connection was lost while they were sent.",
                                 {{"projection", projection}})),
      parked(metrics.counter("millrace_projection_parked_events_total",
                             "Events that were parked behind a dead letter of their key.",
                             {{"projection", projection}})),
      copies_skipped(metrics.counter("millrace_projection_letter_copies_skipped_total",
                                     "Dead letters whose Kafka copy could not be inserted.",
                                     {{"projection", projection}})),
      bisected_clean(metrics.counter(
          "millrace_projection_bisected_clean_total",
          "Batches that were refused as a whole, and none of whose parts was.",
          {{"projection", projection}})),
      batch_seconds(metrics.seconds("millrace_projection_batch_seconds",
                                    "One batch, from BEGIN to COMMIT.",
                                    {{"projection", projection}})),
      waiting(metrics.gauge("millrace_projection_waiting",
                            "Threads of this process that can't apply and say why in /readyz.",
                            {{"projection", projection}})) {}

void ProjectionMetrics::applied(size_t event_count, std::chrono::milliseconds oldest,
                                const std::map<std::string, size_t>& skipped) {
    for (const auto& [why, count] : skipped) {
        add("millrace_projection_events_skipped_total",
            "Events that only moved the position, by why.", "why", why,
            static_cast<double>(count));
    }
    if (event_count == 0) return;
    events_applied_.Increment(static_cast<double>(event_count));
    batch_events_.Observe(static_cast<double>(event_count));
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    commit_to_applied_seconds_.Observe(std::chrono::duration<double>(now - oldest).count());
}

void ProjectionMetrics::retry(const std::string& sqlstate) {
    add("millrace_projection_retries_total", "Batches tried again, by SQLSTATE.", "sqlstate",
        sqlstate);
}

void ProjectionMetrics::sequence_jump(const std::string& kind) {
    add("millrace_projection_sequence_gaps_total",
        "Records whose millrace-seq does not follow the one before.", "kind", kind);
}

void ProjectionMetrics::failure(const std::string& reason) {
    metrics_.failures(reason).Increment();
}

void ProjectionMetrics::dead_letter(const std::string& failure_class) {
    add("millrace_projection_dead_letters_total", "Events set aside as dead letters, by class.",
        "class", failure_class);
}

void ProjectionMetrics::bisected(int part_count) {
    bisections_.Increment();
    bisection_parts_.Increment(part_count);
}

void ProjectionMetrics::set_halted(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    for (const auto& [other, gauge] : halted_) gauge->Set(0);
    if (reason.empty()) return;
    prometheus::Gauge*& gauge = halted_[reason];
    if (gauge == nullptr) {
        gauge = &metrics_.gauge("millrace_projection_halted", "1 while halted, by reason.",
                                {{"projection", projection_}, {"reason", reason}});
    }
    gauge->Set(1);
}

void ProjectionMetrics::set_lag(const TopicPartition& where, int64_t event_count,
                                double seconds) {
    const std::lock_guard lock(mutex_);
    auto lag = lags_.find(where);
    if (lag == lags_.end()) {
        const Labels labels{{"projection", projection_},
                            {"topic", where.topic},
                            {"partition", std::to_string(where.partition)}};
        lag = lags_
                  .emplace(where,
                           Lag{&metrics_.gauge(kLagEvents, kLagEventsHelp, labels),
                               &metrics_.gauge(kLagSeconds, kLagSecondsHelp, labels)})
                  .first;
    }
    lag->second.event_count->Set(static_cast<double>(event_count));
    lag->second.seconds->Set(seconds);
}

void ProjectionMetrics::forget_lag(const TopicPartition& where) {
    const std::lock_guard lock(mutex_);
    const auto lag = lags_.find(where);
    if (lag == lags_.end()) return;
    metrics_.remove(*lag->second.event_count, kLagEvents, kLagEventsHelp);
    metrics_.remove(*lag->second.seconds, kLagSeconds, kLagSecondsHelp);
    lags_.erase(lag);
}

void ProjectionMetrics::add(const std::string& name, const std::string& help,
                            const std::string& label, const std::string& value, double count) {
    const std::lock_guard lock(mutex_);
    prometheus::Counter*& counter = counters_[name + " " + value];
    if (counter == nullptr) {
        counter = &metrics_.counter(name, help, {{"projection", projection_}, {label, value}});
    }
    counter->Increment(count);
}

}  // namespace millrace
