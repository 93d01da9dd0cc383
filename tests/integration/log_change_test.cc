// Logs that are not there, not the ones they were, or not whole (PROTOCOL 7.2, 7.4).

#include <gtest/gtest.h>

#include "consumers/projection_worker.h"
#include "tests/support/broker.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"
#include "tests/support/own_broker.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

TEST(LogChange, ATopicThatIsMissingIsWaitedFor) {
    Counted counted(2, {}, /*creates_topic=*/false);
    RunningProjection running(counted);
    ASSERT_TRUE(eventually(30s, [&] {
        const ProjectionStatus status = running.status();
        return !status.waiting.empty() &&
               status.waiting[0].find("topic_missing") != std::string::npos;
    }));

    create_topic(counted.topic, counted.partition_count);
    Feed feed(counted.topic);
    feed.send_counted(100, 10, counted.partition_count);

    ASSERT_TRUE(applies(counted, 100));
    EXPECT_EQ(counted.fault(100), "");
    EXPECT_TRUE(eventually(10s, [&] { return running.status().waiting.empty(); }));
}

TEST(LogChange, StartHoldsForThePartitionsThereAreAtFirst) {
    Counted counted(2);
    Feed feed(counted.topic);
    feed.send_counted(100, 10, 2);
    ProjectionOptions options = counted.options();
    options.start.kind = StartAt::Kind::kLatest;
    {
        RunningProjection running(counted, options);
        ASSERT_TRUE(eventually(30s, [&] {
            return counted.number("SELECT count(*) FROM millrace.positions "
                                  "WHERE owner IS NOT NULL") == 2;
        }));
    }
    EXPECT_EQ(counted.applied_count(), 0);

    // What comes while nobody reads is not lost: the start was resolved once.
    feed.send_counted(50, 10, 2);
    RunningProjection running(counted, options);
    ASSERT_TRUE(applies(counted, 50));
    EXPECT_EQ(counted.number("SELECT count(*) FROM public.applied WHERE n <= 10"), 0);

    // A partition that comes later is read from its first record.
    add_partitions(counted.topic, 3);
    Feed later(counted.topic);
    later.send({later.counted("new", 2)});
    ASSERT_TRUE(applies(counted, 51));
}

TEST(LogChange, StartAtATimeBeginsWithTheFirstRecordSince) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send({{.partition = 0, .key = "old", .value = "{\"n\": 1}",
                .timestamp = 1'000'000ms}});
    feed.send({{.partition = 0, .key = "new", .value = "{\"n\": 1}",
                .timestamp = 2'000'000ms}});
    ProjectionOptions options = counted.options();
    options.start = {.kind = StartAt::Kind::kTime, .time = 1'500'000ms};

    RunningProjection running(counted, options);

    ASSERT_TRUE(applies(counted, 1));
    running.stop();
    EXPECT_EQ(counted.number("SELECT count(*) FROM public.applied WHERE key = 'new'"), 1);
    EXPECT_EQ(counted.applied_count(), 1);
}

TEST(LogChange, APositionBeforeTheLogsStartHalts) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(100, 10, 1);
    {
        RunningProjection running(counted);
        ASSERT_TRUE(applies(counted, 100));
    }
    feed.send_counted(100, 10, 1);
    delete_records(counted.topic, 0, 150);

    RunningProjection running(counted);

    EXPECT_TRUE(halts(counted, "position_out_of_range"));
    EXPECT_EQ(counted.applied_count(), 100);
}

TEST(LogChange, APositionBehindTheLogsEndHalts) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(100, 10, 1);
    counted.database.connect().execute(
        "INSERT INTO millrace.positions (projection, version, topic, partition, next_offset) "
        "VALUES ('counted', 1, '" + counted.topic + "', 0, 1000)");

    RunningProjection running(counted);

    EXPECT_TRUE(halts(counted, "position_out_of_range"));
    EXPECT_EQ(counted.applied_count(), 0);
}

// A broker of its own that was killed leads in a new epoch, which begins behind what it had; a
// topic's position of an earlier epoch that is further on is one of a log that lost its end.
class LogCut : public testing::Test {
  protected:
    void begin_epoch() {
        broker_.act("kill");
        broker_.act("start");
    }
    void set_position(int64_t offset, int epoch) const {
        counted_.database.connect().execute(
            "UPDATE millrace.positions SET next_offset = $1, leader_epoch = $2",
            pg::Params().int8(offset).int4(epoch));
    }
    int64_t position_epoch() const {
        return counted_.number("SELECT coalesce(max(leader_epoch), -1) FROM millrace.positions");
    }

    OwnBroker broker_;
    Counted counted_{1};
    Feed feed_{counted_.topic};
};

