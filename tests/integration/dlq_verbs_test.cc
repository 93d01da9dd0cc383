// Dead letters as an operator meets them: seen, run again, discarded, exported, by the program as
// it ships, beside workers that run (PROTOCOL 7.5).

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/failure.h"
#include "tests/support/eventually.h"
#include "tests/support/feed.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

class DlqVerbs : public testing::Test {
  protected:
    DlqVerbs() {
        std::string text = installed_.config();
        const auto replace = [&text](const std::string& from, const std::string& to) {
            text.replace(text.find(from), from.size(), to);
        };
        replace("relay: {lease: 1s, ", "relay: {enabled: false, ");
        replace("projections: {enabled: false}",
                "projections: {session_timeout: 1s, dlq_topics: false, storm: {share: 1, "
                "in_a_row: 1000000}}");
        config_ = folder_.write("millrace.yaml", text);
        // Its statement depends on the order of a key's events.
        folder_.write("projections/sums.sql",
                      "/* millrace projection\n"
                      "version: 1\n"
                      "topics: [" + installed_.topic + "]\n"
                      "columns:\n"
                      "  n: {type: bigint, path: $.n}\n"
                      "*/\n"
                      "-- table\n"
                      "CREATE TABLE sums (key text PRIMARY KEY, n bigint, seen text,\n"
                      "                   CONSTRAINT few CHECK (n IS NOT NULL))\n"
                      "-- apply\n"
                      "INSERT INTO sums AS t\n"
                      "SELECT _key, sum(n), string_agg(n::text, ',' ORDER BY _ord)\n"
                      "FROM batch GROUP BY _key ORDER BY _key\n"
                      "ON CONFLICT (key) DO UPDATE SET n = t.n + excluded.n,\n"
                      "    seen = t.seen || ',' || excluded.seen\n");
        const Finished up = millrace({"migrate", "up"});
        EXPECT_EQ(up.exit_code, 0) << up.output;
    }

    Finished millrace(std::vector<std::string> arguments,
                      const std::string& crash_at = "") const {
        arguments.insert(arguments.end(), {"--config", config_});
        return run_program(arguments, {{"MILLRACE_CRASH_AT", crash_at}});
    }
    Process run() const {
        return Process({.arguments = {"run", "--config", config_}, .environment = {}});
    }
    nlohmann::json json(std::vector<std::string> arguments) const {
        arguments.insert(arguments.end(), {"--output", "json"});
        const Finished finished = millrace(arguments);
        EXPECT_EQ(finished.exit_code, 0) << finished.output;
        return nlohmann::json::parse(finished.output);
    }
    int64_t handled() const {
        return installed_.number(
            "SELECT (SELECT coalesce(sum(cardinality(string_to_array(seen, ','))), 0) "
            "        FROM sums_v1.sums)::bigint "
            "+ (SELECT count(*) FROM millrace.dead_letters) "
            "+ (SELECT count(*) FROM millrace.parked_events)");
    }
    bool handles(int64_t count) const {
        return eventually(60s, [&] { return handled() >= count; });
    }
    // Until it is mended, key k3 may not see its fourth event.
    void refuse_k3() const {
        installed_.execute("ALTER TABLE sums_v1.sums ADD CONSTRAINT k3_small "
                           "CHECK (key <> 'k3' OR n < 10)");
    }
    void mend_k3() const {
        installed_.execute("ALTER TABLE sums_v1.sums DROP CONSTRAINT k3_small");
    }
    // Empty if each key has seen 1 to `count`, in that order.
    std::string fault(int count) const {
        std::string expected;
        for (int n = 1; n <= count; ++n) expected += (n == 1 ? "" : ",") + std::to_string(n);
        pg::Session session = installed_.database.connect();
        const pg::Result rows =
            session.execute("SELECT key, seen FROM sums_v1.sums ORDER BY key");
        std::string fault = rows.row_count() == 10 ? "" : "not ten keys; ";
        for (int row = 0; row < rows.row_count(); ++row) {
            if (rows.text(row, 1) == expected) continue;
            fault += rows.text(row, 0) + " saw " + rows.text(row, 1) + "; ";
        }
        return fault;
    }

    Installed installed_;
    Folder folder_;
    std::string config_;
    Feed feed_{installed_.topic};
};

