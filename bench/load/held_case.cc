#include "app/bench/latency.h"
#include "app/bench/task_writers.h"
#include "app/table.h"
#include "bench/load/cases.h"
#include "core/failure.h"

namespace millrace::bench {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kFloodFor{10};
// Above what any machine reaches: the writers never pause.
constexpr double kUnreachablePerSecond = 400'000;
constexpr int kFloodTransaction = 500;
constexpr double kMeanwhilePerSecond = 2000;
constexpr seconds kPatience{120};
constexpr milliseconds kLookEvery{20};

// Writers without pause, and what the relay did beside them.
struct Flood {
    int64_t task_count = 0;
    double seconds = 0;
    Cpu cpu;
    double transaction_count = 0;
    double resident_mebibytes = 0;

    double rate() const { return static_cast<double>(task_count) / seconds; }
};

BenchRow row_of(const std::string& name, const Flood& flood) {
    BenchRow row{.measure = name + ", writers without pause",
                 .figures = {{"tasks/s", rounded(flood.rate(), 0)}}};
    append_cpu(row, flood.cpu, flood.task_count, "task");
    row.figures.emplace_back("transactions/s", rounded(flood.transaction_count / flood.seconds, 0));
    row.figures.emplace_back("worker MiB", rounded(flood.resident_mebibytes, 0));
    return row;
}

// One relay, and what goes through it before and while something is held open.
class HeldRun {
  public:
    HeldRun(const BenchGround& ground, const CaseOptions& options)
        : ground_(ground),
          options_(options),
          workspace_(ground.config, {.projections = {}, .program = ground.program}),
          worker_(workspace_.start_worker("relay", {})),
          session_(workspace_.session_options()),
          cpu_(ground, session_) {
        worker_.await_start();
    }

    void run(const std::string& name, const std::vector<std::string>& opening, const Emit& emit) {
        flood(kFloodFor);  // Warm-up.
        const Flood before = flood(kFloodFor);
        const LatencyResult quick = latency();
        pg::Session holder(workspace_.session_options());
        // Ours end such a session after 20 s.
        holder.execute("SET idle_in_transaction_session_timeout = 0");
        for (const std::string& sql : opening) holder.execute(sql);
        const Clock::time_point held_at = Clock::now();
        // What it left in the outbox can't be published while it is open.
        say(name + ": passing " + with_commas(options_.task_count) + " tasks");
        for (const int64_t begin = committed_count_;
             committed_count_ - begin < options_.task_count;) {
            flood(kFloodFor);
        }
        say(name + ": going on until " + std::to_string(options_.hold_seconds) + " s are over");
        const auto left = seconds(options_.hold_seconds) - (Clock::now() - held_at);
        if (left > seconds(1)) {
            write({.tasks_per_second = kMeanwhilePerSecond,
                   .tasks_per_transaction = 10,
                   .duration = std::chrono::duration_cast<milliseconds>(left)});
        }
        const LatencyResult slow = latency();
        const Flood after = flood(kFloodFor);
        const int64_t dead_count = session_
                                       .execute(
                                           "SELECT n_dead_tup FROM pg_stat_user_tables "
                                           "WHERE relid = 'millrace.pending_tasks'::regclass")
                                       .integer(0, 0);
        const auto held = std::chrono::duration_cast<seconds>(Clock::now() - held_at).count();
        holder.execute("COMMIT");
        await_empty();
        worker_.stop();
        const std::string begin = name + ": before";
        const std::string end = name + ": at the end";
        emit(row_of(begin, before));
        emit(row_of(end, after));
        emit(row_of(begin + ", 1,000/s", quick));
        emit(row_of(end + ", 1,000/s", slow));
        const double kept = after.rate() / before.rate() * 100;
        emit({.measure = name,
              .figures = {{"of the clean throughput %", rounded(kept, 0)},
                          {"held s", held},
                          {"n_dead_tup", dead_count}}});
    }

    const std::string& topic() const { return workspace_.topic(); }

  private:
    // Writers as quick as they can, until the relay has published what they wrote.
    Flood flood(seconds duration) {
        const double published = worker_.published_count();
        const double transactions = worker_.transaction_count();
        const Cpu before = cpu_.now(worker_);
        const Clock::time_point begin = Clock::now();
        const int64_t count = write({.tasks_per_second = kUnreachablePerSecond,
                                     .tasks_per_transaction = kFloodTransaction,
                                     .writer_count = 3,
                                     .duration = duration});
        Progressing draining("drain");
        while (worker_.published_count() < published + static_cast<double>(count)) {
            ground_.pause(kLookEvery);
            worker_.check();
            draining.show(with_commas(static_cast<int64_t>(worker_.published_count())));
            if (Clock::now() - begin > duration + kPatience) {
                throw fatal("bench_unsound", "the relay did not come to the end of the outbox");
            }
        }
        return {.task_count = count,
                .seconds = std::chrono::duration<double>(Clock::now() - begin).count(),
                .cpu = cpu_.now(worker_) - before,
                .transaction_count = worker_.transaction_count() - transactions,
                .resident_mebibytes = worker_.resident()};
    }

    int64_t write(TaskWriters::Options options) {
        options.session = workspace_.session_options();
        options.topic = workspace_.topic();
        options.first_number = next_number_;
        TaskWriters writers(options);
        Progressing writing("writing");
        const Clock::time_point end = writers.began_at() + options.duration;
        while (Clock::now() < end && !writers.is_done()) {
            ground_.pause(kLookEvery);
            writing.show(with_commas(writers.committed_count()));
        }
        writers.stop();
        next_number_ += writers.task_count();
        committed_count_ += writers.committed_count();
        return writers.committed_count();
    }

    LatencyResult latency() {
        LatencyResult result = measure_latency(
            ground_, workspace_, worker_,
            {.duration = seconds(options_.seconds), .first_number = next_number_});
        next_number_ = result.next_number;
        return result;
    }

    // What the held transaction had inserted comes out at last.
    void await_empty() {
        const Clock::time_point limit = Clock::now() + kPatience;
        while (
            session_.execute("SELECT EXISTS (SELECT FROM millrace.pending_tasks)").boolean(0, 0)) {
            ground_.pause(kLookEvery);
            if (Clock::now() > limit) throw fatal("bench_unsound", "a task stays in the outbox");
        }
    }

    const BenchGround& ground_;
    const CaseOptions& options_;
    Workspace workspace_;
    MeasuredWorker worker_;
    pg::Session session_;
    const CpuWatch cpu_;
    int64_t next_number_ = 0;
    int64_t committed_count_ = 0;  // By the writers without pause and those of meanwhile.
};

}  // namespace

void run_held(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    {
        HeldRun snapshot(ground, options);
        snapshot.run("behind a held snapshot",
                     {"BEGIN ISOLATION LEVEL REPEATABLE READ",
                      "SELECT count(*) FROM millrace.installation"},
                     emit);
    }
    HeldRun writer(ground, options);
    writer.run("behind an open writer",
               {"BEGIN",
                "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
                "VALUES ('" +
                    writer.topic() + "', 'held', 'Held', '{}')"},
               emit);
}

}  // namespace millrace::bench
