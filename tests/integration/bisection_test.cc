// Which events of a batch are to blame, found by halves; and when not they are (PROTOCOL 7.8).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "consumers/projection_worker.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"
#include "tests/support/letters.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// PROTOCOL 7.8: k culprits among n take about k log n parts, in one transaction.
TEST(Bisection, FindsTheCulpritsInAFewParts) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("RAISE 'no' USING ERRCODE = '22003';",
                      "FOR EACH ROW WHEN (NEW.key IN ('k100', 'k900', 'k1700'))");
    feed.send_counted(2000, 2000, 1);
    ProjectionOptions options = counted.options();
    options.batch.linger = 1s;
    RunningProjection running(counted, options);

    ASSERT_TRUE(reaches(counted, 2000));

    EXPECT_EQ(counted.fault(1997), "");
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters WHERE sqlstate = '22003' "
                             "AND statement = 'counted.sql:1' "
                             "AND convert_from(key, 'UTF8') IN ('k100', 'k900', 'k1700')"),
              3);
    EXPECT_EQ(running.metric("millrace_projection_bisections_total"), 1);
    const double bound = 2 * 3 * (std::log2(2000.0 / 3) + 2);
    EXPECT_LE(running.metric("millrace_projection_bisection_parts_total"), bound);
    EXPECT_EQ(running.metric("millrace_projection_dead_letters_total"), 3);
    EXPECT_GE(running.metric("millrace_projection_bisection_parts_total"), 6);
    // All of it in one transaction.
    EXPECT_EQ(running.metric("millrace_projection_batch_seconds_count"), 1);
    EXPECT_EQ(running.metric("millrace_projection_bisected_clean_total"), 0);
}

TEST(Bisection, ParksWhatFollowsACulpritInItsOwnBatch) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kRefuseK3, "FOR EACH ROW WHEN (NEW.key = 'k3' AND NEW.n = 4)");
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);

    ASSERT_TRUE(reaches(counted, 100));
    EXPECT_EQ(counted.fault(93), "");
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(parked_count(counted), 6);
    EXPECT_TRUE(counts_agree(counted));
}

TEST(Bisection, WithoutACulpritAppliesThePartsAndIsCounted) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("IF (SELECT count(*) FROM new_rows) > 50 THEN "
                      "RAISE 'too many' USING ERRCODE = '54000'; END IF;");
    feed.send_counted(400, 10, 1);
    RunningProjection running(counted);

    ASSERT_TRUE(applies(counted, 400));
    EXPECT_EQ(counted.fault(400), "");
    EXPECT_EQ(letter_count(counted), 0);
    EXPECT_GE(running.metric("millrace_projection_bisected_clean_total"), 1);
}

// PROTOCOL 7.8: else it would escape the search, and COMMIT would be refused for ever.
TEST(Bisection, FindsTheCulpritOfADeferredConstraint) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.database.connect().execute(
        "ALTER TABLE public.applied ADD CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED");
    feed.send_counted(3, 3, 1);
    ProjectionOptions options = counted.options();
    options.batch.linger = 1s;
    RunningProjection running(counted, options);

    ASSERT_TRUE(reaches(counted, 3));
    EXPECT_EQ(counted.applied_count(), 1);
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters "
                             "WHERE sqlstate = '23505' AND constraint_name = 'once'"),
              2);
    // By the search, and not by smaller batches.
    EXPECT_EQ(running.metric("millrace_projection_bisections_total"), 1);
    EXPECT_EQ(running.metric("millrace_projection_batch_seconds_count"), 1);
}

// Its statements need each other: the first alone violates what the second mends.
TEST(Bisection, LeavesDeferredConstraintsDeferredForTheNextPart) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.database.connect().run_script(
        "ALTER TABLE public.applied ADD CONSTRAINT has_total FOREIGN KEY (key) "
        "REFERENCES public.totals DEFERRABLE INITIALLY DEFERRED");
    counted.at_insert(kRefuseK3, kForK3);
    feed.send_counted(100, 100, 1);
    RunningProjection running(counted);

    ASSERT_TRUE(reaches(counted, 100));
    EXPECT_EQ(counted.fault(99), "");
    EXPECT_EQ(letter_count(counted), 1);
}

TEST(PoisonStorm, HaltsBeforeTheTopicIsEmptiedIntoTheLetters) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(20, 10, 1);
    std::vector<FedMessage> storm;
    for (int i = 0; i < 100; ++i) storm.push_back(poison_of("p" + std::to_string(i)));
    feed.send(storm);
    ProjectionOptions options = counted.options();
    options.storm.in_a_row = 30;
    RunningProjection running(counted, options);

    ASSERT_TRUE(halts(counted, "poison_storm"));
    EXPECT_THAT(*counted.halted_reason(), testing::HasSubstr("30 events in a row"));
    EXPECT_EQ(letter_count(counted), 0);
}

TEST(PoisonStorm, FoundBySqlHaltsToo) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("RAISE 'all are refused' USING ERRCODE = '23514';", "FOR EACH ROW");
    feed.send_counted(500, 500, 1);
    ProjectionOptions options = counted.options();
    options.storm = {.share = 0.05, .event_count_window = 200, .in_a_row = 400};
    RunningProjection running(counted, options);

    ASSERT_TRUE(halts(counted, "poison_storm"));
    EXPECT_THAT(*counted.halted_reason(),
                testing::HasSubstr("11 of pg_record 23514; such as: all are"));
    EXPECT_EQ(letter_count(counted), 0);
    EXPECT_LE(running.metric("millrace_projection_bisection_parts_total"), 60);
    counted.let_inserts_pass();
    counted.resume();

    ASSERT_TRUE(applies(counted, 500));
    EXPECT_EQ(counted.fault(500), "");
}

// A passing trouble in the middle of the search: between the letters behind it stand events that
// were not tried.
TEST(PoisonStorm, IsNotJudgedByASearchThatWasCutShort) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.database.connect().execute("CREATE SEQUENCE public.attempts");
    counted.at_insert("IF NEW.key = 'k10' THEN RAISE 'refused' USING ERRCODE = '23514'; END IF; "
                      "IF NEW.key = 'k11' AND nextval('public.attempts') = 1 THEN "
                      "RAISE 'not yet' USING ERRCODE = '40001'; END IF;",
                      "FOR EACH ROW WHEN (NEW.key IN ('k10', 'k11'))");
    std::vector<FedMessage> messages;
    for (int i = 0; i < 400; ++i) {
        messages.push_back(feed.counted("k" + std::to_string(i), 0));
        if (i % 40 == 0) messages.push_back(poison_of("p" + std::to_string(i)));
    }
    feed.send(messages);
    ProjectionOptions options = counted.options();
    options.storm = {.share = 0.04, .event_count_window = 400, .in_a_row = 10};
    RunningProjection running(counted, options);

    ASSERT_TRUE(reaches(counted, 410));
    EXPECT_EQ(letter_count(counted), 11);
    EXPECT_EQ(running.status().halted, "");
}

}  // namespace
}  // namespace millrace::test
