#include "app/bench/latency.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <vector>

#include "app/bench/count_watch.h"
#include "app/bench/task_text.h"
#include "app/bench/task_writers.h"
#include "app/bench/topic_reader.h"
#include "app/scratch/samples.h"
#include "app/table.h"
#include "core/failure.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Caches, plans and the broker's compiler get that long.
constexpr std::chrono::seconds kWarmUp{3};
constexpr std::chrono::seconds kPatience{30};
constexpr milliseconds kLookEvery{20};
// A prime above all numbers: each task has a key of its own.
constexpr int64_t kAllKeys = 999'999'937;

double milliseconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
}

TaskWriters::Options writer_options(const Workspace& workspace, const LatencyOptions& options) {
    return {.session = workspace.session_options(),
            .topic = workspace.topic(),
            .tasks_per_second = options.tasks_per_second,
            .tasks_per_transaction = options.tasks_per_transaction,
            .duration = options.duration,
            .insert = options.insert};
}

// The numbers of a measurement's tasks: those of the warm-up come first.
struct Numbers {
    int64_t first = 0;
    int64_t measured = 0;
    int64_t end = 0;
};

Numbers numbers_of(const LatencyOptions& options) {
    const auto count = [&options](std::chrono::seconds duration) {
        const auto tasks =
            static_cast<int64_t>(options.tasks_per_second * static_cast<double>(duration.count()));
        return tasks - tasks % options.tasks_per_transaction;
    };
    const int64_t measured = options.first_number + count(kWarmUp);
    return {.first = options.first_number,
            .measured = measured,
            .end = measured + count(options.duration)};
}

// Filled by a reader's thread or a polling one: when each number was seen first.
class Sightings {
  public:
    explicit Sightings(const Numbers& numbers)
        : first_(numbers.first), at_(static_cast<size_t>(numbers.end - numbers.first)) {}

    void note(int64_t number, Clock::time_point at) {
        ++noted_count_;
        if (number < first_ || index_of(number) >= at_.size()) return;
        Clock::rep none = 0;
        if (at_[index_of(number)].compare_exchange_strong(none, at.time_since_epoch().count())) {
            ++count_;
        }
    }
    int64_t count() const { return count_.load(); }
    // With those that are none of the measurement's.
    int64_t noted_count() const { return noted_count_.load(); }
    Clock::time_point at(int64_t number) const {
        return Clock::time_point(Clock::duration(at_[index_of(number)].load()));
    }

  private:
    size_t index_of(int64_t number) const { return static_cast<size_t>(number - first_); }

    const int64_t first_;
    std::vector<std::atomic<Clock::rep>> at_;
    std::atomic<int64_t> count_{0};
    std::atomic<int64_t> noted_count_{0};
};

LatencyResult result_of(const TaskWriters& writers, const Sightings& sightings,
                        const Numbers& numbers) {
    std::vector<double> samples;
    Clock::time_point last = writers.began_at();
    for (int64_t n = numbers.measured; n < numbers.end; ++n) {
        const auto committed = writers.committed_at(n);
        if (!committed) throw fatal("bench_unsound", "a writer did not commit all its tasks");
        last = std::max(last, *committed);
        samples.push_back(milliseconds_between(*committed, sightings.at(n)));
    }
    LatencyResult result;
    result.task_count = static_cast<int64_t>(samples.size());
    result.next_number = numbers.end;
    result.milliseconds = percentiles(std::move(samples));
    result.seconds = std::chrono::duration<double>(last - writers.began_at()).count();
    result.achieved_per_second = static_cast<double>(result.task_count) / result.seconds;
    result.writer_delay_ms = milliseconds_between({}, Clock::time_point(writers.delay_max()));
    return result;
}

// What is written, and where it is seen.
struct OpenLoop {
    TaskWriters::Options writers;  // Of the measurement, but for its first number.
    Numbers numbers;
    const Sightings& sightings;
};

// How many tasks must be seen, and what that is called.
struct Goal {
    std::string name;
    int64_t count = 0;
};

template <typename Look>
void await_all(const Measurement& measurement, const Sightings& sightings, const Goal& goal,
               Look look) {
    Progressing progress(goal.name);
    const auto seen = [&] {
        return with_commas(sightings.count()) + " of " + with_commas(goal.count) + " tasks";
    };
    CountWatch noted(kPatience, [&seen] { return "only " + seen() + " were seen"; });
    while (sightings.count() < goal.count) {
        measurement.ground.check_stop();
        measurement.worker.check();
        look();
        noted.note(sightings.noted_count());
        progress.show(seen() + " seen");
    }
}

// Warm-up and measurement of what runs; `look` is called while waiting, with the writers of the
// moment.
template <typename Look>
LatencyResult run_writers(const Measurement& measurement, const OpenLoop& loop, Look look) {
    const Numbers& numbers = loop.numbers;
    TaskWriters::Options warm = loop.writers;
    warm.first_number = numbers.first;
    warm.duration = kWarmUp;
    {
        TaskWriters writers(warm);
        await_all(measurement, loop.sightings,
                  {.name = "warm-up", .count = numbers.measured - numbers.first},
                  [&] { look(writers); });
        writers.join();
    }
    TaskWriters::Options measured = loop.writers;
    measured.first_number = numbers.measured;
    const Cpu before = measurement.cpu.now(measurement.worker);
    const double transactions = measurement.worker.transaction_count();
    TaskWriters writers(measured);
    await_all(measurement, loop.sightings,
              {.name = "open loop", .count = numbers.end - numbers.first},
              [&] { look(writers); });
    writers.join();
    const Cpu after = measurement.cpu.now(measurement.worker);
    LatencyResult result = result_of(writers, loop.sightings, numbers);
    result.cpu = after - before;
    result.resident_mebibytes = measurement.worker.resident();
    result.transactions_per_second =
        (measurement.worker.transaction_count() - transactions) / result.seconds;
    return result;
}

