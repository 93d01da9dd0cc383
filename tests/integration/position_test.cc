// Who may move a position, and what became of a batch whose COMMIT got lost (PROTOCOL 7.1 to 7.4).

#include "consumers/positions.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>

#include "consumers/projection_worker.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"
#include "tests/support/forked.h"
#include "tests/support/forwarder.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

ProjectionOptions options_by(const Forwarder& postgres, const Counted& counted) {
    ProjectionOptions options = counted.options();
    options.session.url = counted.database.url_by(postgres.port());
    return options;
}

// Back to this offset, as an operator moves it: the epoch rises, the owner stays.
void rewind(const Counted& counted, int64_t offset) {
    const std::string from = std::to_string(offset);
    counted.database.connect().run_script(
        "BEGIN; UPDATE millrace.positions SET next_offset = " + from + ", epoch = epoch + 1; "
        "DELETE FROM public.applied WHERE off >= " + from + "; DELETE FROM public.totals; "
        "INSERT INTO public.totals SELECT key, count(*) FROM public.applied GROUP BY key; COMMIT");
}

// The sessions of the projection's loops.
constexpr const char* kEndSessions =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'millrace counted'";

TEST(Position, IsFencedFromASecondOwner) {
    Counted counted(2);
    Feed feed(counted.topic);
    // Two groups, so that each loop believes that all partitions are its own.
    ProjectionOptions other = counted.options();
    other.group += ".other";
    RunningProjection first(counted);
    RunningProjection second(counted, other);

    for (int i = 0; i < 100; ++i) {
        feed.send_counted(100, 20, counted.partition_count);
        // Long enough for each to take the positions back a few times.
        ASSERT_TRUE(applies(counted, feed.sent_count() - 1000));
    }

    ASSERT_TRUE(applies(counted, feed.sent_count()));
    ASSERT_TRUE(eventually(60s, [&] {
        feed.send_counted(20, 20, counted.partition_count);
        return first.metric("millrace_projection_positions_lost_total") > 0 &&
               second.metric("millrace_projection_positions_lost_total") > 0;
    }));
    ASSERT_TRUE(applies(counted, feed.sent_count()));
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
}

TEST(Position, DecidesWhatBecameOfABatchWhoseSessionWasEnded) {
    Counted counted(2);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.batch.event_count = 50;
    std::atomic<int> batch_count = 0;
    std::atomic<int64_t> ended_count = 0;
    RunningProjection running(counted, options, [&] {
        auto handler = std::make_unique<CountedHandler>();
        // In the middle of every tenth batch.
        handler->between_statements = [&] {
            if (++batch_count % 10 == 0) ended_count += counted.number(kEndSessions);
        };
        return handler;
    });
    for (int i = 0; i < 10; ++i) feed.send_counted(500, 50, counted.partition_count);

    ASSERT_TRUE(applies(counted, feed.sent_count()));
    running.stop();
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_GE(ended_count, 10);
    EXPECT_EQ(running.status().halted, "");
}

TEST(Position, DecidesThatALostCommitHasHappened) {
    Counted counted(1);
    Feed feed(counted.topic);
    Forwarder postgres(counted.database.server_address());
    postgres.open();
    RunningProjection running(counted, options_by(postgres, counted));
    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(applies(counted, 100));

    for (int i = 1; i <= 10; ++i) {
        postgres.lose_next_commit();
        feed.send_counted(100, 10, 1);
        ASSERT_TRUE(eventually(30s, [&] { return postgres.lost_commit_count() == i; }));
        ASSERT_TRUE(applies(counted, feed.sent_count()));
    }

    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(applies(counted, feed.sent_count()));
    running.stop();
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_EQ(running.metric("millrace_projection_events_applied_total"), 1200);
}

TEST(Position, WaitsForPostgresAndGoesOn) {
    Counted counted(1);
    Feed feed(counted.topic);
    Forwarder postgres(counted.database.server_address());
    RunningProjection running(counted, options_by(postgres, counted));
    ASSERT_TRUE(eventually(30s, [&] { return !running.status().waiting.empty(); }));

    postgres.open();
    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(applies(counted, 100));
    postgres.close();
    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(eventually(30s, [&] { return !running.status().waiting.empty(); }));
    postgres.open();

    ASSERT_TRUE(applies(counted, 200));
    EXPECT_EQ(counted.fault(200), "");
    EXPECT_TRUE(eventually(10s, [&] { return running.status().waiting.empty(); }));
}

