// A random run of writers and publishers over one outbox: whatever happens, the relay's claim and
// floor lose, double and reorder nothing.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"
#include "tests/support/floor_rules.h"
#include "tests/support/model_publisher.h"
#include "tests/support/outbox_run.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kWriterCount = 6;
constexpr int16_t kPublisherCount = 5;
constexpr int16_t kLaneCount = 12;
constexpr auto kDrainLimit = 30s;

// What must have happened for the run to mean anything.
struct Happenings {
    std::atomic<int64_t> committed_claims, rolled_back_claims, count_cuts, empty_looks;
    std::atomic<int64_t> claims_above_a_floor, ids_found_below_the_floor, lanes_gained;
    std::atomic<int64_t> written_transactions, aborts, savepoint_rollbacks, slow_transactions;
};

class Dice {
  public:
    explicit Dice(uint64_t seed) : engine_(seed) {}

    int up_to(int max) { return std::uniform_int_distribution<int>(0, max)(engine_); }
    bool chance(double probability) { return std::bernoulli_distribution(probability)(engine_); }
    template <typename Item>
    Item any_of(const std::vector<Item>& items) {
        return items[static_cast<size_t>(up_to(static_cast<int>(items.size()) - 1))];
    }

  private:
    std::mt19937_64 engine_;
};

std::chrono::seconds duration_of_run() {
    const char* text = std::getenv("MILLRACE_TEST_FLOOR_SECONDS");
    return std::chrono::seconds(text == nullptr ? 8 : std::atoi(text));
}

uint64_t seed_of_run() {
    const char* text = std::getenv("MILLRACE_TEST_SEED");
    return text == nullptr ? std::random_device{}() : std::strtoull(text, nullptr, 10);
}

