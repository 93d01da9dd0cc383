#include "app/bench/latency.h"
#include "bench/load/cases.h"
#include "bench/load/rounds.h"
#include "bench/load/textbook_relay.h"

namespace millrace::bench {

namespace {

LatencyResult measure_textbook(const BenchGround& ground, LatencyOptions options) {
    Workspace workspace(ground.config, {.projections = {}, .program = "/proc/self/exe"});
    pg::Session session(workspace.session_options());
    create_textbook_outbox(session);
    MeasuredWorker relay = start_textbook_relay(workspace);
    options.insert = textbook_insert();
    LatencyResult result = measure_latency(ground, workspace, relay, options);
    relay.stop();
    return result;
}

}  // namespace

void run_latency(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    const std::chrono::seconds duration(options.seconds);
    const LatencyOptions slow{.tasks_per_second = 100, .duration = duration};
    const LatencyOptions usual{.tasks_per_second = 1000, .duration = duration};
    const LatencyOptions fast{
        .tasks_per_second = 10'000, .tasks_per_transaction = 10, .duration = duration};
    LatencyOptions lingering = usual;
    lingering.values = {{"relay.linger", "20ms"}};
    Rounds rounds(emit);
    const auto report = [&rounds](const std::string& name, const LatencyResult& result) {
        rounds.add(row_of("commit to visible, " + name, result));
    };
    for (int round = 1; round <= options.round_count; ++round) {
        report("100/s", measure_latency(ground, slow));
        report("1,000/s", measure_latency(ground, usual));
        report("1,000/s, textbook relay", measure_textbook(ground, usual));
        report("10,000/s, 10 a transaction", measure_latency(ground, fast));
        report("10,000/s, textbook relay", measure_textbook(ground, fast));
        report("1,000/s, relay.linger 20ms", measure_latency(ground, lingering));
    }
    rounds.finish();
}

}  // namespace millrace::bench
