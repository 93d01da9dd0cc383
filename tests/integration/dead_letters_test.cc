// Poisoned events: found, set aside with their bytes, their keys kept in order behind them, and
// everything else applied (PROTOCOL 7.5, 7.7, 7.8).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "consumers/letter_store.h"
#include "consumers/projection_worker.h"
#include "consumers/redrive.h"
#include "schema/base64.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

const std::string kRefuseK3 = "RAISE 'k3 is refused' USING ERRCODE = '23514';";
const std::string kForK3 = "FOR EACH ROW WHEN (NEW.key = 'k3')";

FedMessage poison_of(std::optional<std::string> key) {
    return {.partition = 0, .key = std::move(key), .value = "\"poison\"", .headers = {}};
}

int64_t letter_count(const Counted& counted) {
    return counted.number("SELECT count(*) FROM millrace.dead_letters");
}

int64_t parked_count(const Counted& counted) {
    return counted.number("SELECT count(*) FROM millrace.parked_events");
}

// The counts beside the positions are those of the tables.
void expect_counts_agree(const Counted& counted) {
    EXPECT_EQ(counted.number("SELECT sum(letter_count)::bigint FROM millrace.positions"),
              letter_count(counted));
    EXPECT_EQ(counted.number("SELECT sum(parked_count)::bigint FROM millrace.positions"),
              parked_count(counted));
}

// Until the worker stands at the end of what was sent.
bool reaches(const Counted& counted, int64_t handled_count) {
    return eventually(60s, [&] {
        return counted.applied_count() + letter_count(counted) + parked_count(counted) >=
               handled_count;
    });
}

// Runs all letters of the counted projection, as the command does.
class Redriving {
  public:
    explicit Redriving(const Counted& counted, RedriveOptions options = {})
        : session_(counted.database.connect()),
          redrive_(session_, handler_, {.name = "counted", .version = 1}, std::move(options)) {
        handler_.open(session_);
    }

    std::vector<Redriven> run() {
        LetterStore store(session_);
        const std::vector<LetterLine> letters = store.list({}, 0, 100'000);
        std::map<TopicPartition, std::vector<LetterLine>> parts;
        for (const LetterLine& letter : letters) parts[letter.where].push_back(letter);
        RedrivenLetters done;
        for (const auto& [where, of_partition] : parts) redrive_.run(where, of_partition, done);
        std::vector<Redriven> all;
        for (auto& [id, redriven] : done) all.push_back(std::move(redriven));
        return all;
    }
    pg::Session& session() { return session_; }
    Redrive& redrive() { return redrive_; }

  private:
    pg::Session session_;
    CountedHandler handler_;
    Redrive redrive_;
};

TEST(DeadLetters, HoldTheRecordByteForByteAndItsKeyWaits) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send_counted(100, 10, 1);
    const std::string odd("\x00\xFFodd", 5);
    feed.send({{.partition = 0,
                .key = "k3",
                .value = "\"poison\"",
                .headers = {{"id", "11111111-2222-4333-8444-555555555555"},
                            {"type", "Counted"},
                            {"twice", "a"},
                            {"twice", odd}}}});
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);

    ASSERT_TRUE(reaches(counted, 201));

    EXPECT_EQ(counted.fault(190), "");
    EXPECT_EQ(parked_count(counted), 10);
    expect_counts_agree(counted);
    pg::Session session = counted.database.connect();
    LetterStore store(session);
    const std::vector<LetterLine> letters = store.list({}, 0, 10);
    ASSERT_EQ(letters.size(), 1U);
    const LetterLine& letter = letters.front();
    EXPECT_EQ(letter.reason, "unparsable_event");
    EXPECT_EQ(letter.failure_class, "record");
    EXPECT_EQ(letter.event_type, "Counted");
    EXPECT_TRUE(letter.parks);
    EXPECT_EQ(letter.parked_count, 10);
    EXPECT_EQ(letter.origin(), counted.topic + "-0@101");
    const std::optional<StoredRecord> record = store.record(letter.id);
    ASSERT_TRUE(record);
    EXPECT_EQ(record->key, "k3");
    EXPECT_EQ(record->value, "\"poison\"");
    ASSERT_EQ(record->headers.size(), 4U);
    EXPECT_EQ(record->headers[2].name, "twice");
    EXPECT_EQ(record->headers[2].value, "a");
    EXPECT_EQ(record->headers[3].name, "twice");
    EXPECT_EQ(record->headers[3].value, odd);
    EXPECT_EQ(running.status().halted, "");
    EXPECT_EQ(running.metric("millrace_projection_parked_events_total"), 10);
    // Nobody had to look for it.
    EXPECT_EQ(running.metric("millrace_projection_bisections_total"), 0);
}

