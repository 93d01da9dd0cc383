#include "app/bench/drain.h"

#include <atomic>
#include <vector>

#include "app/bench/count_watch.h"
#include "app/bench/log_end.h"
#include "app/bench/preload.h"
#include "app/bench/task_text.h"
#include "app/bench/topic_reader.h"
#include "app/table.h"
#include "core/failure.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLookEvery{10};
constexpr milliseconds kQuiet{500};
constexpr std::chrono::seconds kPatience{60};

}  // namespace

DrainResult measure_drain(const BenchGround& ground, int64_t task_count,
                          const Workspace::Values& values) {
    Workspace workspace(ground.config, {.projections = {}, .program = ground.program});
    Progressing loading("preload of " + with_commas(task_count) + " tasks");
    preload({.session = workspace.session_options(),
             .insert = outbox_insert(workspace.topic()),
             .task_count = task_count,
             .on_progress = [&loading](int64_t done) { loading.show(with_commas(done)); }},
            ground.stop);
    ground.check_stop();
    pg::Session session(workspace.session_options());
    const CpuWatch cpu(ground, session);
    const auto is_empty = [&session] {
        return !session.execute("SELECT EXISTS (SELECT FROM millrace.pending_tasks)").boolean(0, 0);
    };
    MeasuredWorker worker(workspace.start_worker("relay", values));
    DrainResult result =
        watch_drain({.ground = ground, .workspace = workspace, .worker = worker, .cpu = cpu},
                    task_count, is_empty);
    result.transactions_per_second = worker.transaction_count() / result.seconds;
    worker.stop();
    check_topic(ground, workspace, task_count);
    return result;
}

DrainResult watch_drain(const Measurement& measurement, int64_t task_count,
                        const std::function<bool()>& is_outbox_empty) {
    MeasuredWorker& worker = measurement.worker;
    Workspace& workspace = measurement.workspace;
    const Cpu before = measurement.cpu.before_start_of(worker);
    LogEnd end(workspace.kafka_options(), workspace.topic(), workspace.partition_count(),
               workspace.reaper());
    Progressing draining("drain of " + with_commas(task_count) + " tasks");
    CountWatch published(kPatience, [&worker] {
        return "nothing was published for a minute by " + worker.child().name() + "; " +
               worker.child().end_of_log();
    });
    DrainResult result;
    const auto is_over = [&] {
        return published.count() >= task_count && Clock::now() - published.moved_at() > kQuiet &&
               is_outbox_empty();
    };
    while (!is_over()) {
        measurement.ground.pause(kLookEvery);
        worker.check();
        if (published.note(end.sum())) {
            result.cpu = measurement.cpu.now(worker) - before;
            result.resident_mebibytes = worker.resident();
        }
        draining.show(with_commas(published.count()));
    }
    result.seconds = published.seconds();
    result.rate = static_cast<double>(task_count) / result.seconds;
    return result;
}

void check_topic(const BenchGround& ground, Workspace& workspace, int64_t task_count) {
    std::vector<bool> is_seen(static_cast<size_t>(task_count));
    std::atomic<int64_t> record_count{0};
    std::atomic<int64_t> odd_count{0};
    Progressing reading("reading them back");
    TopicReader reader(
        workspace.kafka_options(), workspace.topic(), workspace.partition_count(),
        workspace.reaper(), [&](const rd_kafka_message_t& record, TopicReader::Clock::time_point) {
            const int64_t n = bench_number({static_cast<const char*>(record.payload), record.len});
            if (n < 0 || n >= task_count || is_seen[static_cast<size_t>(n)]) {
                ++odd_count;
            } else {
                is_seen[static_cast<size_t>(n)] = true;
            }
            ++record_count;
        });
    const Clock::time_point deadline = Clock::now() + kPatience;
    while (record_count < task_count && Clock::now() < deadline) {
        reader.check();
        reading.show(with_commas(record_count));
        ground.pause(kLookEvery);
    }
    // What came twice comes behind.
    ground.pause(kQuiet);
    reader.stop();
    if (record_count == task_count && odd_count == 0) return;
    throw fatal("bench_unsound", "the topic holds " + with_commas(record_count) + " records of " +
                                     with_commas(task_count) + " tasks, " + with_commas(odd_count) +
                                     " of them doubled or foreign");
}

BenchRow row_of(const std::string& measure, const DrainResult& result, int64_t task_count) {
    BenchRow row{.measure = measure,
                 .figures = {{"tasks/s", rounded(result.rate, 0)},
                             {"seconds", rounded(result.seconds, 2)}}};
    append_cpu(row, result.cpu, task_count, "task");
    row.figures.emplace_back("transactions/s", figure_or_none(result.transactions_per_second, 0));
    row.figures.emplace_back("worker MiB", rounded(result.resident_mebibytes, 0));
    return row;
}

}  // namespace millrace
