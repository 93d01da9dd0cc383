#pragma once

#include <functional>
#include <string>
#include <vector>

#include "app/bench/ground.h"
#include "app/bench/report.h"

namespace millrace::bench {

// What the command line says of the cases.
struct CaseOptions {
    int round_count = 3;
    int64_t task_count = 1'000'000;
    int seconds = 10;        // Of an open loop.
    int hold_seconds = 300;  // How long a snapshot or a writer stays open.
    int repeat_count = 30;   // Of each take-over.
};

// Tells a finished row to whoever prints it.
using Emit = std::function<void(const BenchRow&)>;

struct Case {
    std::string name;
    std::string summary;
    std::function<void(const BenchGround&, const CaseOptions&, const Emit&)> run;
};

const std::vector<Case>& all_cases();

void run_drain(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_latency(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_projection(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_poison(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_chain(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_idle(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_held(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_relay_takeover(const BenchGround& ground, const CaseOptions& options, const Emit& emit);
void run_worker_takeover(const BenchGround& ground, const CaseOptions& options, const Emit& emit);

}  // namespace millrace::bench
