// The way back of dead letters: through their own projection, each key in order (PROTOCOL 7.5).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "consumers/letter_store.h"
#include "consumers/redrive.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"
#include "tests/support/letters.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

TEST(Redrive, AppliesTheLetterThenWhatWaitedInOrder) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kRefuseK3, "FOR EACH ROW WHEN (NEW.key = 'k3' AND NEW.n = 4)");
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 100));
    counted.let_inserts_pass();

    // A transaction for every other event: the key is handed back by the last one.
    Redriving redriving(counted, {.event_count_first = 2});
    const std::vector<Redriven> done = redriving.run();

    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "applied") << done[0].why;
    EXPECT_EQ(done[0].parked_count, 6);
    EXPECT_EQ(counted.fault(100), "");
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.parked_keys"), 0);
    EXPECT_TRUE(counts_agree(counted));
    // The worker learns of it, by the position's epoch, and applies the key's events again.
    feed.send_counted(100, 10, 1);
    ASSERT_TRUE(applies(counted, 200));
    EXPECT_EQ(counted.fault(200), "");
    EXPECT_EQ(parked_count(counted), 0);
}

TEST(Redrive, BesideAWorkerThatParksMoreLosesAndReordersNothing) {
    Counted counted(2);
    Feed feed(counted.topic);
    counted.at_insert("RAISE 'no' USING ERRCODE = '23514';",
                      "FOR EACH ROW WHEN (NEW.n = 4)");
    ProjectionOptions options = counted.options();
    options.storm = {.share = 1, .event_count_window = 1000, .in_a_row = 1'000'000};
    RunningProjection running(counted, options);
    feed.send_counted(400, 20, 2);
    ASSERT_TRUE(reaches(counted, 400));
    ASSERT_EQ(letter_count(counted), 20);
    counted.let_inserts_pass();

    std::jthread traffic([&feed](const std::stop_token& stop) {
        for (int i = 0; i < 500 && !stop.stop_requested(); ++i) feed.send_counted(20, 20, 2);
    });
    Redriving redriving(counted, {.event_count_first = 7});
    std::vector<Redriven> done;
    for (int round = 0; round < 3; ++round) {
        for (Redriven& redriven : redriving.run()) done.push_back(std::move(redriven));
    }
    traffic.request_stop();
    traffic.join();

    EXPECT_EQ(done.size(), 20U);
    for (const Redriven& redriven : done) {
        EXPECT_EQ(name_of(redriven.outcome), "applied") << redriven.why;
    }
    ASSERT_TRUE(applies(counted, feed.sent_count()));
    EXPECT_EQ(counted.fault(feed.sent_count()), "");
    EXPECT_EQ(parked_count(counted), 0);
    EXPECT_TRUE(counts_agree(counted));
}

TEST(Redrive, StopsAKeyAtItsNextFailureAndTellsWhy) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kRefuseK3, "FOR EACH ROW WHEN (NEW.key = 'k3' AND NEW.n IN (4, 7))");
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 100));
    Redriving redriving(counted, {.redrive_count_max = 2});

    std::vector<Redriven> done = redriving.run();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "failed");
    EXPECT_THAT(done[0].why, testing::HasSubstr("23514"));
    EXPECT_EQ(counted.fault(93), "");
    redriving.run();
    done = redriving.run();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "skipped");
    EXPECT_THAT(done[0].why, testing::HasSubstr("quarantined"));

    // Its first cause is mended: the next one becomes a letter of its own.
    counted.let_inserts_pass();
    counted.database.connect().execute("DROP FUNCTION public.at_insert()");
    counted.at_insert(kRefuseK3, "FOR EACH ROW WHEN (NEW.key = 'k3' AND NEW.n = 7)");
    Redriving lifting(counted, {.runs_quarantined = true});
    done = lifting.run();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "applied") << done[0].why;
    EXPECT_EQ(done[0].parked_count, 2);
    EXPECT_THAT(done[0].stopped_at, testing::HasSubstr("23514"));
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(parked_count(counted), 3);
    EXPECT_TRUE(counts_agree(counted));

    counted.let_inserts_pass();
    Redriving(counted).run();
    EXPECT_EQ(counted.fault(100), "");
    EXPECT_TRUE(counts_agree(counted));
}

// An operator asks for an answer, and the other letters for their turn.
TEST(Redrive, BlamesARecordAlsoWhereTheProjectionWaits) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("RAISE 'k3 is refused';", kForK3);
    feed.send_counted(10, 10, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 10));
    Redriving redriving(counted, {.overrides = {parse_override("P0", "environment")}});

    const std::vector<Redriven> done = redriving.run();

    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].outcome, Redriven::Outcome::kFailed);
    EXPECT_EQ(done[0].cause, "pg_record P0001");
}

TEST(Redrive, AsADryRunChangesNothing) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kRefuseK3, "FOR EACH ROW WHEN (NEW.key = 'k3' AND NEW.n = 4)");
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 100));
    counted.let_inserts_pass();

    const std::vector<Redriven> done = Redriving(counted, {.is_dry_run = true}).run();

    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "applied");
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(parked_count(counted), 6);
    EXPECT_EQ(counted.fault(93), "");
    EXPECT_TRUE(counts_agree(counted));
}