// PROTOCOL 7.3: the batch is refused, and the connection goes before its new position is read.
TEST(Position, ThatMovedWhileTheConnectionBrokeIsAdoptedLater) {
    Counted counted(1);
    Feed feed(counted.topic);
    Forwarder postgres(counted.database.server_address());
    postgres.open();
    RunningProjection running(counted, options_by(postgres, counted));
    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(applies(counted, 100));

    for (int i = 1; i <= 5; ++i) {
        rewind(counted, 50);
        postgres.break_after_next_rollback();
        feed.send_counted(10, 10, 1);
        ASSERT_TRUE(applies(counted, feed.sent_count()));
    }

    running.stop();
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_EQ(running.metric("millrace_projection_sends_lost_total"), 0);
}

// PROTOCOL 7.3.
TEST(Position, ThatAnOperatorMovedIsAdopted) {
    Counted counted(1);
    Feed feed(counted.topic);
    RunningProjection running(counted);
    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(applies(counted, 100));

    rewind(counted, 50);
    feed.send_counted(10, 10, 1);

    ASSERT_TRUE(applies(counted, 110));
    running.stop();
    EXPECT_EQ(counted.fault(110), "");
    EXPECT_EQ(running.metric("millrace_projection_positions_lost_total"), 1);
}

// Back and back again while much is read ahead: nothing of an earlier stretch of reading may pass
// for the next one's (PROTOCOL 7.4).
TEST(Position, ThatIsMovedBackManyTimesSkipsNothing) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.batch.event_count = 100;
    for (int i = 0; i < 10; ++i) feed.send_counted(2000, 10, 1);
    RunningProjection running(counted, options);

    for (int i = 0; i < 15; ++i) {
        ASSERT_TRUE(applies(counted, 1500));
        rewind(counted, 500);
    }

    ASSERT_TRUE(applies(counted, feed.sent_count()));
    running.stop();
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
}

TEST(Position, ThatIsLockedHoldsUpNoOtherPartition) {
    Counted counted(2);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.statement_timeout = 500ms;
    RunningProjection running(counted, options);
    feed.send_counted(20, 2, 2);
    ASSERT_TRUE(applies(counted, 20));
    pg::Session rival = counted.database.connect();
    rival.execute("SET idle_in_transaction_session_timeout = 0");
    {
        pg::Transaction transaction(rival);
        transaction.execute("SELECT FROM millrace.positions WHERE partition = 0 FOR UPDATE");
        for (int i = 1; i <= 5; ++i) {
            feed.send_counted(20, 2, 2);
            ASSERT_TRUE(eventually(60s, [&] {
                return counted.number("SELECT count(*) FROM public.applied "
                                      "WHERE partition = 1") == 10 + 10 * i;
            }));
        }
        EXPECT_EQ(counted.number("SELECT count(*) FROM public.applied WHERE partition = 0"), 10);
        EXPECT_TRUE(eventually(20s, [&] { return !running.status().waiting.empty(); }));
    }

    ASSERT_TRUE(applies(counted, feed.sent_count()));
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_TRUE(eventually(10s, [&] { return running.status().waiting.empty(); }));
}

TEST(Position, ThatWasRemovedHaltsInsteadOfBeginningAgain) {
    Counted counted(2);
    Feed feed(counted.topic);
    const auto has_halted = [&] {
        const auto reason = counted.halted_reason();
        return reason && reason->starts_with("position_missing: " + counted.topic + "-1");
    };
    RunningProjection running(counted);
    feed.send_counted(20, 2, 2);
    ASSERT_TRUE(applies(counted, 20));

    // The last partition: the one that might also have appeared just now.
    counted.database.connect().execute("DELETE FROM millrace.positions WHERE partition = 1");
    feed.send_counted(20, 2, 2);
    ASSERT_TRUE(eventually(30s, has_halted));
    running.stop();
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.positions"), 1);
    counted.resume();
    RunningProjection next(counted);

    EXPECT_TRUE(eventually(30s, has_halted));
    EXPECT_EQ(counted.number("SELECT count(*) FROM public.applied WHERE partition = 1"), 10);
}

