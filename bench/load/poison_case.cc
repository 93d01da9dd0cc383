// What poisoned events cost the others, and the way back.

#include <array>
#include <atomic>
#include <future>

#include "app/bench/count_watch.h"
#include "app/bench/projection.h"
#include "app/scratch/samples.h"
#include "app/table.h"
#include "bench/load/cases.h"
#include "bench/load/lag_watch.h"
#include "bench/load/rounds.h"
#include "core/failure.h"

namespace millrace::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLookEvery{20};
constexpr std::chrono::milliseconds kLagLookEvery{10};
constexpr std::chrono::seconds kPatience{60};
constexpr const char* kApplied = "millrace_projection_events_applied_total{";
constexpr const char* kLetters = "millrace_projection_dead_letters_total{";
constexpr const char* kParked = "millrace_projection_parked_events_total{";
constexpr const char* kParts = "millrace_projection_bisection_parts_total{";

struct PoisonShare {
    const char* name;
    int64_t every;
};
constexpr std::array<PoisonShare, 4> kShares{
    {{"0 %", 0}, {"0.1 %", 1000}, {"1 %", 100}, {"5 %", 20}}};

// Each event by itself is what a consumer does that has no bisection, once a batch has failed; it
// takes as long for a twentieth as the whole does in batches.
constexpr int64_t kOneByOneShare = 20;
constexpr int64_t kPacedRate = 5000;
constexpr int64_t kFirstEvents = 50'000;  // Not measured: the group forms, plans are made.
constexpr int64_t kParkedKeys = 1000;

// The workspace of one measurement: the sample `orders` with a constraint that poison violates, and
// a worker that no limit keeps from going on.
class PoisonedOrders {
  public:
    explicit PoisonedOrders(const BenchGround& ground)
        : ground_(ground),
          workspace_(ground.config,
                     {.projections = {sample_text("orders.sql")}, .program = ground.program}),
          session_(workspace_.session_options()) {
        session_.execute("ALTER TABLE bench_1_v1.orders ADD CONSTRAINT not_negative "
                         "CHECK (amount_cents >= 0)");
    }

    Workspace& workspace() { return workspace_; }
    pg::Session& session() { return session_; }

    MeasuredWorker start_worker(const Workspace::Values& more = {}) {
        Workspace::Values values{{"relay.enabled", "false"},
                                 {"projections.dlq_topics", "false"},
                                 {"projections.storm.share", "1"},
                                 {"projections.storm.in_a_row", "1000000"},
                                 {"projections.caps.letters", "1000000"},
                                 {"projections.caps.parked", "10000000"}};
        values.insert(values.end(), more.begin(), more.end());
        return MeasuredWorker(
            workspace_.start_worker("worker-" + std::to_string(++worker_count_), values));
    }

    // Its seconds are those from the first one that the metric counts to the `count`-th.
    CountWatch await(MeasuredWorker& worker, const char* metric, int64_t count) {
        Progressing applying("waiting for " + with_commas(count));
        CountWatch watch(kPatience, [] { return "no event was handled for a minute"; });
        while (watch.count() < count) {
            ground_.pause(kLookEvery);
            worker.check();
            watch.note(static_cast<int64_t>(worker.metric(metric)));
            applying.show(with_commas(watch.count()));
        }
        return watch;
    }

    // By the program as an operator runs it: its start counts.
    double redrive_seconds() {
        session_.execute("ALTER TABLE bench_1_v1.orders DROP CONSTRAINT not_negative");
        const Clock::time_point begin = Clock::now();
        Child command = workspace_.start_program(
            "redrive",
            {"dlq", "redrive", "--config", workspace_.write_config("redrive", {}).string()});
        while (!command.exit_status()) ground_.pause(kLookEvery);
        const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
        if (*command.exit_status() != 0 || letter_count() != 0) {
            throw fatal("bench_unsound", "the re-drive left letters" + command.end_of_log());
        }
        return seconds;
    }

    int64_t letter_count() { return number("SELECT count(*) FROM millrace.dead_letters"); }

    void require(int64_t letters, int64_t applied) {
        if (letter_count() == letters &&
            number("SELECT sum(events)::bigint FROM read_models.orders") == applied) {
            return;
        }
        throw fatal("bench_unsound", "letters and read model do not add up");
    }

  private:
    int64_t number(std::string_view sql) { return session_.execute(sql).integer(0, 0); }

    const BenchGround& ground_;
    Workspace workspace_;
    pg::Session session_;
    int worker_count_ = 0;  // Each has a log of its own.
};

int64_t letters_of(int64_t event_count, int64_t every) {
    return every == 0 ? 0 : (event_count + every - 1) / every;
}

struct Search {
    std::string measure;
    int64_t event_count = 0;
    int64_t every = 0;
    Workspace::Values values{};
};

BenchRow search(const BenchGround& ground, PoisonedOrders& orders, const Search& what) {
    feed_topic(ground, orders.workspace(),
               {.event_count = what.event_count, .poison_every = what.every});
    const int64_t letter_count = letters_of(what.event_count, what.every);
    const CpuWatch watch(ground, orders.session());
    MeasuredWorker worker = orders.start_worker(what.values);
    const Cpu before = watch.before_start_of(worker);
    const double seconds =
        orders.await(worker, kApplied, what.event_count - letter_count).seconds();
    const double rate = static_cast<double>(what.event_count) / seconds;
    BenchRow row{.measure = what.measure,
                 .figures = {{"events/s", rounded(rate, 0)},
                             {"seconds", rounded(seconds, 2)},
                             {"letters", rounded(static_cast<double>(letter_count), 0)},
                             {"parts", rounded(worker.metric(kParts), 0)}}};
    append_cpu(row, watch.now(worker) - before, what.event_count, "event");
    worker.stop();
    orders.require(letter_count, what.event_count - letter_count);
    return row;
}

