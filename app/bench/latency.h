#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/bench/ground.h"
#include "app/bench/percentiles.h"
#include "app/bench/report.h"

namespace millrace {

struct LatencyOptions {
    double tasks_per_second = 1000;
    int tasks_per_transaction = 1;
    std::chrono::seconds duration{10};
    Workspace::Values values{};  // Of the worker.
    std::vector<std::string> projections{};
    int64_t first_number = 0;  // Of its tasks; records with other numbers are passed over.
    std::string insert{};      // Of the writers; see TaskWriters.
    // Called once the worker serves, before anything is written.
    std::function<void(MeasuredWorker&, const CpuWatch&)> before{};
};

struct LatencyResult {
    Percentiles milliseconds;
    double achieved_per_second = 0;
    Cpu cpu;
    int64_t task_count = 0;
    int64_t next_number = 0;  // Behind its tasks.
    double seconds = 0;
    double transactions_per_second = 0;
    double writer_delay_ms = 0;
    double resident_mebibytes = 0;  // Of the worker, at the end.
};

// From a writer's COMMIT having returned to the record in a read_committed reader's hands, in one
// process and by one clock.
LatencyResult measure_latency(const BenchGround& ground, const LatencyOptions& options);
// The same in a workspace that is there already, with the worker that serves it, or begins to. What
// is in the topic is read first.
LatencyResult measure_latency(const BenchGround& ground, Workspace& workspace,
                              MeasuredWorker& worker, const LatencyOptions& options);
BenchRow row_of(const std::string& measure, const LatencyResult& result);

// The same to the row in a read model, seen by a session that asks for what is outstanding all the
// time.
LatencyResult measure_end_to_end(const BenchGround& ground, const LatencyOptions& options);

}  // namespace millrace
