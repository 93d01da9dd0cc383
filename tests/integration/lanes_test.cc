#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <random>

#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/installed.h"
#include "tests/support/writers.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

using Relays = std::deque<std::unique_ptr<RunningRelay>>;

// Waits until each of them has published so many tasks more: there is load on all owners.
bool publish_more(const Relays& relays, int task_count) {
    std::map<const RunningRelay*, double> wanted;
    const auto published = [](const RunningRelay& relay) {
        return relay.metric("millrace_relay_tasks_published_total");
    };
    for (const auto& relay : relays) wanted[relay.get()] = published(*relay) + task_count;
    return eventually(10s, [&] {
        return std::all_of(relays.begin(), relays.end(), [&](const auto& relay) {
            return published(*relay) >= wanted[relay.get()];
        });
    });
}

class Lanes : public testing::Test {
  protected:
    // How many lanes each owner has, ascending.
    std::vector<int64_t> shares() {
        const pg::Result rows = session_.execute(R"(
            SELECT count(*) FROM millrace.relay_lanes WHERE publisher IS NOT NULL
            GROUP BY publisher ORDER BY 1)");
        std::vector<int64_t> shares;
        for (int i = 0; i < rows.row_count(); ++i) shares.push_back(rows.integer(i, 0));
        return shares;
    }

    // floor(lanes / owners) each, one more for some.
    bool are_even(size_t owner_count) {
        const std::vector<int64_t> found = shares();
        return found.size() == owner_count && found.back() - found.front() <= 1;
    }

    std::string owners() {
        return session_
            .execute("SELECT string_agg(lane || ':' || coalesce(publisher::text, '-'), ' ' "
                     "ORDER BY lane) FROM millrace.relay_lanes")
            .text(0, 0);
    }

    Installed installed_{12, 4};
    pg::Session session_ = installed_.database.connect();
};

// PROTOCOL 2.6, 2.10, 4.5: nothing of a lane is in flight when it moves.
TEST_F(Lanes, MoveUnderLoadWithoutLosingOrReorderingAnything) {
    const unsigned seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::minstd_rand random(seed);
    Writers writers(installed_, {.thread_count = 2, .tasks_per_second = 500});
    Relays relays;
    relays.push_back(std::make_unique<RunningRelay>(installed_));

    std::vector<std::chrono::duration<double>> took;
    for (int change = 0; change < 12; ++change) {
        const auto began = std::chrono::steady_clock::now();
        const bool comes = relays.size() == 1 || (relays.size() < 5 && random() % 2 == 0);
        if (comes) {
            relays.push_back(std::make_unique<RunningRelay>(installed_));
        } else {
            relays.pop_front();
        }
        EXPECT_TRUE(eventually(5s, [&] { return installed_.owned_lane_count() == 12; }))
            << owners();
        took.push_back(std::chrono::steady_clock::now() - began);
        EXPECT_TRUE(publish_more(relays, 20)) << owners();
        std::this_thread::sleep_until(began + 1s);
    }
    std::sort(took.begin(), took.end());
    std::cout << "all lanes owned after " << took[took.size() / 2].count() << " s, at worst "
              << took.back().count() << " s\n";
    EXPECT_TRUE(eventually(5s, [&] { return are_even(relays.size()); })) << owners();
    const std::string before = owners();
    EXPECT_FALSE(eventually(2s, [&] { return owners() != before; })) << owners();
    writers.stop();
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    relays.clear();

    installed_.truth = writers.truth();
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_GT(verdict.task_count, 0);
    EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
}

// PROTOCOL 2.6, Share: floor(lanes / N), one more for the first.
TEST_F(Lanes, AreSharedEvenlyAndThenStandStill) {
    RunningRelay one(installed_);
    RunningRelay two(installed_);
    RunningRelay three(installed_);
    RunningRelay four(installed_);
    RunningRelay five(installed_);
    ASSERT_TRUE(eventually(15s, [&] {
        return shares() == std::vector<int64_t>{2, 2, 2, 3, 3};
    })) << owners();
    const std::string before = owners();

    EXPECT_FALSE(eventually(2s, [&] { return owners() != before; })) << owners();
}

}  // namespace
}  // namespace millrace::test
