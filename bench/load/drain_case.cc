#include "app/bench/drain.h"
#include "app/bench/preload.h"
#include "app/table.h"
#include "bench/load/cases.h"
#include "bench/load/rounds.h"
#include "bench/load/textbook_relay.h"

namespace millrace::bench {

namespace {

// One that is slower is written badly, or the machine is busy: no comparison with it is fair.
constexpr double kTextbookLeast = 100'000;
const std::string kTextbook = "drain, textbook relay";

DrainResult drain_textbook(const BenchGround& ground, int64_t task_count) {
    Workspace workspace(ground.config, {.projections = {}, .program = "/proc/self/exe"});
    pg::Session session(workspace.session_options());
    create_textbook_outbox(session);
    Progressing loading("preload of " + with_commas(task_count) + " textbook tasks");
    preload({.session = workspace.session_options(),
             .table = "textbook_outbox",
             .insert = textbook_preload(),
             .task_count = task_count,
             .on_progress = [&loading](int64_t done) { loading.show(with_commas(done)); }},
            ground.stop);
    ground.check_stop();
    const CpuWatch cpu(ground, session);
    const auto is_empty = [&session] {
        return !session.execute("SELECT EXISTS (SELECT FROM textbook_outbox WHERE status = 'new')")
                    .boolean(0, 0);
    };
    MeasuredWorker relay = start_textbook_relay(workspace);
    const DrainResult result =
        watch_drain({.ground = ground, .workspace = workspace, .worker = relay, .cpu = cpu},
                    task_count, is_empty);
    relay.stop();
    check_topic(ground, workspace, task_count);
    return result;
}

}  // namespace

void run_drain(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Rounds rounds(emit);
    for (int round = 1; round <= options.round_count; ++round) {
        for (int publishers = 1; publishers <= 3; ++publishers) {
            const std::string count = std::to_string(publishers);
            rounds.add(row_of(
                "drain, " + count + (publishers == 1 ? " publisher" : " publishers"),
                measure_drain(ground, options.task_count, {{"relay.publishers", count}}),
                options.task_count));
        }
        rounds.add(
            row_of(kTextbook, drain_textbook(ground, options.task_count), options.task_count));
    }
    rounds.finish();
    if (rounds.median_of(kTextbook) < kTextbookLeast) {
        say("VOID: the textbook relay drained fewer than " +
            with_commas(static_cast<int64_t>(kTextbookLeast)) +
            " tasks/s: the machine was busy or slow, or the baseline is written badly");
    }
}

}  // namespace millrace::bench