// Asks for the rows of tasks that are committed and were not seen yet.
class RowWatch {
  public:
    RowWatch(pg::SessionOptions options, Sightings& sightings, const Numbers& numbers)
        : session_(std::move(options)),
          sightings_(sightings),
          next_(numbers.first),
          end_(numbers.end),
          is_taken_(static_cast<size_t>(numbers.end)) {
        session_.prepare("look",
                         "SELECT order_id FROM read_models.orders "
                         "WHERE order_id = ANY ($1::text[])");
    }

    void look(const TaskWriters& writers) {
        // Numbers are committed nearly in order.
        while (next_ < end_ && is_taken_[static_cast<size_t>(next_)]) ++next_;
        for (int64_t n = next_; n < std::min(next_ + kWindow, end_); ++n) {
            if (is_taken_[static_cast<size_t>(n)] || !writers.committed_at(n)) continue;
            is_taken_[static_cast<size_t>(n)] = true;
            outstanding_.insert(n);
        }
        if (outstanding_.empty()) return;
        pg::ArrayBuilder keys(pg::Type::kText);
        std::vector<std::pair<std::string, int64_t>> asked;
        for (const int64_t n : outstanding_) {
            asked.emplace_back(bench_key(n, kAllKeys), n);
            keys.add_bytes(asked.back().first);
        }
        const pg::Result rows = session_.execute_prepared("look", pg::Params().array(keys));
        const Clock::time_point now = Clock::now();
        std::set<std::string_view> found;
        for (int i = 0; i < rows.row_count(); ++i) found.insert(rows.bytes(i, 0));
        for (const auto& [key, n] : asked) {
            if (!found.contains(key)) continue;
            sightings_.note(n, now);
            outstanding_.erase(n);
        }
    }

  private:
    static constexpr int64_t kWindow = 1000;

    pg::Session session_;
    Sightings& sightings_;
    int64_t next_;
    const int64_t end_;
    std::vector<bool> is_taken_;
    std::set<int64_t> outstanding_;
};

}  // namespace

LatencyResult measure_latency(const BenchGround& ground, const LatencyOptions& options) {
    Workspace workspace(ground.config,
                        {.projections = options.projections, .program = ground.program});
    MeasuredWorker worker(workspace.start_worker("relay", options.values));
    worker.await_start();
    LatencyResult result = measure_latency(ground, workspace, worker, options);
    worker.stop();
    return result;
}

LatencyResult measure_latency(const BenchGround& ground, Workspace& workspace,
                              MeasuredWorker& worker, const LatencyOptions& options) {
    const Numbers numbers = numbers_of(options);
    Sightings sightings(numbers);
    TopicReader reader(
        workspace.kafka_options(), workspace.topic(), workspace.partition_count(),
        workspace.reaper(), [&sightings](const rd_kafka_message_t& record, Clock::time_point at) {
            sightings.note(bench_number({static_cast<const char*>(record.payload), record.len}),
                           at);
        });
    pg::Session session(workspace.session_options());
    const CpuWatch cpu(ground, session);
    if (options.before) options.before(worker, cpu);
    return run_writers(
        {.ground = ground, .workspace = workspace, .worker = worker, .cpu = cpu},
        {.writers = writer_options(workspace, options), .numbers = numbers, .sightings = sightings},
        [&](const TaskWriters&) {
            reader.check();
            ground.pause(kLookEvery);
        });
}

LatencyResult measure_end_to_end(const BenchGround& ground, const LatencyOptions& options) {
    Workspace workspace(ground.config,
                        {.projections = {sample_text("orders.sql")}, .program = ground.program});
    const Numbers numbers = numbers_of(options);
    Sightings sightings(numbers);
    MeasuredWorker worker(workspace.start_worker("worker", options.values));
    worker.await_start();
    pg::Session session(workspace.session_options());
    const CpuWatch cpu(ground, session);
    RowWatch watch(workspace.session_options(), sightings, numbers);
    TaskWriters::Options writers = writer_options(workspace, options);
    writers.key_count = kAllKeys;
    LatencyResult result =
        run_writers({.ground = ground, .workspace = workspace, .worker = worker, .cpu = cpu},
                    {.writers = writers, .numbers = numbers, .sightings = sightings},
                    [&](const TaskWriters& current) {
                        watch.look(current);
                        ground.pause(milliseconds(1));
                    });
    worker.stop();
    return result;
}

BenchRow row_of(const std::string& measure, const LatencyResult& result) {
    BenchRow row{.measure = measure,
                 .figures = {{"p50 ms", rounded(result.milliseconds.p50, 2)},
                             {"p99 ms", rounded(result.milliseconds.p99, 2)},
                             {"p99.9 ms", rounded(result.milliseconds.p999, 2)},
                             {"max ms", rounded(result.milliseconds.max, 1)},
                             {"tasks/s", rounded(result.achieved_per_second, 0)}}};
    append_cpu(row, result.cpu, result.task_count, "task");
    row.figures.emplace_back("transactions/s", figure_or_none(result.transactions_per_second, 0));
    row.figures.emplace_back("worker MiB", rounded(result.resident_mebibytes, 0));
    row.figures.emplace_back("writers' delay ms", rounded(result.writer_delay_ms, 1));
    return row;
}

}  // namespace millrace
