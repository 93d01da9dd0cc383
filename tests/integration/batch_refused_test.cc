// What PostgreSQL, or our own parsing, refuses in a batch, and what follows (PROTOCOL 7.8).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "consumers/projection_worker.h"
#include "tests/support/broker.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

const std::string kConflict = "RAISE 'not yet' USING ERRCODE = '40001';";
const std::string kDie = "PERFORM pg_terminate_backend(pg_backend_pid());";
// The rows of one key, which has one event in eight.
const std::string kForK7 = "FOR EACH ROW WHEN (NEW.key = 'k7')";

bool contains(const std::optional<std::string>& text, const std::string& part) {
    return text && text->find(part) != std::string::npos;
}

// Under which one poisoned event keeps the projection from going on.
ProjectionOptions halting(const Counted& counted) {
    ProjectionOptions options = counted.options();
    options.letters.on_poison = OnPoison::kHalt;
    return options;
}

double retries(const RunningProjection& running, const std::string& sqlstate) {
    return running.metric("millrace_projection_retries_total{projection=\"counted\",sqlstate=\"" +
                          sqlstate + "\"}");
}

TEST(BatchRefused, AsADeadlocksVictimIsTriedAgain) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(20, 2, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(applies(counted, 20));
    pg::Session rival = counted.database.connect();
    // The other side looks for deadlocks later, so the victim is ours.
    rival.execute("SET deadlock_timeout = '60s'");

    for (int i = 0; i < 3; ++i) {
        pg::Transaction transaction(rival);
        transaction.execute("UPDATE public.totals SET n = n WHERE key = 'k1'");
        feed.send_counted(20, 2, 1);
        // Our batch has k0 and waits for k1.
        ASSERT_TRUE(eventually(20s, [&] {
            return counted.number("SELECT count(*) FROM pg_stat_activity "
                                  "WHERE wait_event_type = 'Lock' "
                                  "AND application_name = 'millrace counted' "
                                  "AND datname = current_database()") == 1;
        }));
        transaction.execute("UPDATE public.totals SET n = n WHERE key = 'k0'");
        transaction.commit();
        ASSERT_TRUE(applies(counted, feed.sent_count()));
    }

    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_GE(retries(running, "40P01"), 3);
    EXPECT_GE(running.metric("millrace_failures_total{reason=\"pg_conflict\"}"), 3);
}

TEST(BatchRefused, AsOneEventByAConflictIsTriedForEver) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.database.connect().execute("CREATE SEQUENCE public.attempts");
    counted.at_insert("IF nextval('public.attempts') <= 30 THEN " + kConflict + " END IF;");
    ProjectionOptions options = counted.options();
    options.retry_backoff = 1ms;
    feed.send_counted(64, 2, 1);
    RunningProjection running(counted, options);

    ASSERT_TRUE(applies(counted, 64));
    EXPECT_EQ(counted.fault(64), "");
    // Five tries of 64, 32, 16, 8, 4 and 2, the thirtieth of which shrinks the batch to one.
    EXPECT_EQ(retries(running, "40001"), 30);
    EXPECT_EQ(running.status().halted, "");
}

TEST(BatchRefused, ForTakingTooLongIsHalved) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("IF (SELECT count(*) FROM new_rows) > 50 THEN PERFORM pg_sleep(60); END IF;");
    ProjectionOptions options = counted.options();
    options.statement_timeout = 200ms;
    feed.send_counted(300, 3, 1);
    RunningProjection running(counted, options);

    ASSERT_TRUE(applies(counted, 300));
    EXPECT_EQ(counted.fault(300), "");
    EXPECT_GE(retries(running, "57014"), 3);
}

// Each statement below its time, all of them together above that of one call.
TEST(BatchRefused, NotForStatementsThatTakeLongTogether) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("PERFORM pg_sleep(0.8);");
    counted.database.connect().run_script(R"(
        CREATE TRIGGER slow AFTER INSERT ON public.totals
        FOR EACH STATEMENT EXECUTE FUNCTION public.at_insert();
        CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON public.totals
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.at_insert())");
    ProjectionOptions options = counted.options();
    options.statement_timeout = 1000ms;
    feed.send_counted(20, 1, 1);
    RunningProjection running(counted, options);

    ASSERT_TRUE(applies(counted, 20));
    EXPECT_EQ(counted.fault(20), "");
    EXPECT_EQ(running.metric("millrace_projection_sends_lost_total"), 0);
}

