#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <limits>
#include <random>
#include <span>

#include "tests/support/admin_client.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/key_totals.h"
#include "tests/support/process.h"
#include "tests/support/writers.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A crash point, and from which time on it may fire: those of a transaction do so after the victim
// has gone on for a while.
struct Aim {
    std::string_view point;
    unsigned first_nth;
    unsigned nth_spread;
};

// The one that leaves most in doubt comes more often.
constexpr std::array<Aim, 16> kRelayAims{{{"relay.after_take", 1, 2},
                                          {"relay.after_init", 1, 2},
                                          {"relay.after_settle", 1, 2},
                                          {"relay.mid_lane_move", 1, 4},
                                          {"relay.keeper_settled", 1, 1},
                                          {"relay.after_claim", 20, 60},
                                          {"relay.after_begin", 20, 60},
                                          {"relay.mid_produce", 20, 60},
                                          {"relay.after_ledger", 20, 60},
                                          {"relay.before_kafka_commit", 20, 60},
                                          {"relay.after_kafka_commit", 20, 60},
                                          {"relay.after_kafka_commit", 20, 60},
                                          {"relay.after_kafka_commit", 20, 60},
                                          {"relay.after_kafka_commit", 20, 60},
                                          {"relay.before_pg_commit", 20, 60},
                                          {"relay.after_pg_commit", 20, 60}}};
constexpr std::array<std::string_view, 5> kInsideClaim{
    "relay.after_claim", "relay.after_begin", "relay.mid_produce", "relay.after_ledger",
    "relay.before_kafka_commit"};
constexpr std::array<std::string_view, 2> kBetweenCommits{"relay.after_kafka_commit",
                                                          "relay.before_pg_commit"};
constexpr std::array<Aim, 6> kWorkerAims{{{"consumer.after_assign", 1, 2},
                                          {"consumer.after_cas", 10, 30},
                                          {"consumer.mid_apply", 10, 30},
                                          {"consumer.mid_apply", 10, 30},
                                          {"consumer.before_commit", 10, 30},
                                          {"consumer.after_commit", 10, 30}}};
constexpr std::array<std::string_view, 3> kInsideBatch{"consumer.after_cas", "consumer.mid_apply",
                                                       "consumer.before_commit"};

int wanted_kills() {
    const char* text = std::getenv("MILLRACE_KILLS");
    return text != nullptr ? std::atoi(text) : 60;
}

int count_in(const std::string& log, std::string_view text) {
    int found = 0;
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++found;
    return found;
}

// What a process under fire does, and by which metrics it is seen to do it.
struct Role {
    std::string name;
    std::string config;
    std::span<const Aim> aims;
    // Stopped there, it is in the middle of its work when it finds out that others went on.
    Aim stop_aim;
    std::string progress_metric;
    std::string owned_metric;  // Empty: progress alone shows that it owns something.
    Clock::duration rest;      // Between two faults, so that the survivors take over meanwhile.
};

// A process under fire: one after the other in the same place.
struct Target {
    const Role* role = nullptr;
    std::optional<Process> process;
    // The crash point this one was started with; empty: it is struck from outside.
    std::string_view aim;
    Clock::time_point stopped_at{};  // Seen to stand still since; the epoch: it runs.
    double progress = 0;
    Clock::time_point progressed_at{};  // When it was last seen to own something and to go on.
    Clock::time_point started_at{};

    bool made_progress() const { return Clock::now() - progressed_at < 1s; }
};

struct Tally {
    int relay_kills = 0;
    int worker_kills = 0;
    int relay_stops = 0;
    int worker_stops = 0;
    int inside_claim = 0;
    int between_commits = 0;
    int inside_batch = 0;
    int redos = 0;
    int fenced = 0;
    int lost_positions = 0;

    // Whatever the test is about has happened.
    bool is_complete() const {
        return relay_stops + worker_stops > 0 && worker_kills > 0 && inside_claim > 0 &&
               between_commits > 0 && inside_batch > 0 && redos > 0 && fenced > 0 &&
               lost_positions > 0;
    }
    int kills() const { return relay_kills + worker_kills; }
    int faults() const { return kills() + relay_stops + worker_stops; }
    std::string text() const {
        const auto part = [](const char* what, int count) {
            return std::string(what) + " " + std::to_string(count);
        };
        return part("kills of relays", relay_kills) + part(", of workers", worker_kills) +
               part("; stops of relays", relay_stops) + part(", of workers", worker_stops) +
               part("; kills inside a claim", inside_claim) +
               part(", between the commits", between_commits) +
               part(", inside a projection batch", inside_batch) + part("; redos", redos) +
               part(", fenced commits", fenced) + part(", lost positions", lost_positions);
    }
};