// Part of the fault schedule: how long a writer stays open, how often a publisher looks.
void pause(Dice& dice, std::chrono::milliseconds limit) {
    const int milliseconds = dice.up_to(static_cast<int>(limit.count()));
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

class Simulation {
  public:
    Simulation(Database& database, uint64_t seed, const MakeRule& make_rule)
        : run_(database), seed_(seed), make_rule_(make_rule) {
        for (int16_t lane = 0; lane < kLaneCount; ++lane) {
            const auto& keys = run_.keys(lane);
            keys_.insert(keys_.end(), keys.begin(), keys.begin() + 4);
        }
    }

    Verdict play(std::chrono::seconds duration) {
        std::vector<std::jthread> publishers;
        std::vector<std::jthread> writers;
        for (int16_t i = 0; i < kPublisherCount; ++i) {
            publishers.emplace_back([this, i](const std::stop_token& stop) {
                guarded([&] { publish(i, stop); });
            });
        }
        for (int i = 0; i < kWriterCount; ++i) {
            writers.emplace_back([this, i](const std::stop_token& stop) {
                guarded([&] { write(i, stop); });
            });
        }
        change_publishers(Clock::now() + duration);
        writers.clear();
        drain();
        publishers.clear();
        return run_.verdict();
    }

    const Happenings& happenings() const { return happenings_; }
    const std::vector<std::string>& errors() const { return errors_; }

  private:
    template <typename Body>
    void guarded(const Body& body) {
        try {
            body();
        } catch (const std::exception& error) {
            const std::lock_guard lock(errors_mutex_);
            errors_.emplace_back(error.what());
        }
    }

    void change_publishers(Clock::time_point end) {
        Dice dice(seed_);
        while (Clock::now() < end) {
            active_count_ = 1 + dice.up_to(kPublisherCount - 1);
            pause(dice, 1500ms);
        }
    }

    // From here on nothing new comes, and no lane is given away but by those that stop.
    void drain() {
        is_draining_ = true;
        eventually(kDrainLimit, [this] { return run_.pending_count() == 0; });
    }

    void publish(int16_t number, const std::stop_token& stop) {
        Dice dice(seed_ + 100 + static_cast<uint64_t>(number));
        ModelPublisher publisher(run_, number, make_rule_);
        while (!stop.stop_requested()) {
            move_lanes(publisher, number < active_count_, dice);
            if (publisher.lanes().empty() || !publisher.probe()) {
                ++happenings_.empty_looks;
                pause(dice, 2ms);
                continue;
            }
            claim(publisher, dice);
        }
    }

    void move_lanes(ModelPublisher& publisher, bool is_active, Dice& dice) {
        if (!is_active) {
            if (!publisher.lanes().empty()) publisher.give_lanes(publisher.lanes());
            return;
        }
        if (!is_draining_ && !publisher.lanes().empty() && dice.chance(0.003)) {
            publisher.give_lanes({dice.any_of(publisher.lanes())});
        }
        if (dice.chance(0.05)) happenings_.lanes_gained += publisher.take_lanes(some_lanes(dice));
    }

    static std::vector<int16_t> some_lanes(Dice& dice) {
        std::vector<int16_t> lanes(kLaneCount);
        std::iota(lanes.begin(), lanes.end(), int16_t{0});
        if (dice.chance(0.5)) lanes.resize(kLaneCount / 2);
        return lanes;
    }

    void claim(ModelPublisher& publisher, Dice& dice) {
        const ClaimOptions options{.count_max = dice.any_of<int32_t>({1, 3, 10, 50, 1000}),
                                   .bytes_max = dice.any_of<int>({1, 300, 3000, 1'000'000}),
                                   .is_rolled_back = dice.chance(0.1)};
        const int64_t floor = publisher.rule().floor();
        const ClaimResult claim = publisher.claim(options);

        const auto count = static_cast<int64_t>(claim.ids.size());
        ++(options.is_rolled_back ? happenings_.rolled_back_claims : happenings_.committed_claims);
        if (count == options.count_max) ++happenings_.count_cuts;
        if (floor > 0) ++happenings_.claims_above_a_floor;
        happenings_.ids_found_below_the_floor +=
            std::count_if(claim.ids.begin(), claim.ids.end(),
                          [floor](int64_t id) { return id <= floor; });
    }

    void write(int number, const std::stop_token& stop) {
        Dice dice(seed_ + 200 + static_cast<uint64_t>(number));
        pg::Session session = run_.database().connect();
        while (!stop.stop_requested()) {
            session.execute("BEGIN");
            // A transaction may have its xid long before its first id, and long after its locks.
            if (dice.chance(0.2)) session.execute("SELECT pg_current_xact_id()");
            for (const std::string& key : some_keys(dice)) write_key(session, key, dice);
            if (dice.chance(0.02)) {
                ++happenings_.slow_transactions;
                pause(dice, 800ms);
            }
            ++happenings_.written_transactions;
            if (dice.chance(0.15)) {
                ++happenings_.aborts;
                session.rollback();
            } else {
                session.commit();
            }
            pause(dice, 6ms);
        }
    }

    // In one order for all writers, so that they do not deadlock.
    std::vector<std::string> some_keys(Dice& dice) {
        std::vector<std::string> keys;
        for (int i = dice.up_to(2); i >= 0; --i) keys.push_back(dice.any_of(keys_));
        std::sort(keys.begin(), keys.end());
        return keys;
    }

    void write_key(pg::Session& session, const std::string& key, Dice& dice) {
        const auto shape = dice.any_of<Shape>(
            {Shape::kSingleRows, Shape::kValues, Shape::kSelect, Shape::kWritableCte});
        // An advisory lock leaves it to the INSERT to give the transaction its xid.
        lock_key(session, key, dice.chance(0.5) ? Lock::kRow : Lock::kAdvisory);
        if (dice.chance(0.1)) pause(dice, 30ms);
        if (dice.chance(0.3)) {
            session.execute("SAVEPOINT s");
            write_tasks(run_, session, key, 1 + dice.up_to(2), shape);
            if (dice.chance(0.5)) {
                ++happenings_.savepoint_rollbacks;
                session.execute("ROLLBACK TO SAVEPOINT s");
            }
        }
        write_tasks(run_, session, key, 1 + dice.up_to(4), shape);
        if (dice.chance(0.1)) pause(dice, 30ms);
    }

    OutboxRun run_;
    uint64_t seed_;
    MakeRule make_rule_;
    std::vector<std::string> keys_;
    Happenings happenings_{};
    std::atomic<int> active_count_ = 1;
    std::atomic<bool> is_draining_ = false;
    std::mutex errors_mutex_;
    std::vector<std::string> errors_;
};

// PROTOCOL 6, all of it, and the moving lanes of PROTOCOL 2.6 and 4.5.
TEST(FloorSimulation, LosesDoublesAndReordersNothing) {
    const uint64_t seed = seed_of_run();
    std::cout << "MILLRACE_TEST_SEED=" << seed << '\n';
    Database database(kLaneCount);
    Simulation simulation(database, seed, compared_floor());

    const Verdict verdict = simulation.play(duration_of_run());

    const Happenings& happened = simulation.happenings();
    std::cout << verdict.text() << "; transactions " << happened.written_transactions << ", aborts "
              << happened.aborts << ", savepoint rollbacks " << happened.savepoint_rollbacks
              << ", slow " << happened.slow_transactions << "; claims " << happened.committed_claims
              << ", rolled back " << happened.rolled_back_claims << ", cut by count "
              << happened.count_cuts << ", above a floor " << happened.claims_above_a_floor
              << ", ids found below it " << happened.ids_found_below_the_floor << ", empty looks "
              << happened.empty_looks << ", lanes gained " << happened.lanes_gained << '\n';
    EXPECT_EQ(simulation.errors(), std::vector<std::string>{});
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_GT(verdict.task_count, 100);
    EXPECT_GT(happened.rolled_back_claims, 0);
    EXPECT_GT(happened.count_cuts, 0);
    EXPECT_GT(happened.claims_above_a_floor, 0);
    EXPECT_GT(happened.ids_found_below_the_floor, 0);
    EXPECT_GT(happened.empty_looks, 0);
    EXPECT_GT(happened.lanes_gained, kLaneCount);
    EXPECT_GT(happened.savepoint_rollbacks, 0);
    EXPECT_GT(happened.slow_transactions, 0);
}

}  // namespace
}  // namespace millrace::test
