// Poisoned events: set aside with their bytes, their keys kept in order behind them, and everything
// else applied (PROTOCOL 7.5, 7.7, 7.8).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "consumers/letter_store.h"
#include "consumers/projection_worker.h"
#include "schema/base64.h"
#include "tests/support/counted.h"
#include "tests/support/eventually.h"
#include "tests/support/letters.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

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
    EXPECT_TRUE(counts_agree(counted));
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
    EXPECT_TRUE(counts_agree(counted));
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
    EXPECT_TRUE(counts_agree(counted));
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
void expect_waits_for_their_table(const Counted& counted,
                                  const std::function<void()>& let_go) {
    Feed feed(counted.topic);
    ProjectionOptions options = counted.options();
    options.statement_timeout = 300ms;
    options.retry_count = 2;
    feed.send({poison_of("k3")});
    feed.send_counted(10, 10, 1);
    RunningProjection running(counted, options);
    ASSERT_TRUE(eventually(30s, [&] {
        return running.metric("millrace_projection_retries_total") >= 6;
    }));
    let_go();

    ASSERT_TRUE(reaches(counted, 11));
    EXPECT_EQ(counted.applied_count(), 9);
    EXPECT_EQ(parked_count(counted), 1);
    EXPECT_EQ(letter_count(counted), 1);
    EXPECT_EQ(counted.number("SELECT count(*) FROM millrace.dead_letters "
                             "WHERE reason = 'unparsable_event'"),
              1);
}

TEST(DeadLetters, AreWaitedForWhileTheirTableIsLocked) {
    Counted counted(1);
    pg::Session rival = counted.database.connect();
    rival.execute("BEGIN");
    rival.execute("LOCK TABLE millrace.dead_letters IN ACCESS EXCLUSIVE MODE");

    expect_waits_for_their_table(counted, [&rival] { rival.execute("COMMIT"); });
}

// A statement of ours that takes too long accuses no event that the projection applies beside it.
TEST(DeadLetters, AreWaitedForWhileTheirTableIsSlow) {
    Counted counted(1);
    pg::Session session = counted.database.connect();
    session.execute("CREATE FUNCTION public.sleep() RETURNS trigger LANGUAGE plpgsql AS "
                    "'BEGIN PERFORM pg_sleep(1); RETURN NEW; END'");
    session.execute("CREATE TRIGGER slow BEFORE INSERT ON millrace.dead_letters "
                    "FOR EACH ROW EXECUTE FUNCTION public.sleep()");

    expect_waits_for_their_table(counted, [&session] {
        session.execute("DROP TRIGGER slow ON millrace.dead_letters");
    });
}

// A row that another projection or application writes first, say.
TEST(DeadLetters, AreNotMadeOfWhatTheProjectionWaitsFor) {
    Counted counted(1);
    Feed feed(counted.topic);
    counted.at_insert(kRefuseK3, kForK3);
    ProjectionOptions options = counted.options();
    options.overrides = {parse_override("23514", "environment")};
    feed.send_counted(20, 10, 1);
    RunningProjection running(counted, options);
    ASSERT_TRUE(eventually(20s, [&] {
        return running.metric("millrace_failures_total{reason=\"pg_environment\"}") >= 3;
    }));
    counted.let_inserts_pass();

    ASSERT_TRUE(applies(counted, 20));
    EXPECT_EQ(letter_count(counted), 0);
    EXPECT_EQ(counted.fault(20), "");
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

}  // namespace
}  // namespace millrace::test