TEST(DeadLetters, KeepTheirKeysParkedForTheNextOwner) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send({poison_of("k3")});
    {
        RunningProjection first(counted);
        ASSERT_TRUE(reaches(counted, 1));
    }
    feed.send_counted(100, 10, 1);
    RunningProjection second(counted);

    ASSERT_TRUE(reaches(counted, 101));
    EXPECT_EQ(counted.fault(90), "");
    EXPECT_EQ(parked_count(counted), 10);
    expect_counts_agree(counted);
}

TEST(DeadLetters, OfEventsWithoutAKeyParkNothing) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send({poison_of(std::nullopt)});
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);

    ASSERT_TRUE(reaches(counted, 101));
    EXPECT_EQ(counted.fault(100), "");
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.parked_keys"), 0);
}

TEST(DeadLetters, UnderThePolicySkipLetTheKeyGoOn) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send({poison_of("k3")});
    feed.send_counted(100, 10, 1);
    ProjectionOptions options = counted.options();
    options.letters.on_poison = OnPoison::kSkip;
    RunningProjection running(counted, options);

    ASSERT_TRUE(reaches(counted, 101));
    EXPECT_EQ(counted.fault(100), "");
    EXPECT_EQ(letter_count(counted), 1);
}

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
    expect_counts_agree(counted);
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
    RunningProjection running(counted);

    ASSERT_TRUE(reaches(counted, 3));
    EXPECT_EQ(counted.applied_count(), 1);
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters "
                             "WHERE sqlstate = '23505' AND constraint_name = 'once'"),
              2);
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

TEST(DeadLetters, OfAnEventThatAloneTakesTooLong) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert("PERFORM pg_sleep(60);", kForK3);
    ProjectionOptions options = counted.options();
    options.statement_timeout = 200ms;
    options.retry_count = 2;
    feed.send_counted(8, 8, 1);
    RunningProjection running(counted, options);

    ASSERT_TRUE(reaches(counted, 8));
    EXPECT_EQ(counted.fault(7), "");
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters WHERE class = 'overload' "
                             "AND sqlstate = '57014' AND attempts >= 2"),
              1);
}

TEST(DeadLetters, BeyondTheirCapHaltInsteadOfDropping) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.letters.letter_count_max = 2;
    feed.send({poison_of("a"), poison_of("b")});
    RunningProjection running(counted, options);
    ASSERT_TRUE(reaches(counted, 2));
    feed.send({poison_of("c")});

    ASSERT_TRUE(halts(counted, "set_aside_cap"));
    EXPECT_EQ(letter_count(counted), 2);
    expect_counts_agree(counted);
    running.stop();
    counted.resume();
    options.letters.letter_count_max = 3;
    RunningProjection next(counted, options);

    EXPECT_TRUE(eventually(20s, [&] { return letter_count(counted) == 3; }));
}

TEST(DeadLetters, ParkNoMoreThanTheirCap) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.letters.parked_count_max = 5;
    feed.send({poison_of("k3")});
    RunningProjection running(counted, options);
    ASSERT_TRUE(reaches(counted, 1));
    feed.send_counted(60, 10, 1);

    ASSERT_TRUE(halts(counted, "set_aside_cap"));
    EXPECT_LE(parked_count(counted), 5);
    running.stop();
    counted.resume();
    options.letters.parked_count_max = 6;
    RunningProjection next(counted, options);

    ASSERT_TRUE(reaches(counted, 61));
    EXPECT_EQ(parked_count(counted), 6);
    EXPECT_EQ(counted.fault(54), "");
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

