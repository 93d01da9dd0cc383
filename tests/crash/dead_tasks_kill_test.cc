#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <iostream>
#include <optional>
#include <random>
#include <set>

#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"
#include "tests/support/set_aside.h"
#include "tests/support/writers.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

constexpr int kKillCount = 20;

// Where a relay is killed; an empty one: anywhere.
constexpr std::array<std::string_view, 10> kPoints{
    "",
    "relay.after_park",
    "relay.after_set_aside",
    "relay.after_kafka_commit",
    "relay.after_kafka_commit",
    "relay.after_kafka_commit",
    "relay.before_pg_commit",
    "relay.after_claim",
    "relay.mid_redo",
    "relay.after_pg_commit"};

class DeadTasksKill : public testing::Test {
  protected:
    void start(std::optional<Process>& relay) {
        const std::string_view point = kPoints[random_() % kPoints.size()];
        const std::string crash_at =
            point.empty() ? "" : std::string(point) + ":" + std::to_string(1 + random_() % 10);
        relay.emplace(Process::Options{.arguments = {"run", "--config", config_},
                                       .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                                       .log_name = "relay"});
    }

    // The one that finds a doubt is most often another's keeper.
    void count_redos(const Process& relay) {
        const std::string log = relay.log();
        const std::string line = "redid a transaction";
        for (size_t at = log.find(line); at != std::string::npos; at = log.find(line, at + 1)) {
            ++redo_count_;
        }
    }

    void insert_missing(const std::string& key) {
        installed_.database.connect().execute(
            "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
            "VALUES ($1, $2, 'T', '{}')",
            pg::Params().text(missing_).text(key));
        ++missing_count_;
    }

    // Poison in the way of the writers' keys; now and then the way back for what was found.
    void stir() {
        const std::string key = "k" + std::to_string(random_() % 200);
        if (installed_.number("SELECT count(*) FROM millrace.pending_tasks "
                              "WHERE task_type = 'Refused'") == 0) {
            insert_refused(installed_, key);
        }
        insert_missing(key);
        retry_count_ += static_cast<int>(retry(installed_, {.limit = 20}).size());
        for (const int64_t id : discard(installed_, {.reason = "task_refused", .limit = 1})) {
            EXPECT_TRUE(discarded_.insert(id).second) << id << " was discarded twice";
        }
    }

    std::mt19937 random_{std::random_device{}()};
    Installed installed_{12, 4};
    std::string config_ = write_file("relay.yaml", installed_.config());
    std::string missing_ = fresh_name("missing");
    int missing_count_ = 0;
    int retry_count_ = 0;
    int redo_count_ = 0;
    std::set<int64_t> discarded_;
};

// PROTOCOL 5.1, 5.2, 5.3 and 4.3 together: poison among good tasks, retried and given up, while the
// relays that find it are killed and its lanes move.
TEST_F(DeadTasksKill, NothingIsLostDoubledOrReorderedAroundPoison) {
    Writers writers(installed_, {.thread_count = 2, .tasks_per_second = 400});
    std::array<std::optional<Process>, 2> relays;
    for (auto& relay : relays) start(relay);
    int kill_count = 0;
    auto next_kill = std::chrono::steady_clock::now() + 3s;
    ASSERT_TRUE(eventually(240s, [&] {
        stir();
        for (auto& relay : relays) {
            const bool is_due = std::chrono::steady_clock::now() >= next_kill;
            if (relay->is_running() && !is_due) continue;
            if (relay->is_running()) relay->kill();
            next_kill = std::chrono::steady_clock::now() + 3s;
            ++kill_count;
            count_redos(*relay);
            start(relay);
        }
        return kill_count >= kKillCount;
    }));
    writers.stop();
    for (auto& relay : relays) {
        relay->kill();
        count_redos(*relay);
    }
    Process last(
        {.arguments = {"run", "--config", config_}, .environment = {}, .log_name = "last"});

    // Once its topic is made, what named it can be published.
    create_topic(missing_, 4);
    ASSERT_TRUE(eventually(120s, [&] {
        discard(installed_, {.reason = "task_refused"});
        retry(installed_);
        return installed_.pending_count() == 0 && dead_count(installed_) == 0;
    })) << last.log();
    last.signal(SIGTERM);
    EXPECT_EQ(last.wait(20s), 0) << last.log();

    installed_.truth = writers.truth();
    const Verdict verdict = installed_.verdict();
    std::cout << verdict.text() << "\n" << kill_count << " kills, " << retry_count_ << " retries, "
              << discarded_.size() << " discarded, " << redo_count_ << " redos\n";
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
    EXPECT_EQ(read_topic(missing_).size(), static_cast<size_t>(missing_count_));
    EXPECT_GT(redo_count_, 0);
    EXPECT_GT(retry_count_, 0);
    EXPECT_GT(discarded_.size(), 0U);
}

}  // namespace
}  // namespace millrace::test
