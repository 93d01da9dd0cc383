// Eleven kinds of poison among good events, with workers that die at every step: each has one dead
// letter and one copy on its topic, every other event is applied once, in its key's order; and
// re-driven under kills, the read model is the one that never failed (PROTOCOL 7.5, 7.7, 7.8).

#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/feed.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/own_broker.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kPartitionCount = 4;
constexpr int kKeyCount = 1000;

int event_count() {
    const char* text = std::getenv("MILLRACE_POISON_EVENTS");
    return text != nullptr ? std::atoi(text) : 20'000;
}

// What is wrong with a record, and what says so.
struct Kind {
    std::string name;
    std::string value;
    std::string sqlstate;  // Empty: it can't be parsed.
};

std::string nested(int depth) {
    return "{\"n\": 1, \"doc\": " + std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']') + "}";
}

std::vector<Kind> kinds() {
    return {{"bad_utf8", "{\"n\": 1, \"doc\": \"\xC3\x28\"}", ""},
            {"depth", nested(1025), ""},
            {"nul", "{\"n\": 1, \"doc\": \"\\u0000\"}", ""},
            {"huge_number", "{\"n\": 1, \"doc\": 1e999999}", ""},
            {"wrong_type", "{\"n\": \"one\"}", ""},
            {"missing_field", "{\"m\": 1}", ""},
            {"out_of_range", "{\"n\": 9223372036854775808}", ""},
            {"foreign_key", "{\"n\": 1, \"ref\": 404}", "23503"},
            {"check", "{\"n\": -1}", "23514"},
            {"unique", "{\"n\": 1, \"once\": 7}", "23505"},
            {"raised", "{\"n\": 1, \"kind\": \"raised\"}", "P0001"}};
}

class Poison : public testing::Test {
  protected:
    Poison() {
        std::string text = installed_.config();
        const std::string off = "projections: {enabled: false}";
        text.replace(text.find(off), off.size(),
                     "projections: {threads: 1, session_timeout: 1s, batch: {events: 500}, "
                     "storm: {share: 1, in_a_row: 1000000}}");
        config_ = folder_.write("millrace.yaml", text);
        folder_.write("projections/picky.sql",
                      "/* millrace projection\n"
                      "version: 1\n"
                      "topics: [" + installed_.topic + "]\n"
                      "columns:\n"
                      "  n:    {type: bigint, path: $.n, required: true}\n"
                      "  ref:  {type: bigint, path: $.ref}\n"
                      "  once: {type: bigint, path: $.once}\n"
                      "  kind: {type: text, path: $.kind}\n"
                      "  doc:  {type: jsonb, path: $.doc}\n"
                      "*/\n"
                      "-- table\n"
                      "CREATE TABLE known (ref bigint PRIMARY KEY)\n"
                      "-- table\n"
                      "CREATE TABLE extras (key text, off bigint,\n"
                      "    ref bigint REFERENCES known, once bigint, kind text)\n"
                      "-- table\n"
                      "CREATE TABLE picky (key text PRIMARY KEY, seen text)\n"
                      "-- apply\n"
                      "INSERT INTO extras SELECT _key, _offset, ref, once, kind FROM batch\n"
                      "WHERE ref IS NOT NULL OR once IS NOT NULL OR kind IS NOT NULL OR n < 0\n"
                      "-- apply\n"
                      "INSERT INTO picky AS t\n"
                      "SELECT _key, string_agg(n::text, ',' ORDER BY _ord)\n"
                      "FROM batch GROUP BY _key ORDER BY _key\n"
                      "ON CONFLICT (key) DO UPDATE SET seen = t.seen || ',' || excluded.seen\n");
        const Finished up = run_program({"migrate", "up", "--config", config_});
        EXPECT_EQ(up.exit_code, 0) << up.output;
        create_topic(installed_.topic + ".picky.dlq", 2);
    }

