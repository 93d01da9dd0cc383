#include "consumers/projection_worker.h"

#include <gtest/gtest.h>

#include "tests/support/broker.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

TEST(ProjectionWorker, AppliesEachEventOnceInTheOrderOfItsKey) {
    Counted counted;
    Feed feed(counted.topic);
    feed.send_counted(5000, 50, counted.partition_count);

    RunningProjection running(counted);
    ASSERT_TRUE(applies(counted, 5000));
    feed.send_counted(100, 50, counted.partition_count);
    ASSERT_TRUE(applies(counted, 5100));
    running.stop();

    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_EQ(running.metric("millrace_projection_events_applied_total"), 5100);
    EXPECT_EQ(running.metric("millrace_projection_positions_lost_total"), 0);
    EXPECT_EQ(running.metric("millrace_projection_sequence_gaps_total"), 0);
}

TEST(ProjectionWorker, GoesOnWhereThePositionStands) {
    Counted counted;
    Feed feed(counted.topic);
    for (int i = 0; i < 3; ++i) {
        feed.send_counted(500, 50, counted.partition_count);
        RunningProjection running(counted);
        ASSERT_TRUE(applies(counted, feed.sent_count()));
    }

    EXPECT_EQ(counted.fault(feed.sent_count()), "");
}

TEST(ProjectionWorker, MovesItsPositionOverWhatItDoesNotApply) {
    Counted counted(1);
    Feed feed(counted.topic);
    FedMessage other = feed.counted("k1", 0);
    other.headers[1].second = "SomethingElse";
    feed.send({other, {.partition = 0, .key = "k2", .value = std::nullopt, .headers = {}}});

    RunningProjection running(counted);

    ASSERT_TRUE(eventually(60s, [&] {
        return counted.number("SELECT coalesce(max(next_offset), 0) FROM millrace.positions") >= 2;
    }));
    running.stop();
    EXPECT_EQ(counted.applied_count(), 0);
    EXPECT_EQ(running.metric(
                  "millrace_projection_events_skipped_total{projection=\"counted\",why=\"type\"}"),
              1);
    EXPECT_EQ(
        running.metric(
            "millrace_projection_events_skipped_total{projection=\"counted\",why=\"tombstone\"}"),
        1);
}

TEST(ProjectionWorker, SeesNothingOfAbortedTransactionsAndPassesTheirMarkers) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_aborted({{.partition = 0, .key = "k0", .value = "{\"n\": 99}", .headers = {}}});
    feed.send_counted(10, 1, 1);

    RunningProjection running(counted);
    ASSERT_TRUE(applies(counted, 10));

    // One aborted record, ten, and a marker each.
    EXPECT_TRUE(eventually(20s, [&] {
        return counted.number("SELECT next_offset FROM millrace.positions") == 13;
    }));
    EXPECT_EQ(counted.fault(10), "");
}

TEST(ProjectionWorker, SharesPartitionsWithOthersThatComeAndGo) {
    Counted counted(6);
    Feed feed(counted.topic);
    RunningProjection first(counted);
    feed.send_counted(600, 60, counted.partition_count);
    ASSERT_TRUE(applies(counted, feed.sent_count()));
    {
        RunningProjection second(counted);
        ASSERT_TRUE(eventually(30s, [&] {
            feed.send_counted(60, 60, counted.partition_count);
            return second.metric("millrace_projection_events_applied_total") > 0;
        }));
        feed.send_counted(6000, 60, counted.partition_count);
    }
    feed.send_counted(600, 60, counted.partition_count);

    ASSERT_TRUE(applies(counted, feed.sent_count()));
    first.stop();
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
}

TEST(ProjectionWorker, LeavesItsGroupOnStopSoThatOthersNeedNotWaitForTheSession) {
    Counted counted;
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.session_timeout = 30s;
    auto first = std::make_unique<RunningProjection>(counted, options);
    feed.send_counted(400, 40, counted.partition_count);
    ASSERT_TRUE(applies(counted, feed.sent_count()));

    first->stop();
    RunningProjection second(counted, options);
    feed.send_counted(400, 40, counted.partition_count);

    EXPECT_TRUE(applies(counted, feed.sent_count(), 10s));
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
}