// The load as the writers kept it up.
class Pace {
  public:
    void look(int64_t count) {
        const std::chrono::duration<double> passed = Clock::now() - since_;
        if (passed < 10s) return;
        slowest_ = std::min(slowest_, static_cast<double>(count - count_) / passed.count());
        since_ = Clock::now();
        count_ = count;
    }
    // Tasks a second.
    double slowest() const { return slowest_; }

  private:
    Clock::time_point since_ = Clock::now();
    int64_t count_ = 0;
    double slowest_ = std::numeric_limits<double>::infinity();
};

class KillTest : public testing::Test {
  protected:
    KillTest() {
        relay_role_ = {.name = "relay",
                       .config = write_file("relay.yaml", installed_.config()),
                       .aims = kRelayAims,
                       .stop_aim = {"relay.before_kafka_commit", 20, 60},
                       .progress_metric = "millrace_relay_tasks_published_total",
                       .owned_metric = "millrace_relay_lanes_owned",
                       .rest = 700ms};
        worker_role_ = {.name = "worker",
                        .config = write_file("worker.yaml", key_totals_.config()),
                        .aims = kWorkerAims,
                        .stop_aim = {"consumer.before_cas", 10, 30},
                        .progress_metric = "millrace_projection_events_applied_total",
                        .owned_metric = "",
                        .rest = 1500ms};
        targets_[0].role = targets_[1].role = &relay_role_;
        targets_[2].role = targets_[3].role = &worker_role_;
    }

    void restart(Target& target) {
        if (target.process) count_logs(*target.process, tally_);
        const Role& role = *target.role;
        // Half are aimed, and of these some are stopped at their point instead of killed.
        std::string crash_at;
        target.aim = {};
        if (random_() % 2 == 0) {
            const bool is_stop = random_() % 4 == 0;
            const Aim& aim = is_stop ? role.stop_aim : role.aims[random_() % role.aims.size()];
            target.aim = aim.point;
            crash_at = std::string(aim.point) + ":" +
                       std::to_string(aim.first_nth + random_() % aim.nth_spread) +
                       (is_stop ? ":stop" : "");
        }
        target.process.emplace(Process::Options{.arguments = {"run", "--config", role.config},
                                                .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                                                .log_name = role.name});
        target.progress = 0;
        target.progressed_at = {};
        target.stopped_at = {};
        target.started_at = Clock::now();
    }

    static void look(Target& target) {
        const AdminClient admin(*target.process);
        const double progress = admin.metric(target.role->progress_metric);
        const bool owns = target.role->owned_metric.empty() ||
                          admin.metric(target.role->owned_metric) > 0;
        if (owns && progress > target.progress) target.progressed_at = Clock::now();
        target.progress = progress;
    }

    // A kill counts if its victim owned lanes or a partition and made progress in the second
    // before.
    void count_death(const Target& target) {
        if (!target.made_progress()) return;
        const auto aimed_at = [&target](std::span<const std::string_view> points) {
            return std::find(points.begin(), points.end(), target.aim) != points.end();
        };
        ++(target.role == &relay_role_ ? tally_.relay_kills : tally_.worker_kills);
        tally_.inside_claim += aimed_at(kInsideClaim) ? 1 : 0;
        tally_.between_commits += aimed_at(kBetweenCommits) ? 1 : 0;
        tally_.inside_batch += aimed_at(kInsideBatch) ? 1 : 0;
    }

    static void count_logs(const Process& process, Tally& tally) {
        const std::string log = process.log();
        tally.redos += count_in(log, "redid a transaction that had been published");
        tally.fenced += count_in(log, "reason=kafka_fenced");
        tally.fenced += count_in(log, "reason=publisher_lost");
        tally.lost_positions += count_in(log, "position taken by another owner");
    }