TEST(BatchRefused, ByTheEndOfItsOwnBackendIsHalved) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("IF (SELECT count(*) FROM new_rows) > 50 THEN " + kDie + " END IF;");
    ProjectionOptions options = counted.options();
    options.retry_count = 2;
    feed.send_counted(300, 3, 1);
    RunningProjection running(counted, options);

    ASSERT_TRUE(applies(counted, 300));
    EXPECT_EQ(counted.fault(300), "");
    // Two sends each of 300, 150 and 75.
    EXPECT_GE(running.metric("millrace_projection_sends_lost_total"), 6);
    EXPECT_EQ(running.status().halted, "");
}

TEST(BatchRefused, AsOneEventThatEndsItsBackendIsShownAndTriedForEver) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kDie, kForK7);
    ProjectionOptions options = counted.options();
    options.retry_count = 2;
    feed.send_counted(8, 8, 1);
    RunningProjection running(counted, options);

    EXPECT_TRUE(eventually(60s, [&] {
        const ProjectionStatus status = running.status();
        const std::string event = counted.topic + "-0@7-7 was sent 3 times";
        return !status.waiting.empty() && contains(status.waiting[0], event);
    }));
    EXPECT_EQ(counted.applied_count(), 7);
    EXPECT_EQ(counted.halted_reason(), std::nullopt);
    counted.let_inserts_pass();

    ASSERT_TRUE(applies(counted, 8));
    EXPECT_EQ(counted.fault(8), "");
    EXPECT_TRUE(eventually(10s, [&] { return running.status().waiting.empty(); }));
}

// One event that fails for ever, as long as `body` says so, in one of two partitions of one loop.
void expect_other_partition_goes_on(const std::string& body) {
    Counted counted(2);
    Feed feed(counted.topic);
    counted.at_insert(body, kForK7);
    ProjectionOptions options = counted.options();
    options.retry_count = 2;
    feed.send_counted(8, 8, 2);
    RunningProjection running(counted, options);
    const auto applied = [&] {
        return counted.number("SELECT count(*) FROM public.applied WHERE key = 'k0'");
    };
    ASSERT_TRUE(eventually(60s, [&] { return !running.status().waiting.empty(); }));

    for (int round = 2; round <= 5; ++round) {
        feed.send_counted(8, 8, 2);
        EXPECT_TRUE(eventually(20s, [&] { return applied() == round; })) << "round " << round;
    }
    EXPECT_EQ(counted.halted_reason(), std::nullopt);
    counted.let_inserts_pass();

    ASSERT_TRUE(applies(counted, 40));
    EXPECT_EQ(counted.fault(40), "");
}

TEST(BatchRefused, AsOneEventThatEndsItsBackendHoldsUpNoOtherPartition) {
    expect_other_partition_goes_on(kDie);
}

TEST(BatchRefused, AsOneEventByAConflictHoldsUpNoOtherPartition) {
    expect_other_partition_goes_on(kConflict);
}

TEST(BatchRefused, AsOneEventByAMissingRightHoldsUpNoOtherPartition) {
    expect_other_partition_goes_on("RAISE 'not allowed' USING ERRCODE = '42501';");
}

// No record is at fault for a statement that our own preparing waits for.
TEST(BatchRefused, BeforeAnyBatchForWantOfTimeIsWaitedFor) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(20, 2, 1);
    pg::Session rival = counted.database.connect();
    rival.execute("BEGIN");
    rival.execute("LOCK TABLE millrace.positions IN ACCESS EXCLUSIVE MODE");
    ProjectionOptions options = counted.options();
    options.retry_count = 2;
    options.statement_timeout = 200ms;
    RunningProjection running(counted, options);
    EXPECT_FALSE(eventually(4s, [&] { return counted.applied_count() > 0; }));
    EXPECT_EQ(running.status().halted, "");
    rival.execute("COMMIT");

    ASSERT_TRUE(applies(counted, 20));
    EXPECT_EQ(counted.halted_reason(), std::nullopt);
}

// A mistake in the statements themselves: no event is at hand that could be at fault.
TEST(BatchRefused, BeforeAnyBatchForAValueHalts) {
    class Mistaken : public CountedHandler {
      public:
        void open(pg::Session& session) override {
            CountedHandler::open(session);
            session.execute("SELECT 'x'::integer");
        }
    };
    Counted counted(1);
    RunningProjection running(counted, counted.options(),
                              [] { return std::make_unique<Mistaken>(); });

    EXPECT_TRUE(halts(counted, "22P02"));
}