// A handler that can't go on at all.
class BrokenHandler : public CountedHandler {
  public:
    bool collect(const Event& /*event*/) override { throw fatal("handler_broken", "for good"); }
};

// Its process ends by it, which takes a while, and its client would send heartbeats until then.
TEST(ProjectionWorker, LeavesItsGroupWhenItFailsForGood) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.session_timeout = 30s;
    RunningProjection broken(counted, options, [] { return std::make_unique<BrokenHandler>(); });
    feed.send_counted(20, 2, 1);
    ASSERT_TRUE(eventually(60s, [&] {
        return broken.metric("millrace_failures_total{reason=\"handler_broken\"}") > 0;
    }));

    RunningProjection second(counted, options);

    EXPECT_TRUE(applies(counted, feed.sent_count(), 15s));
}

TEST(ProjectionWorker, RunsInSeveralThreads) {
    Counted counted(4);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.thread_count = 3;
    options.batch.event_count = 100;
    feed.send_counted(20000, 400, counted.partition_count);

    RunningProjection running(counted, options);

    ASSERT_TRUE(applies(counted, feed.sent_count()));
    running.stop();
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_EQ(running.status().halted, "");
}

// What the group's committed offset of partition 0 is; negative if there is none.
int64_t committed_offset(const Counted& counted) {
    kafka::Reaper reaper;
    const kafka::Client client(
        kafka::make_client(
            RD_KAFKA_CONSUMER,
            kafka::make_conf(kafka_options(), {{"group.id", counted.options().group}})),
        kafka::Bury{&reaper, nullptr});
    rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, counted.topic.c_str(), 0);
    rd_kafka_committed(client.get(), list, 1000);
    const int64_t offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return offset;
}

TEST(ProjectionWorker, ShowsItsProgressToLagTools) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(10, 1, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(applies(counted, 10));

    EXPECT_TRUE(eventually(20s, [&] { return committed_offset(counted) >= 10; }));
}

// The owner before it died after its last batch, so nobody had told. In a topic where nothing comes
// any more it stayed so, and lag tools saw a lag for ever.
TEST(ProjectionWorker, ShowsLagToolsWhereItBegins) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(10, 1, 1);
    ProjectionOptions other = counted.options();
    other.group += ".other";
    {
        RunningProjection before(counted, other);
        ASSERT_TRUE(eventually(60s, [&] {
            return counted.number("SELECT coalesce(max(next_offset), 0) FROM "
                                  "millrace.positions") == 11;
        }));
    }

    RunningProjection running(counted);

    EXPECT_TRUE(eventually(20s, [&] { return committed_offset(counted) == 11; }));
}

// It stood at 0 for as long as a partition was put off, and stood still once others had it.
TEST(ProjectionWorker, ShowsTheLagOfAPartitionThatIsPutOffAndNoneOfOneThatItLeft) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.retry_backoff = 10ms;
    options.letters.on_poison = OnPoison::kHalt;
    RunningProjection running(counted, options);
    feed.send_counted(10, 1, 1);
    ASSERT_TRUE(applies(counted, 10));

    counted.at_insert("RAISE 'not yet' USING ERRCODE = '40001';");
    feed.send_counted(20, 1, 1);
    EXPECT_TRUE(eventually(30s, [&] {
        return running.metric("millrace_projection_lag_events{") >= 20;
    }));

    counted.database.connect().run_script(
        "CREATE OR REPLACE FUNCTION public.at_insert() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'never'; END $$");
    ASSERT_TRUE(halts(counted));
    EXPECT_TRUE(
        eventually(30s, [&] { return !running.has_metric("millrace_projection_lag_events{"); }));
    EXPECT_FALSE(running.has_metric("millrace_projection_lag_seconds{"));
}

}  // namespace
}  // namespace millrace::test
