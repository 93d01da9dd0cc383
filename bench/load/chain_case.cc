#include "app/bench/latency.h"
#include "app/bench/projection.h"
#include "app/bench/task_writers.h"
#include "app/scratch/samples.h"
#include "app/table.h"
#include "bench/load/cases.h"
#include "bench/load/lag_watch.h"
#include "bench/load/rounds.h"

namespace millrace::bench {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr double kSustained = 60'000;
constexpr int kTasksPerTransaction = 500;
constexpr std::chrono::seconds kSustainedFor{30};
constexpr milliseconds kLookEvery{10};
constexpr std::chrono::seconds kPatience{30};

double applied_count(MeasuredWorker& worker) {
    return worker.metric("millrace_projection_events_applied_total{");
}

// Writers at a rate until their time is over, watched until all they wrote is applied.
BenchRow sustain(const BenchGround& ground, Workspace& workspace, MeasuredWorker& worker,
                 const TaskWriters::Options& options) {
    pg::Session session(workspace.session_options());
    const CpuWatch cpu(ground, session);
    const Cpu before = cpu.now(worker);
    const double transactions = worker.transaction_count();
    const auto first_applied = static_cast<int64_t>(applied_count(worker));
    TaskWriters writers(options);
    LagWatch lag;
    Progressing progress("sustained");
    const Clock::time_point limit = Clock::now() + options.duration + kPatience;
    int64_t applied = 0;
    Clock::time_point end = Clock::now();
    while (applied < writers.task_count()) {
        ground.pause(kLookEvery);
        worker.check();
        lag.handed_in(writers.committed_count(), Clock::now());
        applied = static_cast<int64_t>(applied_count(worker)) - first_applied;
        end = Clock::now();
        const milliseconds now = lag.applied(applied, end);
        progress.show(with_commas(applied) + " applied, " + std::to_string(now.count()) +
                      " ms behind");
        // Not sustained: the row says so by its rate and lag.
        if (end > limit) break;
    }
    writers.stop();
    const Cpu used = cpu.now(worker) - before;
    const auto count = static_cast<double>(applied);
    const double seconds = std::chrono::duration<double>(end - writers.began_at()).count();
    const double delay_ms = std::chrono::duration<double, std::milli>(writers.delay_max()).count();
    const double turns = worker.transaction_count() - transactions;
    BenchRow row{.measure = "end to end, sustained",
                 .figures = {{"tasks/s through the chain", rounded(count / seconds, 0)},
                             {"tasks/s wanted", rounded(options.tasks_per_second, 0)},
                             {"greatest lag ms", lag.greatest().count()}}};
    append_cpu(row, used, applied, "task");
    row.figures.emplace_back("transactions/s", rounded(turns / seconds, 0));
    row.figures.emplace_back("worker MiB", rounded(worker.resident(), 0));
    row.figures.emplace_back("writers' delay ms", rounded(delay_ms, 0));
    return row;
}

BenchRow measure_sustained(const BenchGround& ground) {
    Workspace workspace(ground.config,
                        {.projections = {sample_text("orders.sql")}, .program = ground.program});
    MeasuredWorker worker(workspace.start_worker("worker", {}));
    worker.await_start();
    TaskWriters::Options options{.session = workspace.session_options(),
                                 .topic = workspace.topic(),
                                 .tasks_per_second = kSustained / 4,
                                 .tasks_per_transaction = kTasksPerTransaction,
                                 .writer_count = 3,
                                 .duration = std::chrono::seconds(5)};
    say("warm-up of the chain");
    sustain(ground, workspace, worker, options);
    options.first_number = 1'000'000;
    options.tasks_per_second = kSustained;
    options.duration = kSustainedFor;
    BenchRow row = sustain(ground, workspace, worker, options);
    worker.stop();
    return row;
}

}  // namespace

void run_chain(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Rounds rounds(emit);
    for (int round = 1; round <= options.round_count; ++round) {
        const LatencyOptions what{.duration = std::chrono::seconds(options.seconds)};
        rounds.add(row_of("end to end, 1,000/s", measure_end_to_end(ground, what)));
        rounds.add(measure_sustained(ground));
    }
    rounds.finish();
}

}  // namespace millrace::bench