// Waits as long as something around the projection is broken, accuses no record, and goes on.
void expect_waits_for_the_environment(const Counted& counted, const ProjectionOptions& options,
                                      const std::string& sqlstate,
                                      const std::function<void()>& mend) {
    Feed feed(counted.topic);
    feed.send_counted(20, 2, 1);
    RunningProjection running(counted, options);
    ASSERT_TRUE(eventually(20s, [&] {
        const ProjectionStatus status = running.status();
        return !status.waiting.empty() && contains(status.waiting[0], sqlstate);
    }));
    EXPECT_GE(running.metric("millrace_projection_waiting"), 1);
    EXPECT_EQ(counted.halted_reason(), std::nullopt);
    mend();

    ASSERT_TRUE(applies(counted, 20));
    EXPECT_EQ(counted.fault(20), "");
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters"), 0);
    EXPECT_TRUE(eventually(10s, [&] { return running.status().waiting.empty(); }));
    EXPECT_EQ(running.metric("millrace_projection_waiting"), 0);
}

TEST(BatchRefused, ByATableThatIsGoneWaitsAndGoesOnByItself) {
    Counted counted(1);
    pg::Session session = counted.database.connect();
    session.execute("ALTER TABLE public.totals RENAME TO gone");

    expect_waits_for_the_environment(counted, counted.options(), "42P01", [&session] {
        session.execute("ALTER TABLE public.gone RENAME TO totals");
    });
}

TEST(BatchRefused, ByARightThatWasRevokedWaitsAndGoesOnByItself) {
    Counted counted(1);
    pg::Session session = counted.database.connect();
    const std::string name = fresh_name("worker");
    const std::string role = "\"" + name + "\"";
    session.execute("CREATE ROLE " + role);
    session.execute("GRANT USAGE ON SCHEMA public, millrace TO " + role);
    session.execute("GRANT ALL ON ALL TABLES IN SCHEMA public, millrace TO " + role);
    session.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO " + role);
    session.execute("REVOKE INSERT ON public.applied FROM " + role);
    ProjectionOptions options = counted.options();
    options.session.url += " options='-c role=" + name + "'";

    expect_waits_for_the_environment(counted, options, "42501", [&] {
        session.execute("GRANT INSERT ON public.applied TO " + role);
    });
    session.execute("DROP OWNED BY " + role);
    session.execute("DROP ROLE " + role);
}

// A device that is always full takes the place of the table's file.
TEST(BatchRefused, ByAFullDiskWaitsAndGoesOnByItself) {
    Counted counted(1);
    pg::Session session = counted.database.connect();
    // Nobody writes to the file later on.
    session.execute("CHECKPOINT");
    const std::string file =
        session
            .execute("SELECT current_setting('data_directory') || '/' || "
                     "pg_relation_filepath('public.applied')")
            .text(0, 0);
    const std::string kept = file + ".kept";
    std::filesystem::rename(file, kept);
    std::filesystem::create_symlink("/dev/full", file);

    expect_waits_for_the_environment(counted, counted.options(), "53100", [&] {
        std::filesystem::remove(file);
        std::filesystem::rename(kept, file);
        // The worker's backend has the device open.
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()");
    });
}