TEST(Redrive, OfASkippedLetterAsksWhetherOrderMatters) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kRefuseK3, "FOR EACH ROW WHEN (NEW.key = 'k3' AND NEW.n = 1)");
    feed.send_counted(20, 10, 1);
    ProjectionOptions options = counted.options();
    options.letters.on_poison = OnPoison::kSkip;
    RunningProjection running(counted, options);
    ASSERT_TRUE(reaches(counted, 20));
    counted.let_inserts_pass();

    std::vector<Redriven> done = Redriving(counted).run();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "skipped");
    EXPECT_THAT(done[0].why, testing::HasSubstr("--out-of-order"));
    done = Redriving(counted, {.is_out_of_order = true}).run();

    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "applied") << done[0].why;
    EXPECT_EQ(counted.applied_count(), 20);
    EXPECT_TRUE(counts_agree(counted));
}

// What is left when a letter was discarded, or its re-drive died half-way.
TEST(Redrive, FinishesAKeyThatWaitsBehindNoLetter) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send({poison_of("k3")});
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 101));
    Redriving redriving(counted);
    {
        LetterStore store(redriving.session());
        pg::Transaction transaction(redriving.session());
        const std::vector<LetterLine> letters = store.list({}, 0, 1);
        const std::optional<StoredRecord> record = store.record(letters[0].id);
        lock_position(redriving.session(), letters[0].projection, letters[0].where);
        store.remove(letters[0].projection, letters[0].where, {*record});
        transaction.commit();
    }
    const std::vector<ParkedKey> keys =
        LetterStore(redriving.session()).keys_without_letter("counted", std::nullopt);
    ASSERT_EQ(keys.size(), 1U);

    EXPECT_EQ(redriving.redrive().finish(keys[0].where, keys[0].key).parked_count, 10);

    EXPECT_EQ(counted.fault(100), "");
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.parked_keys"), 0);
    EXPECT_TRUE(counts_agree(counted));
}

// Behind a letter stands what can't be parsed, which nobody has tried yet.
TEST(Redrive, MakesALetterOfWhatCanNotBeParsedAndGoesOnWithTheOthers) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("RAISE 'no' USING ERRCODE = '23514';",
                      "FOR EACH ROW WHEN (NEW.key IN ('k3', 'k4') AND NEW.n = 1)");
    feed.send_counted(10, 10, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 10));
    feed.send({poison_of("k3")});
    feed.send_counted(10, 10, 1);
    ASSERT_TRUE(reaches(counted, 21));
    counted.let_inserts_pass();

    std::vector<Redriven> done = Redriving(counted).run();

    ASSERT_EQ(done.size(), 2U);
    EXPECT_EQ(name_of(done[0].outcome), "applied") << done[0].why;
    EXPECT_THAT(done[0].stopped_at, testing::HasSubstr("unparsable_event"));
    EXPECT_EQ(name_of(done[1].outcome), "applied") << done[1].why;
    EXPECT_EQ(done[1].parked_count, 1);
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(parked_count(counted), 1);
    EXPECT_TRUE(counts_agree(counted));
    // It fails again for as long as the projection is the same.
    done = Redriving(counted).run();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "failed");
    EXPECT_EQ(counted.fault(19), "");
    EXPECT_TRUE(counts_agree(counted));
}

TEST(LetterStore, FiltersByEachColumn) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("RAISE 'no' USING ERRCODE = '23514', CONSTRAINT = 'chosen';", kForK3);
    feed.send({{.partition = 0, .key = "p", .value = "\"poison\"", .headers = {}},
               feed.counted("k3", 0)});
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 2));
    pg::Session session = counted.database.connect();
    LetterStore store(session);
    const auto count = [&](const LetterFilter& filter) {
        return store.count(filter).letter_count;
    };
    const std::vector<LetterLine> all = store.list({}, 0, 10);
    ASSERT_EQ(all.size(), 2U);

    EXPECT_EQ(count({}), 2);
    EXPECT_EQ(count({.projection = "counted"}), 2);
    EXPECT_EQ(count({.projection = "other"}), 0);
    EXPECT_EQ(count({.ids = {all[1].id, 4711}}), 1);
    EXPECT_EQ(count({.failure_class = "record"}), 2);
    EXPECT_EQ(count({.failure_class = "overload"}), 0);
    EXPECT_EQ(count({.reason = "unparsable_event"}), 1);
    EXPECT_EQ(count({.sqlstate = "23514"}), 1);
    EXPECT_EQ(count({.constraint = "chosen"}), 1);
    EXPECT_EQ(count({.constraint = "23514"}), 0);
    EXPECT_EQ(count({.key = "k3"}), 1);
    EXPECT_EQ(count({.type = "Counted"}), 1);
    EXPECT_EQ(count({.since = "2001-01-01T00:00:00Z"}), 2);
    EXPECT_EQ(count({.until = "2001-01-01T00:00:00Z"}), 0);
    EXPECT_EQ(store.count({}).newest_id, all[1].id);
}

}  // namespace
}  // namespace millrace::test
