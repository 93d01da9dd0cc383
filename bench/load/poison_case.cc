// What poisoned events cost the others, and the way back.

#include <array>

#include "app/bench/count_watch.h"
#include "app/bench/projection.h"
#include "app/scratch/samples.h"
#include "app/table.h"
#include "bench/load/cases.h"
#include "bench/load/rounds.h"
#include "core/failure.h"

namespace millrace::bench {

namespace {

constexpr std::chrono::milliseconds kLookEvery{20};
constexpr std::chrono::seconds kPatience{60};
constexpr std::string_view kApplied = "millrace_projection_events_applied_total{";
constexpr std::string_view kParts = "millrace_projection_bisection_parts_total{";

struct PoisonShare {
    const char* name;
    int64_t every;
};
constexpr std::array<PoisonShare, 4> kShares{
    {{"0 %", 0}, {"0.1 %", 1000}, {"1 %", 100}, {"5 %", 20}}};

int64_t number(pg::Session& session, std::string_view sql) {
    return session.execute(sql).integer(0, 0);
}

// By the program as an operator runs it: its start counts.
BenchRow redrive(const BenchGround& ground, Workspace& workspace, pg::Session& session,
                 int64_t letter_count) {
    session.execute("ALTER TABLE bench_1_v1.orders DROP CONSTRAINT not_negative");
    const auto begin = std::chrono::steady_clock::now();
    Child command = workspace.start_program(
        "redrive",
        {"dlq", "redrive", "--config", workspace.write_config("redrive", {}).string()});
    while (!command.exit_status()) ground.pause(kLookEvery);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (*command.exit_status() != 0 ||
        number(session, "SELECT count(*) FROM millrace.dead_letters") != 0) {
        throw fatal("bench_unsound", "the re-drive left letters" + command.end_of_log());
    }
    return {.measure = "re-drive",
            .figures = {{"letters/s", rounded(static_cast<double>(letter_count) / seconds, 0)},
                        {"seconds", rounded(seconds, 2)},
                        {"letters", rounded(static_cast<double>(letter_count), 0)}}};
}

void measure(const BenchGround& ground, const PoisonShare& share, int64_t event_count,
             Rounds& rounds) {
    Workspace workspace(ground.config,
                        {.projections = {sample_text("orders.sql")}, .program = ground.program});
    feed_topic(ground, workspace, {.event_count = event_count, .poison_every = share.every});
    pg::Session session(workspace.session_options());
    session.execute("ALTER TABLE bench_1_v1.orders ADD CONSTRAINT not_negative "
                    "CHECK (amount_cents >= 0)");
    const int64_t letter_count =
        share.every == 0 ? 0 : (event_count + share.every - 1) / share.every;
    const CpuWatch watch(ground, session);
    MeasuredWorker worker(
        workspace.start_worker("worker", {{"relay.enabled", "false"},
                                          {"projections.dlq_topics", "false"},
                                          {"projections.storm.share", "1"},
                                          {"projections.caps.letters", "1000000"}}));
    const Cpu before = watch.before_start_of(worker);
    Progressing applying("applying with " + std::string(share.name) + " of poison");
    CountWatch applied(kPatience, [] { return "no event was applied for a minute"; });
    while (applied.count() < event_count - letter_count) {
        ground.pause(kLookEvery);
        worker.check();
        applied.note(static_cast<int64_t>(worker.metric(std::string(kApplied))));
        applying.show(with_commas(applied.count()));
    }
    const double rate = static_cast<double>(event_count) / applied.seconds();
    BenchRow row{.measure = "poison " + std::string(share.name),
                 .figures = {{"events/s", rounded(rate, 0)},
                             {"seconds", rounded(applied.seconds(), 2)},
                             {"letters", rounded(static_cast<double>(letter_count), 0)},
                             {"parts", rounded(worker.metric(std::string(kParts)), 0)}}};
    append_cpu(row, watch.now(worker) - before, event_count, "event");
    worker.stop();
    if (number(session, "SELECT count(*) FROM millrace.dead_letters") != letter_count ||
        number(session, "SELECT sum(events)::bigint FROM read_models.orders") !=
            event_count - letter_count) {
        throw fatal("bench_unsound", "letters and read model do not add up");
    }
    rounds.add(row);
    if (share.every == 100) rounds.add(redrive(ground, workspace, session, letter_count));
}

}  // namespace

void run_poison(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Rounds rounds(emit);
    for (int round = 1; round <= options.round_count; ++round) {
        for (const PoisonShare& share : kShares) {
            measure(ground, share, options.task_count, rounds);
        }
    }
    rounds.finish();
}

}  // namespace millrace::bench
