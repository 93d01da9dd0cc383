#include "app/bench/latency.h"
#include "bench/load/cases.h"

namespace millrace::bench {

void run_latency(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    const std::chrono::seconds duration(options.seconds);
    for (int round = 1; round <= options.round_count; ++round) {
        const std::string end = ", round " + std::to_string(round);
        const auto measure = [&](const std::string& name, LatencyOptions what) {
            what.duration = duration;
            emit(row_of("commit to visible, " + name + end, measure_latency(ground, what)));
        };
        measure("100/s", {.tasks_per_second = 100});
        measure("1,000/s", {.tasks_per_second = 1000});
        measure("10,000/s, 10 a transaction",
                {.tasks_per_second = 10'000, .tasks_per_transaction = 10});
        measure("1,000/s, relay.linger 20ms",
                {.tasks_per_second = 1000, .values = {{"relay.linger", "20ms"}}});
    }
}

}  // namespace millrace::bench