    // Each of these refuses one of the kinds.
    void refuse() const {
        installed_.database.connect().run_script(R"(
            INSERT INTO picky_v1.extras (key, once) VALUES ('first', 7);
            CREATE UNIQUE INDEX once_only ON picky_v1.extras (once);
            ALTER TABLE picky_v1.picky ADD CONSTRAINT positive CHECK (seen !~ '-');
            CREATE FUNCTION public.refuse_raised() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE 'kind % is refused', NEW.kind; END $$;
            CREATE TRIGGER raised BEFORE INSERT ON picky_v1.extras FOR EACH ROW
            WHEN (NEW.kind = 'raised') EXECUTE FUNCTION public.refuse_raised())");
    }
    void mend() const {
        installed_.database.connect().run_script(R"(
            INSERT INTO picky_v1.known VALUES (404);
            DROP INDEX picky_v1.once_only;
            ALTER TABLE picky_v1.picky DROP CONSTRAINT positive;
            DROP TRIGGER raised ON picky_v1.extras)");
    }

    Process run(const std::string& crash_at = "") const {
        return Process({.arguments = {"run", "--config", config_},
                        .environment = {{"MILLRACE_CRASH_AT", crash_at}},
                        .log_name = "picky"});
    }
    int64_t number(const std::string& sql) const { return installed_.number(sql); }
    int64_t applied() const {
        return number("SELECT coalesce(sum(cardinality(string_to_array(seen, ','))), 0)::bigint "
                      "FROM picky_v1.picky");
    }
    int64_t letters() const { return number("SELECT count(*) FROM millrace.dead_letters"); }
    int64_t parked() const { return number("SELECT count(*) FROM millrace.parked_events"); }

    // Good events over all keys, each key counting up, with `poison_count` of each kind between
    // them; `own_keys`: each poison under a key of its own.
    void send(Feed& feed, int good_count, int poison_count, const std::vector<Kind>& poisons,
              bool own_keys) {
        std::vector<FedMessage> messages;
        for (int i = 0; i < good_count; ++i) {
            const int key = i % kKeyCount;
            messages.push_back(feed.counted("k" + std::to_string(key), key % kPartitionCount));
        }
        std::map<std::string, int> place;
        const size_t kind_count = poisons.size();
        const int total = poison_count * static_cast<int>(kind_count);
        const int every = good_count / std::max(1, total);
        std::vector<FedMessage> mixed;
        int made = 0;
        for (int i = 0; i < good_count; ++i) {
            mixed.push_back(std::move(messages[static_cast<size_t>(i)]));
            if (i % every != 0 || made >= total) continue;
            const Kind& kind = poisons[static_cast<size_t>(made) % kind_count];
            const int key = (made * 37) % kKeyCount;
            mixed.push_back(
                {.partition = own_keys ? made % kPartitionCount : key % kPartitionCount,
                 .key = own_keys ? "poison-" + kind.name + "-" + std::to_string(made)
                                 : "k" + std::to_string(key),
                 .value = kind.value,
                 .headers = {{"type", "Counted"}}});
            ++made;
        }
        for (size_t begin = 0; begin < mixed.size(); begin += 5000) {
            const size_t end = std::min(mixed.size(), begin + 5000);
            feed.send({mixed.begin() + static_cast<ptrdiff_t>(begin),
                       mixed.begin() + static_cast<ptrdiff_t>(end)});
        }
    }

    // What a fold of the test's own makes of the topic: each key's values in order.
    std::map<std::string, std::string> fold(const std::set<std::string>& refused_values) const {
        std::map<std::string, std::string> seen;
        for (const SeenRecord& record : read_topic(installed_.topic)) {
            if (refused_values.contains(*record.value)) continue;
            const auto event = nlohmann::json::parse(*record.value);
            std::string& text = seen[*record.key];
            text += (text.empty() ? "" : ",") + std::to_string(event["n"].get<int64_t>());
        }
        return seen;
    }
    std::map<std::string, std::string> read_model() const {
        pg::Session session = installed_.database.connect();
        const pg::Result rows = session.execute("SELECT key, seen FROM picky_v1.picky");
        std::map<std::string, std::string> seen;
        for (int row = 0; row < rows.row_count(); ++row) {
            seen[rows.text(row, 0)] = rows.text(row, 1);
        }
        return seen;
    }