// Two loops that see a projection for the first time at different moments.
TEST(Position, IsResolvedOnceWhoeverLooksWhen) {
    Counted counted(2);
    pg::Session first = counted.database.connect();
    pg::Session second = counted.database.connect();
    Positions early(first, {.name = "counted", .version = 1}, Uuid::random());
    Positions late(second, {.name = "counted", .version = 1}, Uuid::random());
    const auto seen = [&](int64_t end, int32_t partition_count) {
        NewTopic topic{.topic = "t", .partition_count = partition_count};
        for (int32_t i = 0; i < partition_count; ++i) {
            topic.positions.push_back({.where = {.topic = "t", .partition = i},
                                       .next_offset = end,
                                       .topic_id = Uuid::random()});
        }
        return std::vector<NewTopic>{topic};
    };
    ASSERT_FALSE(early.is_seen());
    ASSERT_FALSE(late.is_seen());

    // The later one has looked at a log that grew, by records and by a partition.
    EXPECT_TRUE(early.seed(seen(100, 2)));
    EXPECT_FALSE(late.seed(seen(105, 3)));

    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.positions WHERE next_offset = 100"), 2);
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.positions"), 2);
    EXPECT_EQ(late.partition_count("t"), 2);
}

// A broker that has not heard of new partitions yet must not make known ones look new: a position
// that was removed would begin again in silence.
TEST(Position, ForgetsNoPartitionThatABrokerDoesNotKnowYet) {
    Counted counted(2);
    pg::Session session = counted.database.connect();
    Positions positions(session, {.name = "counted", .version = 1}, Uuid::random());
    ASSERT_TRUE(positions.seed({{.topic = "t", .partition_count = 3}}));

    positions.grow({.topic = "t", .partition_count = 2}, 3);

    EXPECT_EQ(positions.partition_count("t"), 3);
}

// A loop that waits for PostgreSQL is alive, and its stop does not wait for the statement's end.
TEST(Position, OfABatchThatRunsLongIsLeftAloneByAStop) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("PERFORM pg_sleep(600);");
    ProjectionOptions options = counted.options();
    options.statement_timeout = 60s;
    feed.send_counted(20, 1, 1);
    RunningProjection running(counted, options);
    ASSERT_TRUE(eventually(60s, [&] {
        return counted.number("SELECT count(*) FROM pg_stat_activity "
                              "WHERE application_name = 'millrace counted' "
                              "AND datname = current_database() AND state = 'active' "
                              "AND clock_timestamp() - query_start > interval '4 s'") == 1;
    }));
    EXPECT_TRUE(eventually(30s, [&] { return running.status().longest_silence < 2s; }));

    running.stop();

    // It was not waited for until PostgreSQL ended the statement.
    EXPECT_EQ(running.metric("millrace_projection_retries_total"), 0);
    EXPECT_EQ(counted.applied_count(), 0);
    counted.let_inserts_pass();
    RunningProjection next(counted);
    ASSERT_TRUE(applies(counted, 20));
    EXPECT_EQ(counted.fault(20), "");
}

// PROTOCOL 7.2a.
TEST(Position, ThatAStoppedWorkerLocksIsFreedByEndingItsSession) {
    Counted counted(1);
    ProjectionOptions options = counted.options();
    // Stops itself in the middle of sending a batch of 2 MB, the position's row locked.
    Forked stopped([&] {
        Metrics metrics;
        ProjectionMetrics projection_metrics(metrics, "counted");
        kafka::Reaper reaper;
        const ProjectionShared shared{counted.halt_switch(), reaper, projection_metrics};
        auto handler = std::make_unique<CountedHandler>();
        handler->between_statements = [] { raise(SIGSTOP); };
        WorkerWatch watch(projection_metrics.waiting);
        ProjectionWorker(options, shared, std::move(handler), watch).run(std::stop_token());
    });
    Feed feed(counted.topic);
    feed.send_large(20);
    ASSERT_TRUE(stopped.wait_stopped(60s));
    ASSERT_EQ(counted.applied_count(), 0);

    RunningProjection running(counted);
    ASSERT_TRUE(applies(counted, 20, 20s));
    EXPECT_EQ(running.metric("millrace_projection_backends_terminated_total"), 1);

    stopped.signal(SIGCONT);
    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(applies(counted, 120));
    EXPECT_EQ(counted.fault(120), "");
}

}  // namespace
}  // namespace millrace::test
