#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "app/bench/ground.h"
#include "app/bench/report.h"

namespace millrace {

struct DrainResult {
    double seconds = 0;  // From the first change of the log's end to the last.
    double rate = 0;     // Tasks a second.
    Cpu cpu;             // With the start of the process.
    double transactions_per_second = 0;
    double resident_mebibytes = 0;
};

// Drains an outbox of preloaded tasks by a worker, and then counts what a read_committed reader
// finds: throws kFatal `bench_unsound` if that is not every task once.
DrainResult measure_drain(const BenchGround& ground, int64_t task_count,
                          const Workspace::Values& values);

// The part that every relay shares: its process was just started over `task_count` tasks. Returns
// once the log's end stands still and `is_outbox_empty` holds. Throws kFatal `bench_unsound` if the
// end does not move for a minute, or moved once only: then there is no time to measure.
DrainResult watch_drain(const Measurement& measurement, int64_t task_count,
                        const std::function<bool()>& is_outbox_empty);
// Throws kFatal `bench_unsound` unless the topic holds each of the tasks once.
void check_topic(const BenchGround& ground, Workspace& workspace, int64_t task_count);

BenchRow row_of(const std::string& measure, const DrainResult& result, int64_t task_count);

}  // namespace millrace
