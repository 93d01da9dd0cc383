#include "app/bench/projection.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "app/bench/count_watch.h"
#include "app/bench/task_text.h"
#include "app/scratch/samples.h"
#include "app/table.h"
#include "core/failure.h"
#include "core/kafka/admin.h"
#include "core/kafka/producer.h"
#include "relay/message.h"

namespace millrace {

namespace {

constexpr int64_t kTransactionEvents = 2000;
constexpr std::chrono::seconds kInitTimeout{30};
constexpr std::chrono::milliseconds kLookEvery{10};
constexpr std::chrono::seconds kPatience{60};
constexpr std::string_view kApplied = "millrace_projection_events_applied_total{";

void make_negative(std::string& payload) {
    constexpr std::string_view kAmount = "\"amount_cents\":";
    payload.insert(payload.find(kAmount) + kAmount.size(), "-");
}

// Its order is its own, so that nothing waits behind it.
void poison(int64_t n, std::string& key, std::string& payload) {
    const std::string order = key;
    key = "p-" + std::to_string(n);
    payload.replace(payload.find(order), order.size(), key);
    make_negative(payload);
}

}  // namespace

void feed_topic(const BenchGround& ground, Workspace& workspace, const FeedOptions& options) {
    const int64_t event_count = options.event_count;
    kafka::Producer producer(workspace.kafka_options(), workspace.topic() + ".feed",
                             workspace.reaper());
    producer.init(kInitTimeout);
    producer.warm_up({workspace.topic()}, std::chrono::seconds(5));
    MessageWriter writer(MessageFormat::kPayload,
                         "0123abcd.0." + std::to_string(options.generation) + ".");
    std::vector<int64_t> last_n(static_cast<size_t>(workspace.partition_count()));
    Progressing feeding("writing " + with_commas(event_count) + " events");
    const bool is_paced = options.events_per_second > 0;
    const int64_t size =
        is_paced ? std::max<int64_t>(1, options.events_per_second / 50) : kTransactionEvents;
    const auto began_at = std::chrono::steady_clock::now();
    int64_t good_count = 0;
    for (int64_t first = 0; first < event_count; first += size) {
        ground.check_stop();
        if (is_paced) {
            const std::chrono::microseconds due(first * 1'000'000 / options.events_per_second);
            std::this_thread::sleep_until(began_at + due);
        }
        producer.begin();
        const int64_t end = std::min(first + size, event_count);
        for (int64_t n = first; n < end; ++n) {
            std::string key = bench_key(n, options.key_count);
            std::string payload = bench_payload(n, options.key_count);
            if (options.poison_every > 0 && n % options.poison_every == 0) {
                poison(n, key, payload);
            } else if (options.begins_keys_with_poison && n < options.key_count) {
                make_negative(payload);
            } else {
                ++good_count;
            }
            const int32_t partition = kafka::partition_of(key, workspace.partition_count());
            Task task;
            task.event_id = Uuid::random();
            task.topic = workspace.topic();
            task.key = key;
            task.task_type = kBenchTaskType;
            task.payload = payload;
            producer.produce(
                writer.record(task, partition, ++last_n[static_cast<size_t>(partition)]));
        }
        producer.flush();
        producer.commit();
        if (options.on_commit) options.on_commit(good_count);
        feeding.show(with_commas(end));
    }
}

ProjectionResult measure_projection(const BenchGround& ground, int64_t event_count,
                                    const Workspace::Values& values) {
    Workspace workspace(ground.config,
                        {.projections = {sample_text("orders.sql")}, .program = ground.program});
    feed_topic(ground, workspace, {.event_count = event_count});
    pg::Session session(workspace.session_options());
    const CpuWatch watch(ground, session);
    Workspace::Values all{{"relay.enabled", "false"}};
    all.insert(all.end(), values.begin(), values.end());
    MeasuredWorker worker(workspace.start_worker("worker", all));
    const Cpu before = watch.before_start_of(worker);
    Progressing applying("applying " + with_commas(event_count) + " events");
    CountWatch applied(kPatience, [] { return "no event was applied for a minute"; });
    while (applied.count() < event_count) {
        ground.pause(kLookEvery);
        worker.check();
        applied.note(static_cast<int64_t>(worker.metric(std::string(kApplied))));
        applying.show(with_commas(applied.count()));
    }
    ProjectionResult result;
    result.cpu = watch.now(worker) - before;
    result.resident_mebibytes = worker.resident();
    result.seconds = applied.seconds();
    result.rate = static_cast<double>(event_count) / result.seconds;
    worker.stop();
    const int64_t counted =
        session.execute("SELECT sum(events)::bigint FROM read_models.orders").integer(0, 0);
    if (counted != event_count) {
        throw fatal("bench_unsound", "the read model counts " + with_commas(counted) +
                                         " events of " + with_commas(event_count));
    }
    return result;
}

BenchRow row_of(const std::string& measure, const ProjectionResult& result, int64_t event_count) {
    BenchRow row{.measure = measure,
                 .figures = {{"events/s", rounded(result.rate, 0)},
                             {"seconds", rounded(result.seconds, 2)}}};
    append_cpu(row, result.cpu, event_count, "event");
    row.figures.emplace_back("worker MiB", rounded(result.resident_mebibytes, 0));
    return row;
}

}  // namespace millrace
