#include "app/bench/count_watch.h"
#include "app/bench/projection.h"
#include "app/table.h"
#include "bench/load/cases.h"
#include "bench/load/rounds.h"
#include "bench/load/textbook_consumer.h"

namespace millrace::bench {

namespace {

// A tenth: it takes as long as the whole does by a worker.
constexpr int64_t kTextbookShare = 10;
constexpr std::chrono::milliseconds kLookEvery{100};
constexpr std::chrono::seconds kPatience{60};

ProjectionResult consume_textbook(const BenchGround& ground, int64_t event_count) {
    Workspace workspace(ground.config, {.projections = {}, .program = "/proc/self/exe"});
    feed_topic(ground, workspace, {.event_count = event_count});
    pg::Session session(workspace.session_options());
    create_textbook_orders(session);
    const CpuWatch watch(ground, session);
    MeasuredWorker consumer(workspace.start_program(
        "textbook", {"textbook-consumer", workspace.session_options().url,
                     workspace.kafka_options().brokers, workspace.topic()}));
    const Cpu before = watch.before_start_of(consumer);
    Progressing consuming("textbook consumer of " + with_commas(event_count) + " events");
    CountWatch consumed(kPatience, [] { return "no event was consumed for a minute"; });
    while (consumed.count() < event_count) {
        ground.pause(kLookEvery);
        consumer.check();
        consumed.note(
            session.execute("SELECT coalesce(sum(events), 0)::bigint FROM textbook_orders")
                .integer(0, 0));
        consuming.show(with_commas(consumed.count()));
    }
    ProjectionResult result;
    result.seconds = consumed.seconds();
    result.rate = static_cast<double>(event_count) / result.seconds;
    result.cpu = watch.now(consumer) - before;
    result.resident_mebibytes = consumer.resident();
    return result;
}

}  // namespace

void run_projection(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Rounds rounds(emit);
    for (int round = 1; round <= options.round_count; ++round) {
        rounds.add(row_of("Kafka to read model", measure_projection(ground, options.task_count, {}),
                          options.task_count));
        const int64_t few = options.task_count / kTextbookShare;
        rounds.add(row_of("textbook consumer", consume_textbook(ground, few), few));
    }
    rounds.finish();
}

}  // namespace millrace::bench