void measure_share(const BenchGround& ground, const PoisonShare& share, int64_t event_count,
                   Rounds& rounds) {
    PoisonedOrders orders(ground);
    rounds.add(search(ground, orders,
                      {.measure = "poison " + std::string(share.name),
                       .event_count = event_count,
                       .every = share.every}));
    if (share.every != 100) return;
    const auto letter_count = static_cast<double>(orders.letter_count());
    const double seconds = orders.redrive_seconds();
    rounds.add({.measure = "re-drive",
                .figures = {{"letters/s", rounded(letter_count / seconds, 0)},
                            {"seconds", rounded(seconds, 2)},
                            {"letters", rounded(letter_count, 0)}}});
}

void measure_one_by_one(const BenchGround& ground, int64_t event_count, Rounds& rounds) {
    PoisonedOrders orders(ground);
    rounds.add(search(ground, orders,
                      {.measure = "poison 1 %, one by one",
                       .event_count = event_count,
                       .every = 100,
                       .values = {{"projections.batch.events", "1"}}}));
}

// At a rate far below the greatest: how long the others wait for the searches.
void measure_lag(const BenchGround& ground, int64_t every, int seconds, Rounds& rounds) {
    PoisonedOrders orders(ground);
    MeasuredWorker worker = orders.start_worker();
    feed_topic(ground, orders.workspace(), {.event_count = kFirstEvents});
    orders.await(worker, kApplied, kFirstEvents);
    const int64_t event_count = kPacedRate * seconds;
    const int64_t good_count = event_count - letters_of(event_count, every);
    std::atomic<int64_t> committed{0};
    std::future<void> feeding = std::async(std::launch::async, [&] {
        feed_topic(ground, orders.workspace(),
                   {.event_count = event_count,
                    .poison_every = every,
                    .events_per_second = kPacedRate,
                    .generation = 2,
                    .on_commit = [&committed](int64_t count) { committed = count; }});
    });
    LagWatch lag;
    CountWatch applied(kPatience, [] { return "no event was applied for a minute"; });
    while (applied.count() < good_count) {
        ground.pause(kLagLookEvery);
        worker.check();
        lag.handed_in(committed, Clock::now());
        applied.note(static_cast<int64_t>(worker.metric(kApplied)) - kFirstEvents);
        lag.applied(applied.count(), Clock::now());
    }
    feeding.get();
    worker.stop();
    orders.require(event_count - good_count, good_count + kFirstEvents);
    rounds.add({.measure = every == 0 ? "5,000/s without poison" : "5,000/s with 1 % of poison",
                .figures = {{"greatest lag ms", lag.greatest().count()},
                            {"events", rounded(static_cast<double>(event_count), 0)}}});
}

// As many events as `event_count` wait behind a thousand letters.
void measure_parked(const BenchGround& ground, int64_t event_count, Rounds& rounds) {
    PoisonedOrders orders(ground);
    const auto handle = [&](const FeedOptions& feed, const char* metric, int64_t count) {
        feed_topic(ground, orders.workspace(), feed);
        MeasuredWorker worker = orders.start_worker();
        const CountWatch watch = orders.await(worker, metric, count);
        const double resident = worker.resident();
        worker.stop();
        return std::pair(watch, resident);
    };
    // By themselves: among others a later event of its key would mend its row before PostgreSQL
    // looks at it.
    handle({.event_count = kParkedKeys, .key_count = kParkedKeys, .begins_keys_with_poison = true},
           kLetters, kParkedKeys);
    const CountWatch parked =
        handle({.event_count = event_count, .key_count = kParkedKeys, .generation = 2}, kParked,
               event_count)
            .first;
    // One in a hundred of them is of such a key, and waits, too.
    const int64_t others = event_count - event_count / 100;
    const auto [applied, resident] =
        handle({.event_count = event_count, .generation = 3}, kApplied, others);
    const double redrive_seconds = orders.redrive_seconds();
    orders.require(0, 2 * event_count + kParkedKeys);
    const auto rate = [](int64_t count, double seconds) {
        return rounded(static_cast<double>(count) / seconds, 0);
    };
    rounds.add({.measure = with_commas(event_count) + " parked behind 1,000 letters",
                .figures = {{"parked/s", rate(event_count, parked.seconds())},
                            {"others/s meanwhile", rate(others, applied.seconds())},
                            {"re-driven/s", rate(event_count, redrive_seconds)},
                            {"worker MiB", rounded(resident, 0)}}});
}

}  // namespace

void run_poison(const BenchGround& ground, const CaseOptions& options, const Emit& emit) {
    Rounds rounds(emit);
    for (int round = 1; round <= options.round_count; ++round) {
        for (const PoisonShare& share : kShares) {
            measure_share(ground, share, options.task_count, rounds);
        }
        measure_one_by_one(ground, options.task_count / kOneByOneShare, rounds);
        measure_lag(ground, 0, options.seconds, rounds);
        measure_lag(ground, 100, options.seconds, rounds);
    }
    measure_parked(ground, options.task_count, rounds);
    rounds.finish();
}

}  // namespace millrace::bench
