#include "app/bench/latency.h"
#include "app/scratch/samples.h"
#include "bench/load/cases.h"
#include "bench/load/rounds.h"

namespace millrace::bench {

namespace {

constexpr std::chrono::seconds kIdleFor{30};
constexpr std::chrono::seconds kSettling{5};
constexpr double kLonePerSecond = 2;

}  // namespace

// 12 lanes and both samples wait; then, in the same processes, a lone task now and then.
void run_idle(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Rounds rounds(emit);
    for (int round = 1; round <= options.round_count; ++round) {
        LatencyOptions what{.tasks_per_second = kLonePerSecond, .duration = kIdleFor};
        what.projections = {sample_text("orders.sql"), sample_text("customer_totals.sql")};
        what.before = [&](MeasuredWorker& worker, const CpuWatch& cpu) {
            ground.pause(kSettling);
            say("idle for " + std::to_string(kIdleFor.count()) + " s");
            const Cpu before = cpu.now(worker);
            ground.pause(kIdleFor);
            const Cpu used = cpu.now(worker) - before;
            const double percent = 100.0 / static_cast<double>(kIdleFor.count());
            rounds.add({.measure = "idle",
                  .figures = {{"worker % of a core", rounded(used.worker * percent, 2)},
                              {"PostgreSQL %", figure_or_none(used.postgres * percent, 2)},
                              {"broker %", figure_or_none(used.broker * percent, 2)},
                              {"worker MiB", rounded(worker.resident(), 1)}}});
        };
        rounds.add(row_of("a task every 0.5 s", measure_latency(ground, what)));
    }
    rounds.finish();
}

}  // namespace millrace::bench