// PROTOCOL 7.2, 7.4.
TEST_F(LogCut, BelowAPositionHaltsAndNoResumeHelps) {
    feed_.send_counted(100, 10, 1);
    {
        RunningProjection running(counted_);
        ASSERT_TRUE(applies(counted_, 100));
    }
    const int64_t epoch = position_epoch();
    ASSERT_GE(epoch, 0);
    begin_epoch();
    Feed later(counted_.topic);
    later.send_counted(100, 10, 1);
    // What the log would look like had it lost records and gone on beyond where they stood.
    set_position(150, static_cast<int>(epoch));

    RunningProjection running(counted_);

    EXPECT_TRUE(halts(counted_, "log_truncated"));
    counted_.resume();
    EXPECT_TRUE(halts(counted_, "log_truncated"));
    EXPECT_EQ(counted_.applied_count(), 100);
}

// Markers and aborted records have offsets, too, and the position moves behind them.
TEST_F(LogCut, IsNotWhatAnAbortedTransactionOfALaterEpochLooksLike) {
    feed_.send_counted(100, 10, 1);
    {
        RunningProjection running(counted_);
        ASSERT_TRUE(applies(counted_, 100));
    }
    begin_epoch();
    Feed later(counted_.topic);
    const int64_t before = counted_.number("SELECT max(next_offset) FROM millrace.positions");
    later.send_aborted({{.partition = 0, .key = "k", .value = "{}"}});
    {
        RunningProjection running(counted_);
        ASSERT_TRUE(eventually(30s, [&] {
            return counted_.number("SELECT max(next_offset) FROM millrace.positions") > before + 1;
        }));
    }
    EXPECT_GT(position_epoch(), 0) << "the leader's of the position's end";
    begin_epoch();

    RunningProjection running(counted_);
    Feed last(counted_.topic);
    last.send({{.partition = 0, .key = "new", .value = "{\"n\": 1}"}});

    EXPECT_TRUE(applies(counted_, 101));
    EXPECT_EQ(running.status().halted, "");
}

TEST(LogChange, ATopicThatWasMadeAgainHalts) {
    Counted counted(1);
    {
        Feed feed(counted.topic);
        feed.send_counted(10, 10, 1);
        RunningProjection running(counted);
        ASSERT_TRUE(applies(counted, 10));
    }
    delete_topic(counted.topic);
    create_topic(counted.topic, 1);
    Feed feed(counted.topic);
    feed.send_counted(100, 10, 1);

    RunningProjection running(counted);

    EXPECT_TRUE(halts(counted, "topic_recreated"));
    EXPECT_EQ(counted.applied_count(), 10);
}

TEST(LogChange, ATopicThatIsMadeAgainUnderAReaderHalts) {
    Counted counted(1);
    RunningProjection running(counted);
    // Without millrace-seq, as other producers write: nothing but the topic's id tells.
    const auto send = [&](int count) {
        Feed feed(counted.topic);
        for (int i = 1; i <= count; ++i) {
            feed.send({{.partition = 0,
                        .key = "k" + std::to_string(count),
                        .value = "{\"n\": " + std::to_string(i) + "}"}});
        }
    };
    send(10);
    ASSERT_TRUE(applies(counted, 10));
    delete_topic(counted.topic);
    create_topic(counted.topic, 1);
    send(50);

    EXPECT_TRUE(halts(counted, "topic_recreated"));
}

TEST(LogChange, AGapHaltsBehindWhatStandsBeforeIt) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(100, 10, 1);
    feed.skip_sequence(0, 2);
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);

    ASSERT_TRUE(halts(counted, "sequence_gap: " + counted.topic + "-0@101: gap"));
    EXPECT_EQ(counted.applied_count(), 100);

    // A human has looked: the next reading begins behind the gap.
    counted.resume();
    ASSERT_TRUE(applies(counted, 200));
    EXPECT_EQ(counted.fault(200), "");
}

TEST(LogChange, AGapIsOnlyCountedIfToldSo) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.on_gap = OnGap::kCount;
    feed.send_counted(100, 10, 1);
    feed.skip_sequence(0, 2);
    feed.send_counted(100, 10, 1);
    feed.skip_sequence(0, -5);
    feed.send_counted(1, 10, 1);
    RunningProjection running(counted, options);

    ASSERT_TRUE(applies(counted, 201));
    EXPECT_EQ(running.metric("millrace_projection_sequence_gaps_total{kind=\"gap\""), 1);
    EXPECT_EQ(running.metric("millrace_projection_sequence_gaps_total{kind=\"reorder\""), 1);
    EXPECT_EQ(running.status().halted, "");
}

TEST(LogChange, ACompactedTopicIsNotJudged) {
    Counted counted(1, {{"cleanup.policy", "compact"}});
    Feed feed(counted.topic);
    feed.send_counted(100, 10, 1);
    feed.skip_sequence(0, 2);
    feed.send_counted(100, 10, 1);

    RunningProjection running(counted);

    ASSERT_TRUE(applies(counted, 200));
    EXPECT_EQ(running.metric("millrace_projection_sequence_gaps_total"), 0);
}

}  // namespace
}  // namespace millrace::test