TEST_F(DlqVerbs, ShowWhatIsWrongAndRunItAgainBesideTheWorkers) {
    refuse_k3();
    const Process worker = run();
    feed_.send_counted(100, 10, 4);
    ASSERT_TRUE(handles(100)) << worker.log();

    const nlohmann::json list = json({"dlq", "list"});
    ASSERT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0]["key"], "k3");
    EXPECT_EQ(list[0]["cause"], "pg_record 23514 k3_small");
    EXPECT_EQ(list[0]["parked"], 6);
    const nlohmann::json summary = json({"dlq", "summary"});
    EXPECT_EQ(summary["groups"][0]["constraint"], "k3_small");
    EXPECT_EQ(summary["groups"][0]["letters"], 1);
    EXPECT_EQ(summary["open"][0]["parked_events"], 6);
    const std::string id = std::to_string(list[0]["id"].get<int64_t>());
    const Finished show = millrace({"dlq", "show", id});
    EXPECT_EQ(show.exit_code, 0);
    EXPECT_THAT(show.output, HasSubstr("sums.sql:"));
    EXPECT_THAT(show.output, HasSubstr("{\"n\": 4}"));
    EXPECT_THAT(show.output, HasSubstr("millrace dlq redrive --id " + id));
    EXPECT_EQ(json({"dlq", "show", id})["value"], "{\"n\": 4}");

    const Finished again = millrace({"dlq", "redrive"});
    EXPECT_EQ(again.exit_code, kExitFailed);
    EXPECT_THAT(again.output, HasSubstr("failed: pg_record 23514 k3_small"));
    mend_k3();
    const Finished dry = millrace({"dlq", "redrive", "--dry-run"});
    EXPECT_EQ(dry.exit_code, 0) << dry.output;
    EXPECT_THAT(dry.output, HasSubstr("dry run"));
    EXPECT_EQ(json({"dlq", "list"}).size(), 1U);
    const Finished mended = millrace({"dlq", "redrive", "--reason", "constraint dropped"});
    EXPECT_EQ(mended.exit_code, 0) << mended.output;
    EXPECT_THAT(mended.output, HasSubstr("applied, and 6 behind it"));

    EXPECT_EQ(fault(10), "");
    feed_.send_counted(100, 10, 4);
    EXPECT_TRUE(handles(200)) << worker.log();
    EXPECT_EQ(fault(20), "");
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.operator_acts "
                                "WHERE verb = 'dlq redrive' AND reason = 'constraint dropped'"),
              1);
}

TEST_F(DlqVerbs, DiscardKeepsWhoAndWhyAndLetsTheKeyGoOn) {
    refuse_k3();
    const Process worker = run();
    feed_.send_counted(100, 10, 4);
    ASSERT_TRUE(handles(100)) << worker.log();
    mend_k3();
    EXPECT_EQ(millrace({"dlq", "discard", "--projection", "sums"}).exit_code, kExitUsage);
    EXPECT_EQ(millrace({"dlq", "discard", "--reason", "why"}).exit_code, kExitUsage);

    const Finished done =
        millrace({"dlq", "discard", "--projection", "sums", "--reason", "test order"});

    EXPECT_EQ(done.exit_code, 0) << done.output;
    EXPECT_EQ(installed_.text("SELECT seen FROM sums_v1.sums WHERE key = 'k3'"),
              "1,2,3,5,6,7,8,9,10");
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.operator_acts "
                                "WHERE verb = 'dlq discard' AND who = session_user"),
              1);
    EXPECT_THAT(installed_.text("SELECT object FROM millrace.operator_acts "
                                "WHERE verb = 'dlq discard' AND reason = 'test order'"),
                HasSubstr("key k3, pg_record 23514 k3_small"));
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.parked_keys"), 0);
    EXPECT_THAT(millrace({"dlq", "summary"}).output, HasSubstr("no dead letter is open"));
}

TEST_F(DlqVerbs, ExportIsALineOfJsonEach) {
    const Process worker = run();
    feed_.send({{.partition = 0, .key = "a", .value = "{\"n\": \"one\"}", .headers = {}},
                {.partition = 0, .key = "b", .value = std::string("\xFF\x00", 2), .headers = {}}});
    ASSERT_TRUE(handles(2)) << worker.log();

    const Finished finished = millrace({"dlq", "export", "--projection", "sums"});

    std::istringstream lines(finished.output);
    std::vector<nlohmann::json> letters;
    for (std::string line; std::getline(lines, line);) {
        letters.push_back(nlohmann::json::parse(line));
    }
    ASSERT_EQ(letters.size(), 2U);
    EXPECT_EQ(letters[0]["value"], "{\"n\": \"one\"}");
    EXPECT_EQ(letters[0]["reason"], "unparsable_event");
    EXPECT_EQ(letters[1]["value"]["base64"], "/wA=");
}