    // With what the processes that are alive have logged so far.
    Tally tally_by_now() const {
        Tally tally = tally_;
        for (const Target& target : targets_) count_logs(*target.process, tally);
        return tally;
    }

    // Past its lease and its session time-out, then on again: it must find out that it was taken
    // from.
    void keep_stopped(Target& target) {
        if (target.stopped_at == Clock::time_point{}) {
            target.stopped_at = Clock::now();
            ++(target.role == &relay_role_ ? tally_.relay_stops : tally_.worker_stops);
        }
        if (Clock::now() - target.stopped_at < 2500ms) return;
        target.process->signal(SIGCONT);
        target.stopped_at = {};
        target.aim = {};
    }

    // One look at all of them, and at most one fault.
    void strike() {
        for (Target& target : targets_) {
            if (target.process->is_stopped()) {
                keep_stopped(target);
                continue;
            }
            if (target.process->is_running()) {
                look(target);
                continue;
            }
            count_death(target);
            restart(target);
            next_fault_ = Clock::now() + target.role->rest;
        }
        // Workers join a group that has just lost a member only after its session time-out, so
        // they are struck less often.
        Target& victim = targets_[random_() % 3 == 0 ? 2 + random_() % 2 : random_() % 2];
        if (Clock::now() < next_fault_ || !victim.made_progress()) return;
        if (victim.process->is_stopped()) return;
        if (tally_.faults() % 10 == 9) {
            victim.process->signal(SIGSTOP);
            next_fault_ = Clock::now() + victim.role->rest;
            return;
        }
        // One that never reached its point is killed after a while.
        if (!victim.aim.empty() && Clock::now() - victim.started_at < 8s) return;
        next_fault_ = Clock::now() + victim.role->rest;
        victim.process->signal(SIGKILL);
        victim.process->wait(10s);
        victim.aim = {};
        count_death(victim);
        restart(victim);
    }

    std::mt19937 random_;
    Installed installed_{12, 4};
    KeyTotals key_totals_{installed_};
    Role relay_role_;
    Role worker_role_;
    std::array<Target, 4> targets_;
    Clock::time_point next_fault_{};
    Tally tally_;
};

// PROTOCOL 2, 3, 4, 6 and 7 together: two relays and two workers under load, killed and stopped
// again and again.
TEST_F(KillTest, NothingIsLostDoubledOrReordered) {
    const unsigned seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    random_.seed(seed);
    Writers writers(installed_);
    for (Target& target : targets_) restart(target);

    Pace pace;
    next_fault_ = Clock::now() + 2s;
    const auto begin = Clock::now();
    const auto deadline = begin + std::chrono::seconds(10 * wanted_kills() + 60);
    while (Clock::now() < deadline &&
           (tally_.kills() < wanted_kills() || !tally_by_now().is_complete())) {
        std::this_thread::sleep_for(50ms);
        strike();
        pace.look(writers.committed_count());
    }
    const std::chrono::duration<double> took = Clock::now() - begin;
    for (const Target& target : targets_) target.process->signal(SIGCONT);
    writers.stop();
    std::cout << writers.committed_count() << " tasks in " << took.count() << " s, "
              << static_cast<double>(writers.committed_count()) / took.count()
              << " a second, in the slowest ten seconds " << pace.slowest() << '\n';

    EXPECT_TRUE(eventually(60s, [&] { return installed_.pending_count() == 0; }));
    EXPECT_TRUE(eventually(60s, [&] { return key_totals_.missing_count() <= 0; }))
        << key_totals_.missing_count() << " events are not in the read model";
    tally_ = tally_by_now();
    for (const Target& target : targets_) target.process->signal(SIGKILL);

    const std::vector<SeenRecord> records = read_topic(installed_.topic);
    installed_.truth = writers.truth();
    const Verdict verdict = installed_.verdict();
    std::cout << verdict.text() << '\n' << tally_.text() << '\n';
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(sequence_breaks(records), std::vector<std::string>{});
    EXPECT_EQ(key_totals_.wrong_count(), 0) << "keys whose read model is wrong";
    EXPECT_GT(verdict.task_count, 0);
    EXPECT_GE(tally_.kills(), wanted_kills());
    EXPECT_TRUE(tally_.is_complete()) << tally_.text();
}

}  // namespace
}  // namespace millrace::test
