#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <iostream>
#include <random>

#include "tests/support/admin_client.h"
#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"
#include "tests/support/writers.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// The one that leaves most in doubt comes more often.
constexpr std::array kAims{"after_take",         "after_init",        "after_settle",
                           "after_claim",        "after_begin",       "mid_produce",
                           "after_ledger",       "before_kafka_commit", "after_kafka_commit",
                           "after_kafka_commit", "after_kafka_commit", "after_kafka_commit",
                           "before_pg_commit",   "after_pg_commit",   "mid_lane_move",
                           "keeper_settled"};

int wanted_kills() {
    const char* text = std::getenv("MILLRACE_KILLS");
    return text != nullptr ? std::atoi(text) : 60;
}

// A relay under fire: one process after the other in the same place.
struct Target {
    std::optional<Process> process;
    // The crash point this one was started with; empty: it is killed from outside.
    std::string aim;
    double published = 0;
    Clock::time_point progressed_at{};  // When it was last seen to own lanes and to have published.
    Clock::time_point started_at{};
};

struct Tally {
    int kills = 0;
    int stops = 0;
    int inside_claim = 0;
    int between_commits = 0;
    int redos = 0;
    int fenced = 0;
};

class KillTest : public testing::Test {
  protected:
    void restart(Target& target) {
        if (target.process) count_logs(*target.process);
        target.aim = random_() % 2 == 0 ? kAims[random_() % kAims.size()] : "";
        const std::string crash_at =
            target.aim.empty() ? "" : "relay." + target.aim + ":" +
                                          std::to_string(1 + random_() % 30);
        target.process.emplace(
            Process::Options{.arguments = {"run", "--config", config_},
                             .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                             .log_name = "relay"});
        target.published = 0;
        target.progressed_at = {};
        target.started_at = Clock::now();
    }

    void look(Target& target) {
        const AdminClient admin(*target.process);
        const double published = admin.metric("millrace_relay_tasks_published_total");
        const double lanes = admin.metric("millrace_relay_lanes_owned");
        if (lanes > 0 && published > target.published) target.progressed_at = Clock::now();
        target.published = published;
    }

    static bool made_progress(const Target& target) {
        return Clock::now() - target.progressed_at < 1s;
    }

    // A kill counts if its victim owned lanes and made progress in the second before.
    void count_death(const Target& target) {
        if (!made_progress(target)) return;
        ++tally_.kills;
        if (target.aim.empty()) return;
        if (target.aim == "after_kafka_commit" || target.aim == "before_pg_commit") {
            ++tally_.between_commits;
        }
        if (target.aim == "after_claim" || target.aim == "after_begin" ||
            target.aim == "mid_produce" || target.aim == "after_ledger" ||
            target.aim == "before_kafka_commit") {
            ++tally_.inside_claim;
        }
    }

    void count_logs(const Process& process) {
        const std::string log = process.log();
        const auto count = [&log](const std::string& text) {
            int found = 0;
            for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) {
                ++found;
            }
            return found;
        };
        tally_.redos += count("redid a transaction that had been published");
        tally_.fenced += count("reason=kafka_fenced") + count("reason=publisher_lost");
    }

    // Past its lease, then on again: it must find out that it was taken from.
    void stop_for_a_while(Target& target) {
        target.process->signal(SIGSTOP);
        ++tally_.stops;
        std::this_thread::sleep_for(2500ms);
        target.process->signal(SIGCONT);
    }

    std::mt19937 random_{std::random_device{}()};
    Installed installed_{12, 4};
    std::string config_ = write_file("relay.yaml", installed_.config());
    Tally tally_;
};

// PROTOCOL 2, 3, 4 and 6 together: two relays under load, killed and stopped again and again.
TEST_F(KillTest, TwoRelaysLoseDoubleAndReorderNothing) {
    const unsigned seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    random_.seed(seed);
    Writers writers({.url = installed_.database.url(),
                     .topic = installed_.topic,
                     .run = installed_.installation.name});
    std::array<Target, 2> targets;
    for (Target& target : targets) restart(target);

    Clock::time_point next_fault = Clock::now() + 2s;
    const auto deadline = Clock::now() + std::chrono::seconds(10 * wanted_kills() + 60);
    while (tally_.kills + tally_.stops < wanted_kills() && Clock::now() < deadline) {
        std::this_thread::sleep_for(50ms);
        for (Target& target : targets) {
            if (!target.process->is_running()) {
                count_death(target);
                restart(target);
                next_fault = Clock::now() + 700ms;
                continue;
            }
            look(target);
        }
        Target& victim = targets[random_() % 2];
        if (Clock::now() < next_fault || !made_progress(victim)) continue;
        if ((tally_.kills + tally_.stops) % 10 == 9) {
            stop_for_a_while(victim);
            next_fault = Clock::now() + 700ms;
            continue;
        }
        // One that never reached its point is killed after a while.
        if (!victim.aim.empty() && Clock::now() - victim.started_at < 8s) continue;
        next_fault = Clock::now() + 700ms;
        victim.process->signal(SIGKILL);
        victim.process->wait(10);
        victim.aim.clear();
        count_death(victim);
        restart(victim);
    }
    writers.stop();
    ASSERT_TRUE(eventually(60s, [&] { return installed_.pending_count() == 0; }));
    for (Target& target : targets) {
        count_logs(*target.process);
        target.process->signal(SIGKILL);
    }

    const std::vector<SeenRecord> records = read_topic(installed_.topic);
    installed_.truth = writers.truth();
    const Verdict verdict = installed_.verdict();
    std::cout << verdict.text() << "\nkills " << tally_.kills << ", stops " << tally_.stops
              << ", inside a claim " << tally_.inside_claim << ", between the commits "
              << tally_.between_commits << ", redos " << tally_.redos << ", fenced "
              << tally_.fenced << '\n';
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_GE(tally_.kills + tally_.stops, wanted_kills());
    EXPECT_EQ(sequence_breaks(records), std::vector<std::string>{});
    EXPECT_GT(tally_.stops, 0);
    EXPECT_GT(tally_.inside_claim, 0);
    EXPECT_GT(tally_.between_commits, 0);
    EXPECT_GT(tally_.redos, 0);
    EXPECT_GT(tally_.fenced, 0);
}

}  // namespace
}  // namespace millrace::test