TEST(DeadLetters, AreCopiedThroughTheOutboxInTheSameTransaction) {
    Counted counted(1);
    Feed feed(counted.topic);
    feed.send({{.partition = 0,
                .key = std::string("\xFF", 1),
                .value = "\"poison\"",
                .headers = {{"twice", "a"}, {"twice", "b"}}}});
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 1));

    pg::Session session = counted.database.connect();
    const pg::Result copy = session.execute(
        "SELECT topic, key, payload_bytes, headers::text FROM millrace.pending_tasks");
    ASSERT_EQ(copy.row_count(), 1);
    EXPECT_EQ(copy.text(0, 0), counted.topic + ".counted.dlq");
    EXPECT_EQ(copy.text(0, 1), encode_base64("\xFF"));
    EXPECT_EQ(copy.text(0, 2), "\"poison\"");
    const auto task = nlohmann::json::parse(copy.text(0, 3));
    const auto headers = decode_headers(task.at("millrace-headers").dump());
    ASSERT_TRUE(headers);
    std::vector<std::string> names;
    for (const RawHeader& header : *headers) names.push_back(header.name);
    EXPECT_EQ(names[0], "twice");
    EXPECT_EQ(names[1], "twice");
    EXPECT_THAT(names, testing::IsSupersetOf({"__connect.errors.topic",
                                              "kafka_dlt-original-topic", "millrace-dlq-reason",
                                              "millrace-key-encoding"}));
}

TEST(DeadLetters, StandWithoutACopyThatCanNotBeInserted) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.database.connect().execute("ALTER TABLE millrace.pending_tasks "
                                       "ADD CONSTRAINT no_copies CHECK (topic NOT LIKE '%.dlq')");
    feed.send({poison_of("k3")});
    feed.send_counted(100, 10, 1);
    RunningProjection running(counted);

    ASSERT_TRUE(reaches(counted, 101));
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(running.metric("millrace_projection_letter_copies_skipped_total"), 1);
    EXPECT_EQ(running.status().halted, "");
}

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
    expect_counts_agree(counted);
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
    expect_counts_agree(counted);
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
    expect_counts_agree(counted);

    counted.let_inserts_pass();
    Redriving(counted).run();
    EXPECT_EQ(counted.fault(100), "");
    expect_counts_agree(counted);
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
    expect_counts_agree(counted);
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
    expect_counts_agree(counted);
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
    expect_counts_agree(counted);
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
    expect_counts_agree(counted);
    // It fails again for as long as the projection is the same.
    done = Redriving(counted).run();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(name_of(done[0].outcome), "failed");
    EXPECT_EQ(counted.fault(19), "");
    expect_counts_agree(counted);
}

// Its parking was decided by keys that were read before another session took its place.
TEST(DeadLetters, ABatchKeptOverALostSessionIsCollectedAnew) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kRefuseK3, "FOR EACH ROW WHEN (NEW.key = 'k3' AND NEW.n = 1)");
    feed.send_counted(10, 10, 1);
    RunningProjection running(counted);
    ASSERT_TRUE(reaches(counted, 10));
    counted.let_inserts_pass();
    Redriving side(counted);
    pg::Session watch = counted.database.connect();
    {
        LetterStore store(side.session());
        pg::Transaction transaction(side.session());
        const LetterLine letter = store.list({}, 0, 1).front();
        lock_position(side.session(), letter.projection, letter.where);
        feed.send_counted(10, 10, 1);
        ASSERT_TRUE(eventually(20s, [&] {
            return watch.execute("SELECT count(*) FROM pg_stat_activity "
                                 "WHERE wait_event_type = 'Lock' "
                                 "AND application_name = 'millrace counted' "
                                 "AND datname = current_database()")
                       .integer(0, 0) == 1;
        }));
        store.remove(letter.projection, letter.where, {*store.record(letter.id)});
        store.free_keys(letter.projection, letter.where, {"k3"});
        watch.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                      "WHERE application_name = 'millrace counted' "
                      "AND datname = current_database()");
        transaction.commit();
    }
    feed.send_counted(10, 10, 1);

    ASSERT_TRUE(applies(counted, 29));
    EXPECT_EQ(parked_count(counted), 0);
    EXPECT_EQ(counted.number("SELECT count(*) FROM public.applied WHERE key = 'k3'"), 2);
}