TEST(BatchRefused, ForAConstraintHaltsTheFleetAndNamesIt) {
    Counted counted(2);
    Feed feed(counted.topic);
    RunningProjection first(counted, halting(counted));
    RunningProjection second(counted, halting(counted));
    feed.send_counted(20, 2, 2);
    ASSERT_TRUE(applies(counted, 20));
    counted.database.connect().execute(
        "ALTER TABLE public.totals ADD CONSTRAINT at_most_ten CHECK (n <= 10)");

    feed.send_counted(20, 2, 2);

    ASSERT_TRUE(halts(counted));
    const auto reason = counted.halted_reason();
    EXPECT_TRUE(contains(reason, "pg_record")) << *reason;
    EXPECT_THAT(*reason, testing::ContainsRegex(counted.topic + "-[01]@[0-9]+-[0-9]+: "));
    EXPECT_TRUE(contains(reason, "counted.sql:2")) << *reason;
    EXPECT_TRUE(contains(reason, "[23514]")) << *reason;
    EXPECT_TRUE(contains(reason, "constraint at_most_ten")) << *reason;
    EXPECT_TRUE(contains(reason, "millrace projection resume counted")) << *reason;
    EXPECT_TRUE(eventually(10s, [&] {
        return !first.status().halted.empty() && !second.status().halted.empty();
    }));
    EXPECT_EQ(first.metric("millrace_projection_halted{projection=\"counted\","
                           "reason=\"pg_record\"}"),
              1);

    counted.database.connect().execute("ALTER TABLE public.totals DROP CONSTRAINT at_most_ten");
    counted.resume();

    ASSERT_TRUE(applies(counted, 40));
    EXPECT_EQ(counted.fault(40), "");
    EXPECT_TRUE(eventually(10s, [&] {
        return first.status().halted.empty() && second.status().halted.empty();
    }));
    EXPECT_EQ(first.metric("millrace_projection_halted"), 0);
}

// The loop's upkeep is due when the refusal comes, and the loop has left its group.
TEST(BatchRefused, AfterASecondHaltsAndLivesOn) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("PERFORM pg_sleep(1.2); RAISE 'refused' USING ERRCODE = '23514';");
    feed.send_counted(20, 2, 1);
    RunningProjection running(counted, halting(counted));

    ASSERT_TRUE(halts(counted));
    counted.let_inserts_pass();
    counted.resume();

    ASSERT_TRUE(applies(counted, 20));
    EXPECT_EQ(counted.fault(20), "");
}

TEST(BatchRefused, AtItsCommitHaltsWithTheConstraint) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.database.connect().execute(
        "ALTER TABLE public.applied ADD CONSTRAINT once UNIQUE (n) DEFERRABLE INITIALLY DEFERRED");
    RunningProjection running(counted, halting(counted));

    feed.send_counted(2, 2, 1);

    ASSERT_TRUE(halts(counted));
    EXPECT_TRUE(contains(counted.halted_reason(), "COMMIT")) << *counted.halted_reason();
    EXPECT_TRUE(contains(counted.halted_reason(), "constraint once")) << *counted.halted_reason();
    // What stands before it is applied.
    EXPECT_EQ(counted.applied_count(), 1);
}

TEST(BatchRefused, ByOurParsingHaltsBehindWhatStandsBeforeIt) {
    Counted counted(1);
    Feed feed(counted.topic);
    for (int i = 0; i < 5; ++i) feed.send_counted(100, 10, 1);
    feed.send({{.partition = 0, .key = "k0", .value = "\"poison\"", .headers = {}}});
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted, halting(counted));

    ASSERT_TRUE(halts(counted));

    EXPECT_EQ(counted.applied_count(), 500);
    const auto reason = counted.halted_reason();
    // 500 events and five markers stand before it.
    EXPECT_TRUE(contains(reason, counted.topic + "-0@505: $.n")) << *reason;
    EXPECT_TRUE(contains(reason, "column n")) << *reason;
    // A process that starts anew meets the halt before it reads anything.
    running.stop();
    RunningProjection next(counted, halting(counted));
    EXPECT_TRUE(eventually(10s, [&] { return !next.status().halted.empty(); }));
    EXPECT_EQ(counted.applied_count(), 500);
}

TEST(BatchRefused, OfOneProjectionLeavesTheOthersAlone) {
    Counted counted(1);
    Counted other(1);
    Feed feed(counted.topic);
    Feed other_feed(other.topic);
    feed.send({{.partition = 0, .key = "k0", .value = "\"poison\"", .headers = {}}});
    RunningProjection running(counted, halting(counted));
    RunningProjection other_running(other);
    ASSERT_TRUE(halts(counted));

    other_feed.send_counted(100, 10, 1);

    ASSERT_TRUE(applies(other, 100));
    EXPECT_EQ(other_running.status().halted, "");
}

// A code of ours that an author's trigger raises must not be taken for ours.
TEST(BatchRefused, ByATriggerThatRaisesOurCodeHalts) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("RAISE 'mine' USING ERRCODE = 'MR001';");
    feed.send_counted(1, 1, 1);
    RunningProjection running(counted);

    EXPECT_TRUE(halts(counted, "pg_bug"));
}

}  // namespace
}  // namespace millrace::test