// Nor errors, which quote it in their own way; and who sees it all the same is recorded.
TEST_F(DlqVerbs, ShowNothingThatTheProjectionMasks) {
    std::ifstream file(folder_.path() / "projections/sums.sql");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const std::string columns = "columns:\n";
    text.replace(text.find(columns), 0, "masked: [$.mail, $.n]\n");
    folder_.write("projections/sums.sql", text);
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    installed_.execute("ALTER TABLE sums_v1.sums ADD CONSTRAINT none_bad CHECK (key <> 'bad')");
    FedMessage bad = feed_.counted("bad", 0);
    bad.value = R"({"n": 424242, "mail": "anna@example.org"})";
    FedMessage broken = feed_.counted("worse", 0);
    broken.value = R"({"n": 1, "mail": "anna@example.org)";
    feed_.send({bad, broken});
    const Process worker = run();
    ASSERT_TRUE(handles(2)) << worker.log();
    const std::string id =
        installed_.text("SELECT min(id)::text FROM millrace.dead_letters");

    for (const auto& verb : std::vector<std::vector<std::string>>{
             {"dlq", "show", id}, {"dlq", "list"}, {"dlq", "export"}, {"dlq", "summary"}}) {
        const Finished shown = millrace(verb);
        EXPECT_EQ(shown.exit_code, 0) << shown.output;
        EXPECT_THAT(shown.output, Not(HasSubstr("anna")));
        EXPECT_THAT(shown.output, Not(HasSubstr("424242")));
    }
    EXPECT_THAT(millrace({"dlq", "show", id}).output, HasSubstr(R"({"n":"***","mail":"***"})"));
    EXPECT_THAT(millrace({"dlq", "export"}).output, HasSubstr("(masked; --raw shows it)"));
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.operator_acts "
                                "WHERE verb LIKE 'dlq %'"),
              0);
    EXPECT_THAT(millrace({"dlq", "show", id, "--raw"}).output, HasSubstr("anna@example.org"));
    EXPECT_EQ(installed_.text("SELECT verb || ' ' || object FROM millrace.operator_acts "
                              "WHERE verb LIKE 'dlq %'"),
              "dlq show --raw letter " + id);
    const Finished redriven = millrace({"dlq", "redrive", "--dry-run"});
    EXPECT_THAT(redriven.output, HasSubstr("failed: pg_record 23514 none_bad"));
    EXPECT_THAT(redriven.output, Not(HasSubstr("424242")));
    EXPECT_THAT(millrace({"dlq", "redrive", "--dry-run", "--raw"}).output, HasSubstr("424242"));
}

TEST_F(DlqVerbs, NameALetterThatIsNotThere) {
    const Finished show = millrace({"dlq", "show", "4711"});

    EXPECT_EQ(show.exit_code, kExitUsage);
    EXPECT_THAT(show.output, HasSubstr("there is no dead letter 4711"));
}

// The rest of a queue whose letter is gone has no letter by which a filter could find it.
TEST_F(DlqVerbs, RedriveGoesOnWithWhatAKilledOneLeft) {
    refuse_k3();
    const Process worker = run();
    feed_.send_counted(8000, 10, 4);
    ASSERT_TRUE(handles(8000)) << worker.log();
    mend_k3();
    const Finished dead = millrace({"dlq", "redrive"}, "redrive.after_commit:1");
    ASSERT_EQ(dead.exit_code, 128 + SIGKILL) << dead.output;
    EXPECT_EQ(installed_.text("SELECT string_agg(verb || ': ' || object, ', ') "
                              "FROM millrace.operator_acts"),
              "dlq redrive: all letters");
    ASSERT_EQ(installed_.number("SELECT count(*) FROM millrace.dead_letters"), 0);
    ASSERT_GT(installed_.number("SELECT count(*) FROM millrace.parked_events"), 0);

    const Finished done = millrace({"dlq", "redrive"});

    EXPECT_EQ(done.exit_code, 0) << done.output;
    EXPECT_THAT(done.output, HasSubstr("key k3 of sums: "));
    EXPECT_EQ(fault(800), "");
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.parked_keys"), 0);
}

// Stopped in the middle of its transaction it holds one position, until the server ends a session
// that is idle in a transaction: other partitions go on meanwhile, and this one afterwards.
TEST_F(DlqVerbs, RedriveThatIsStoppedHoldsUpOnePartitionForSomeSeconds) {
    refuse_k3();
    const Process worker = run();
    feed_.send_counted(100, 10, 4);
    ASSERT_TRUE(handles(100)) << worker.log();
    mend_k3();
    installed_.execute("CREATE FUNCTION sums_v1.sleep() RETURNS trigger LANGUAGE plpgsql AS "
                       "'BEGIN PERFORM pg_sleep(1); RETURN NEW; END'");
    installed_.execute("CREATE TRIGGER sleep BEFORE INSERT OR UPDATE ON sums_v1.sums FOR EACH ROW "
                       "WHEN (NEW.key = 'k3') EXECUTE FUNCTION sums_v1.sleep()");
    Process redrive({.arguments = {"dlq", "redrive", "--config", config_},
                     .environment = {},
                     .log_name = "redrive"});
    ASSERT_TRUE(eventually(20s, [this] {
        return installed_.number("SELECT count(*) FROM pg_stat_activity "
                                 "WHERE datname = current_database() "
                                 "AND wait_event = 'PgSleep'") == 1;
    }));
    redrive.signal(SIGSTOP);
    const int64_t parked = installed_.number("SELECT count(*) FROM millrace.parked_events");

    feed_.send_counted(100, 10, 4);

    EXPECT_TRUE(handles(200)) << worker.log();
    EXPECT_GT(installed_.number("SELECT count(*) FROM millrace.parked_events"), parked);
    redrive.signal(SIGKILL);
    EXPECT_EQ(millrace({"dlq", "redrive"}).exit_code, 0);
    EXPECT_EQ(fault(20), "");
}