    Installed installed_{12, kPartitionCount};
    Folder folder_;
    std::string config_;
    std::mt19937 random_{std::random_device{}()};
};

TEST_F(Poison, OfEachKindHasOneLetterAndOneCopyUnderKills) {
    refuse();
    Feed feed(installed_.topic);
    const int good_count = event_count();
    const std::vector<Kind> poisons = kinds();
    const int poison_count = std::max(1, good_count / 1000);
    const auto total = static_cast<int64_t>(poisons.size()) * poison_count;
    send(feed, good_count, poison_count, poisons, /*own_keys=*/true);

    constexpr std::array<std::string_view, 6> kPoints{
        "consumer.mid_bisection", "consumer.after_letters", "consumer.before_commit",
        "consumer.after_commit",  "consumer.after_cas",     "consumer.mid_apply"};
    std::map<std::string, int> fired;
    int kill_count = 0;
    for (size_t round = 0; applied() + letters() < good_count + total && round < 300; ++round) {
        const std::string point(kPoints[round % kPoints.size()]);
        const unsigned spread = point == "consumer.mid_bisection" ? 40 : 3;
        Process victim = run(point + ":" + std::to_string(1 + random_() % spread));
        // By its crash point, or from outside at any other moment.
        if (!victim.wait(std::chrono::milliseconds(1000 + random_() % 3000))) {
            victim.kill();
            ++kill_count;
        } else if (victim.has_logged("crash point " + point + " fired")) {
            ++fired[point];
        }
    }
    const Process steady = run();
    ASSERT_TRUE(eventually(120s, [&] { return applied() + letters() >= good_count + total; }))
        << steady.log();
    for (const auto& [point, count] : fired) {
        std::cout << point << " fired " << count << " times\n";
    }
    std::cout << kill_count << " kills from outside\n";
    EXPECT_GT(fired["consumer.mid_bisection"], 0);
    EXPECT_GT(fired["consumer.after_letters"], 0);

    EXPECT_EQ(letters(), total);
    EXPECT_EQ(applied(), good_count);
    EXPECT_EQ(parked(), 0);
    std::set<std::string> refused;
    for (const Kind& kind : poisons) {
        refused.insert(kind.value);
        EXPECT_EQ(number("SELECT count(*) FROM millrace.dead_letters "
                         "WHERE convert_from(key, 'UTF8') LIKE 'poison-" + kind.name + "-%' "
                         "AND coalesce(sqlstate, '') = '" + kind.sqlstate + "'"),
                  poison_count)
            << kind.name;
    }
    EXPECT_EQ(read_model(), fold(refused));
    EXPECT_EQ(number("SELECT sum(letter_count)::bigint FROM millrace.positions"), total);

    // Each copy once, with the letter's bytes.
    const std::string copies = installed_.topic + ".picky.dlq";
    EXPECT_TRUE(eventually(60s, [&] {
        return static_cast<int64_t>(count_records(copies)) >= total;
    }));
    std::map<std::string, int> seen;
    for (const SeenRecord& record : read_topic(copies)) ++seen[*record.key];
    EXPECT_EQ(static_cast<int64_t>(seen.size()), total);
    for (const auto& [key, count] : seen) EXPECT_EQ(count, 1) << key;
}

