// Death at each point of a batch, and who goes on applies each event once (PROTOCOL 7.1).

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

#include "consumers/projection_worker.h"
#include "core/crash_point.h"
#include "tests/support/broker.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"
#include "tests/support/forked.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

class ProjectionCrash : public testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(ProjectionCrash, LeavesEachEventAppliedOnce) {
    const auto& [point, nth] = GetParam();
    const bool is_per_partition = std::string(point) == "consumer.after_assign";
    Counted counted(is_per_partition ? 8 : 2);
    ProjectionOptions options = counted.options();
    options.batch.event_count = 100;
    Forked victim([&] {
        setenv("MILLRACE_CRASH_AT", (std::string(point) + ":" + std::to_string(nth)).c_str(), 1);
        arm_crash_points();
        Metrics metrics;
        ProjectionMetrics projection_metrics(metrics, "counted");
        kafka::Reaper reaper;
        const ProjectionShared shared{counted.halt_switch(), reaper, projection_metrics};
        WorkerWatch watch;
        ProjectionWorker(options, shared, std::make_unique<CountedHandler>(), watch)
            .run(std::stop_token());
    });
    Feed feed(counted.topic);
    feed.send_counted(4000, 40, counted.partition_count);
    ASSERT_EQ(victim.wait_killed(60s), SIGKILL) << "the point never fired";

    RunningProjection next(counted, options);
    ASSERT_TRUE(eventually(60s, [&] { return counted.applied_count() >= 4000; }));
    next.stop();

    EXPECT_EQ(counted.fault(4000), "");
}

INSTANTIATE_TEST_SUITE_P(Points, ProjectionCrash,
                         testing::Combine(testing::Values("consumer.after_assign",
                                                          "consumer.after_cas",
                                                          "consumer.mid_apply",
                                                          "consumer.before_commit",
                                                          "consumer.after_commit"),
                                          testing::Values(1, 7)));

}  // namespace
}  // namespace millrace::test