// Twelve letters of keys of their own, whose cause is mended.
TEST_F(DlqVerbs, RedriveKeepsToItsLimitAndItsRateAndSpeaksJson) {
    installed_.execute("ALTER TABLE sums_v1.sums ADD CONSTRAINT none_bad "
                       "CHECK (key NOT LIKE 'bad%')");
    std::vector<FedMessage> bad;
    for (int i = 0; i < 12; ++i) bad.push_back(feed_.counted("bad" + std::to_string(i), i % 4));
    feed_.send(bad);
    const Process worker = run();
    ASSERT_TRUE(handles(12)) << worker.log();
    installed_.execute("ALTER TABLE sums_v1.sums DROP CONSTRAINT none_bad");
    const auto letter_count = [this] {
        return installed_.number("SELECT count(*) FROM millrace.dead_letters");
    };

    const Finished some = millrace({"dlq", "redrive", "--limit", "4", "--output", "json"});

    EXPECT_EQ(some.exit_code, 0) << some.output;
    EXPECT_EQ(letter_count(), 8);
    std::istringstream lines(some.output);
    std::string line;
    int applied_count = 0;
    nlohmann::json last;
    while (std::getline(lines, line)) {
        last = nlohmann::json::parse(line);
        if (last.at("outcome") == "applied") ++applied_count;
    }
    EXPECT_EQ(applied_count, 4);
    EXPECT_EQ(last.at("outcome"), "end");
    EXPECT_EQ(last.at("applied"), 4);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(millrace({"dlq", "redrive", "--rate", "10", "--limit", "8"}).exit_code, 0);
    // Eight at ten a second; however slow the machine is, it is never less.
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 700ms);
    EXPECT_EQ(letter_count(), 0);
    EXPECT_EQ(installed_.number("SELECT count(*) FROM sums_v1.sums WHERE key LIKE 'bad%'"), 12);
}

TEST_F(DlqVerbs, NamesThatAreMistypedAreNotTakenForNothingToDo) {
    EXPECT_EQ(millrace({"dlq", "redrive", "--projection", "sms"}).exit_code, kExitUsage);
    EXPECT_EQ(millrace({"dlq", "redrive", "--id", "4711"}).exit_code, kExitUsage);
    EXPECT_EQ(millrace({"dlq", "list", "--since", "yesterday"}).exit_code, kExitUsage);
    EXPECT_EQ(millrace({"dlq", "list", "--class", "recrod"}).exit_code, kExitUsage);
    EXPECT_EQ(millrace({"dlq", "summary", "--projection", "sms"}).exit_code, kExitUsage);
    EXPECT_EQ(millrace({"dlq", "discard", "--key", "k", "--reason", " "}).exit_code, kExitUsage);
    EXPECT_THAT(millrace({"dlq", "list", "--key", "k"}).output,
                HasSubstr("no dead letter is open"));
    EXPECT_EQ(millrace({"dlq", "redrive"}).exit_code, 0);
}

class RedriveCrash : public DlqVerbs, public testing::WithParamInterface<std::string> {};

TEST_P(RedriveCrash, LeavesEachEventAppliedOnceInOrder) {
    refuse_k3();
    const Process worker = run();
    feed_.send_counted(100, 10, 4);
    ASSERT_TRUE(handles(100)) << worker.log();
    mend_k3();

    const Finished dead = millrace({"dlq", "redrive"}, "redrive." + GetParam());
    EXPECT_EQ(dead.exit_code, 128 + SIGKILL) << dead.output;
    feed_.send_counted(100, 10, 4);
    const Finished done = millrace({"dlq", "redrive"});
    EXPECT_EQ(done.exit_code, 0) << done.output;

    EXPECT_TRUE(eventually(60s, [&] { return fault(20).empty(); })) << fault(20) << worker.log();
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.parked_keys"), 0);
    EXPECT_EQ(installed_.number("SELECT count(*) FROM millrace.parked_events"), 0);
}

INSTANTIATE_TEST_SUITE_P(Points, RedriveCrash,
                         testing::Values("before_commit:1", "after_commit:1"),
                         [](const auto& param) {
                             return param.param.substr(0, param.param.find(':'));
                         });

}  // namespace
}  // namespace millrace::test