// PROTOCOL 7.8: no event is at fault for what locks the dead letters' own tables.
TEST(DeadLetters, AreWaitedForWhileTheirTableIsLocked) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.statement_timeout = 300ms;
    options.retry_count = 2;
    RunningProjection running(counted, options);
    feed.send_counted(10, 10, 1);
    ASSERT_TRUE(applies(counted, 10));
    pg::Session rival = counted.database.connect();
    rival.execute("BEGIN");
    rival.execute("LOCK TABLE millrace.dead_letters IN ACCESS EXCLUSIVE MODE");
    feed.send({poison_of("k3")});
    feed.send_counted(10, 10, 1);
    ASSERT_TRUE(eventually(30s, [&] {
        return running.metric("millrace_projection_retries_total") >= 6;
    }));
    rival.execute("COMMIT");

    ASSERT_TRUE(reaches(counted, 21));
    EXPECT_EQ(counted.fault(19), "");
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters "
                             "WHERE reason = 'unparsable_event'"),
              1);
}

TEST(DeadLetters, AreNotMadeByALockOnTheReadModel) {
    Counted counted(1);
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.statement_timeout = 300ms;
    options.retry_count = 2;
    RunningProjection running(counted, options);
    feed.send_counted(1, 1, 1);
    ASSERT_TRUE(applies(counted, 1));
    pg::Session rival = counted.database.connect();
    rival.execute("BEGIN");
    rival.execute("LOCK TABLE public.totals IN ACCESS EXCLUSIVE MODE");
    feed.send_counted(1, 1, 1);
    ASSERT_TRUE(eventually(30s, [&] {
        return running.metric("millrace_projection_retries_total") >= 6;
    }));
    rival.execute("COMMIT");

    ASSERT_TRUE(applies(counted, 2));
    EXPECT_EQ(letter_count(counted), 0);
    EXPECT_EQ(running.status().halted, "");
}

// A passing trouble in the middle of the search says nothing about shares.
TEST(PoisonStorm, IsNotJudgedByASearchThatWasCutShort) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.database.connect().execute("CREATE SEQUENCE public.attempts");
    counted.at_insert("IF NEW.key = 'k300' THEN RAISE 'refused' USING ERRCODE = '23514'; END IF; "
                      "IF NEW.key = 'k301' AND nextval('public.attempts') = 1 THEN "
                      "RAISE 'not yet' USING ERRCODE = '40001'; END IF;",
                      "FOR EACH ROW WHEN (NEW.key IN ('k300', 'k301'))");
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

// What PostgreSQL can't put into an index, our own tables must take (PROTOCOL 7.8, class 54).
TEST(DeadLetters, OfAKeyTooLongForAnIndexAreFoundAndParked) {
    Counted counted(1);
    Feed feed(counted.topic);
    std::string key;
    std::mt19937 random{1};
    while (key.size() < 20'000) key += static_cast<char>('a' + random() % 26);
    feed.send({feed.counted(key, 0), feed.counted("k1", 0), feed.counted(key, 0)});
    RunningProjection running(counted);

    ASSERT_TRUE(reaches(counted, 3));
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters WHERE sqlstate = '54000'"),
              1);
    EXPECT_EQ(parked_count(counted), 1);
    EXPECT_EQ(counted.fault(1), "");
}

// A failover to a standby, as its sessions see it.
TEST(DeadLetters, AreNotMadeByADatabaseThatIsReadOnly) {
    Counted counted(1);
    Feed feed(counted.topic);
    RunningProjection running(counted);
    feed.send_counted(10, 2, 1);
    ASSERT_TRUE(applies(counted, 10));
    const auto set_read_only = [&counted](bool is_read_only) {
        pg::Session session = counted.database.connect();
        session.execute("SET transaction_read_only = off");
        session.execute("SET default_transaction_read_only = off");
        session.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET "
                        "default_transaction_read_only = " +
                        std::string(is_read_only ? "on" : "off") +
                        "', current_database()); END $$");
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()");
    };
    set_read_only(true);
    feed.send_counted(10, 2, 1);
    EXPECT_FALSE(eventually(4s, [&] { return counted.applied_count() > 10; }));
    set_read_only(false);

    ASSERT_TRUE(applies(counted, 20));
    EXPECT_EQ(counted.fault(20), "");
    EXPECT_EQ(letter_count(counted), 0);
    EXPECT_EQ(counted.halted_reason(), std::nullopt);
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