TEST_F(Poison, RedrivenUnderKillsMakesTheReadModelThatNeverFailed) {
    refuse();
    Feed feed(installed_.topic);
    const int good_count = event_count() / 2;
    std::vector<Kind> poisons = kinds();
    std::erase_if(poisons, [](const Kind& kind) { return kind.sqlstate.empty(); });
    send(feed, good_count, std::max(1, good_count / 500), poisons, /*own_keys=*/false);
    {
        const Process worker = run();
        ASSERT_TRUE(eventually(180s, [&] {
            return applied() + letters() + parked() >= feed.sent_count();
        })) << worker.log();
    }
    const int64_t letter_count = letters();
    ASSERT_GT(letter_count, 20);
    ASSERT_GT(parked(), 0);
    mend();

    int inside_count = 0;
    int kill_count = 0;
    constexpr std::array<std::string_view, 3> kPoints{
        "redrive.before_commit", "redrive.after_commit", "consumer.mid_bisection"};
    for (int round = 0; kill_count < 20; ++round) {
        Process worker = run("consumer.before_commit:" + std::to_string(1 + random_() % 5));
        // Live events of the same keys meanwhile.
        feed.send_counted(kKeyCount, kKeyCount, kPartitionCount);
        const std::string point(kPoints[static_cast<size_t>(round) % kPoints.size()]);
        Process redrive({.arguments = {"dlq", "redrive", "--config", config_, "--limit", "40"},
                         .environment = {{"MILLRACE_CRASH_AT",
                                          point + ":" + std::to_string(1 + random_() % 3)}},
                         .log_name = "redrive"});
        const bool has_ended =
            redrive.wait(std::chrono::milliseconds(200 + random_() % 1500)).has_value();
        const bool has_fired = redrive.has_logged("crash point " + point + " fired");
        if (has_fired && point != "redrive.after_commit") ++inside_count;
        // One that ended by itself was not killed.
        kill_count += (!has_ended || has_fired ? 1 : 0) + (worker.is_running() ? 1 : 0);
        redrive.kill();
        worker.kill();
    }
    std::cout << kill_count << " kills, " << inside_count << " inside of re-drive transactions\n";
    EXPECT_GT(inside_count, 0);
    const Process worker = run();
    const Finished last = run_program({"dlq", "redrive", "--config", config_});
    EXPECT_EQ(last.exit_code, 0) << last.output;
    ASSERT_TRUE(eventually(120s, [&] { return applied() >= feed.sent_count(); })) << worker.log();

    EXPECT_EQ(letters(), 0);
    EXPECT_EQ(parked(), 0);
    EXPECT_EQ(number("SELECT count(*) FROM millrace.parked_keys"), 0);
    EXPECT_EQ(number("SELECT sum(letter_count + parked_count)::bigint FROM millrace.positions"), 0);
    EXPECT_EQ(read_model(), fold({}));
}

// PROTOCOL 7.8: an outage, a time that is up or a deadlock is no record's fault, however often.
TEST_F(Poison, NoOutageMakesADeadLetter) {
    Feed feed(installed_.topic);
    const Process worker = run();
    feed.send_counted(kKeyCount, kKeyCount, kPartitionCount);
    ASSERT_TRUE(eventually(60s, [&] { return applied() >= feed.sent_count(); })) << worker.log();
    // Locks rows in the reverse of our order, and holds them for a while.
    std::jthread rival([this](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            try {
                pg::Session session = installed_.database.connect();
                while (!stop.stop_requested()) {
                    pg::Transaction transaction(session);
                    for (const char* key : {"k9", "k7", "k5", "k3", "k1"}) {
                        transaction.execute("UPDATE picky_v1.picky SET seen = seen WHERE key = $1",
                                            pg::Params().text(key));
                        transaction.execute("SELECT pg_sleep(0.01)");
                    }
                    transaction.commit();
                }
            } catch (const Failure&) {
                // The server is gone, or we were the deadlock's victim.
            }
        }
    });

    for (int i = 0; i < 20; ++i) {
        feed.send_counted(kKeyCount, kKeyCount, kPartitionCount);
        std::this_thread::sleep_for(std::chrono::milliseconds(50 + random_() % 400));
        act_on_postgres("kill");
        act_on_postgres("start");
    }
    rival.request_stop();
    rival.join();
    ASSERT_TRUE(eventually(120s, [&] { return applied() >= feed.sent_count(); })) << worker.log();

    EXPECT_EQ(letters(), 0);
    EXPECT_EQ(parked(), 0);
    EXPECT_EQ(number("SELECT count(*) FROM millrace.projections WHERE state = 'halted'"), 0);
    EXPECT_EQ(read_model(), fold({}));
}

}  // namespace
}  // namespace millrace::test
