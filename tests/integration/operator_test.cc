// Operators' verbs beside running relays (PROTOCOL 2.6, 4.6, 4.7).

#include "relay/operator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "core/failure.h"
#include "core/kafka/producer.h"
#include "relay/ledger_topic.h"
#include "tests/support/broker.h"
#include "tests/support/by_hand.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::Each;
using testing::HasSubstr;

// A table's rows kept aside, as a backup keeps them, and put back under their old ids.
constexpr const char* kBackUp = R"(
    CREATE TABLE backup_tasks AS SELECT * FROM millrace.pending_tasks;
    CREATE TABLE backup_publishers AS SELECT * FROM millrace.relay_publishers)";
constexpr const char* kRestore = R"(
    DELETE FROM millrace.pending_tasks;
    INSERT INTO millrace.pending_tasks
        (xid, id, event_id, topic, key, task_type, payload, created_at)
        OVERRIDING SYSTEM VALUE
        SELECT xid, id, event_id, topic, key, task_type, payload, created_at FROM backup_tasks;
    UPDATE millrace.relay_publishers p SET seq = b.seq, epoch = b.epoch
        FROM backup_publishers b WHERE b.number = p.number)";

class OperatorVerbs : public testing::Test {
  protected:
    Finished millrace(std::vector<std::string> arguments) {
        arguments.insert(arguments.end(), {"--config", config_});
        return run_program(arguments);
    }

    LaneReport lane(int16_t number) {
        return Operator(session_).lanes(1000).at(static_cast<size_t>(number));
    }

    std::vector<std::string> halted() { return Operator(session_).halted(); }

    std::string acts() {
        return session_
            .execute("SELECT coalesce(string_agg(verb || '/' || object || '/' || "
                     "coalesce(reason, ''), ';' ORDER BY at), '') FROM millrace.operator_acts")
            .text(0, 0);
    }

    // Publishes what is pending in transactions of ten, then loses all of that in the database.
    void lose_commits(int task_count) {
        session_.run_script(kBackUp);
        RelayOptions options = installed_.relay_options();
        options.publisher.batch.task_count = 10;
        {
            RunningRelay relay(installed_, options);
            ASSERT_TRUE(eventually(60s, [&] { return installed_.pending_count() == 0; }));
        }
        session_.run_script(kRestore);
        ASSERT_EQ(installed_.pending_count(), task_count);
    }

    Process::Options resume_by(const std::string& reason) const {
        Process::Options options;
        options.arguments = {"ledger", "resume", "--trust-database", "--reason", reason,
                             "--config", config_};
        return options;
    }

    // As a contradiction leaves it, publisher 0 having published one transaction.
    void halt_at_seq_one() {
        session_.execute("UPDATE millrace.relay_publishers "
                         "SET halted = 'database_behind_ledger', seq = (number = 0)::int");
        write_ledger(installed_, 0, encode(empty_record(installed_, 0, 0, 1)));
        session_.run_script(R"(
            CREATE FUNCTION public.wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER wait_at_commit AFTER INSERT ON millrace.operator_acts
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.reason = 'first')
            EXECUTE FUNCTION public.wait_at_commit())");
    }

    // Stops it while PostgreSQL is about to commit its first step.
    void pause_between_its_steps(const Process& resume) {
        ASSERT_TRUE(eventually(60s, [&] {
            return installed_.number("SELECT count(*) FROM pg_stat_activity "
                                     "WHERE wait_event = 'PgSleep' "
                                     "AND datname = current_database()") == 1;
        })) << resume.log();
        resume.signal(SIGSTOP);
        ASSERT_TRUE(eventually(20s, [&] { return !acts().empty(); })) << resume.log();
    }

    Installed installed_;
    std::string config_ = write_file("millrace.yaml", installed_.config());
    pg::Session session_ = installed_.database.connect();
};

TEST_F(OperatorVerbs, PauseWaitsUntilTheOwnerHasLetTheLanesGo) {
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(20s, [&] { return installed_.owned_lane_count() == 12; }));

    const Finished pause = millrace({"lanes", "pause", "2", "5", "--reason", "repair"});

    ASSERT_EQ(pause.exit_code, 0) << pause.output;
    EXPECT_EQ(lane(2).publisher, std::nullopt);
    EXPECT_EQ(lane(5).publisher, std::nullopt);
    EXPECT_TRUE(lane(5).is_paused);
    EXPECT_TRUE(lane(4).publisher);
    EXPECT_EQ(acts(), "lanes pause/lane 2/repair;lanes pause/lane 5/repair");
}

TEST_F(OperatorVerbs, ATaskOfAPausedLaneWaitsUntilItIsUnpaused) {
    RunningRelay relay(installed_);
    ASSERT_EQ(millrace({"lanes", "pause", "--all"}).exit_code, 0);
    installed_.insert(10);
    const Finished list = millrace({"lanes", "list", "--output", "json"});
    const nlohmann::json lanes = nlohmann::json::parse(list.output);
    EXPECT_EQ(lanes.size(), 12U);
    int64_t waiting = 0;
    for (const nlohmann::json& listed : lanes) {
        EXPECT_EQ(listed["state"], "paused");
        waiting += listed["tasks"].get<int64_t>();
    }
    EXPECT_EQ(waiting, 10);

    ASSERT_EQ(millrace({"lanes", "unpause", "--all"}).exit_code, 0);

    EXPECT_TRUE(eventually(20s, [&] { return installed_.pending_count() == 0; }));
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

TEST_F(OperatorVerbs, PauseWithoutAnyRelayDoesNotWait) {
    const Finished pause = millrace({"lanes", "pause", "0"});
    const Finished again = millrace({"lanes", "pause", "0"});

    EXPECT_EQ(pause.exit_code, 0) << pause.output;
    EXPECT_EQ(again.exit_code, 0);
    EXPECT_THAT(again.output, HasSubstr("was paused already"));
    EXPECT_EQ(acts(), "lanes pause/lane 0/");
}

TEST_F(OperatorVerbs, ResumeTriesAHaltedLaneAgainOnceTheCauseIsMended) {
    const std::string topic = fresh_name("late");
    RelayOptions options = installed_.relay_options();
    options.publisher.unpublishable = {.policy = OnUnpublishable::kHaltLane, .topic_grace = 1s};
    RunningRelay relay(installed_, options);
    session_.execute("INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
                     "VALUES ($1, 'k', 'T', '{}')",
                     pg::Params().text(topic));
    ASSERT_TRUE(eventually(20s, [&] { return !halted().empty(); }));
    const Finished status = millrace({"outbox", "status"});
    EXPECT_EQ(status.exit_code, 0);
    EXPECT_THAT(status.output, HasSubstr("1 tasks wait"));
    EXPECT_THAT(status.output, HasSubstr("topic_missing"));
    std::smatch command;
    const std::regex wanted("millrace (lanes) (resume) ([0-9]+)");
    ASSERT_TRUE(std::regex_search(status.output, command, wanted)) << status.output;
    create_topic(topic, 1);

    // The very command that the status prints.
    const Finished resume = millrace({command[1], command[2], command[3]});

    EXPECT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_TRUE(eventually(20s, [&] { return installed_.pending_count() == 0; }));
    EXPECT_EQ(count_records(topic), 1U);
}

TEST_F(OperatorVerbs, ALaneThatDoesNotExistIsAMistakeOfUsage) {
    const Finished finished = millrace({"lanes", "pause", "12"});

    EXPECT_EQ(finished.exit_code, kExitUsage);
    EXPECT_THAT(finished.output, HasSubstr("lanes are 0 to 11"));
}

TEST_F(OperatorVerbs, OutboxStatusLooksAtNoMoreTasksThanItsLimit) {
    installed_.insert(30);

    const Finished status =
        millrace({"outbox", "status", "--limit", "7", "--output", "json"});

    const nlohmann::json shown = nlohmann::json::parse(status.output);
    EXPECT_EQ(shown["tasks"], 7);
    EXPECT_EQ(shown["is_cut"], true);
}

TEST_F(OperatorVerbs, LedgerAgreesWhileARelayPublishes) {
    RunningRelay relay(installed_);
    installed_.insert(500);
    ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));

    const Finished status = millrace({"ledger", "status"});
    const Finished resume = millrace({"ledger", "resume", "--trust-database", "--reason", "no"});

    EXPECT_EQ(status.exit_code, 0) << status.output;
    EXPECT_THAT(status.output, HasSubstr("agrees"));
    EXPECT_EQ(resume.exit_code, kExitFailed);
    EXPECT_THAT(resume.output, HasSubstr("not_halted"));
}

// It used to end with `ledger_unread` and 69, and to advise `ledger resume`.
TEST_F(OperatorVerbs, LedgerStatusNamesTheRecordThatItCannotRead) {
    installed_.insert(20);
    write_ledger(installed_, 0, "\x02 a later program's record");
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return !halted().empty(); }));

    const Finished status = millrace({"ledger", "status"});

    EXPECT_EQ(status.exit_code, kExitFoundWrong) << status.output;
    EXPECT_THAT(status.output, HasSubstr("unread"));
    EXPECT_THAT(status.output, HasSubstr("publisher 0: ledger_format: a ledger record has"));
    EXPECT_THAT(status.output, HasSubstr("run the newer millrace"));
    EXPECT_THAT(status.output, testing::Not(HasSubstr("ledger resume")));
}

// PROTOCOL 4.6
TEST_F(OperatorVerbs, TrustingTheLedgerAfterARestorePublishesNothingTwice) {
    installed_.insert(100);
    ASSERT_NO_FATAL_FAILURE(lose_commits(100));
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return !halted().empty(); }));
    EXPECT_THAT(halted(), Each(HasSubstr("database_behind_ledger")));
    const Finished before = millrace({"ledger", "status"});

    const Finished resume =
        millrace({"ledger", "resume", "--trust-ledger", "--reason", "restored to noon"});

    EXPECT_EQ(before.exit_code, kExitFoundWrong);
    EXPECT_THAT(before.output, HasSubstr("millrace ledger resume --trust-ledger --reason"));
    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_THAT(resume.output, HasSubstr("deleted 100 published tasks, 0 were not there"));
    EXPECT_EQ(acts(), "ledger resume --trust-ledger/all publishers/restored to noon");
    installed_.insert(50);
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(millrace({"ledger", "status"}).exit_code, 0);
}

// The ledger no longer names what the restore brought back: the topics do (PROTOCOL 4.6).
class LedgerScan : public OperatorVerbs {
  protected:
    // 100 tasks whose publishing the database forgot and the ledger lost, and 30 that wait.
    void lose_commits_and_ledger() {
        installed_.insert(20);
        {
            RunningRelay relay(installed_);
            ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
        }
        installed_.insert(100);
        ASSERT_NO_FATAL_FAILURE(lose_commits(100));
        installed_.insert(30);
        delete_topic(installed_.installation.ledger_topic());
        ensure_ledger_topic(kafka_options(), installed_.installation, 1, reaper_);
    }
    bool is_halted() {
        return eventually(30s, [this] { return !halted().empty(); });
    }
    bool nothing_waits() {
        return eventually(30s, [this] { return installed_.pending_count() == 0; });
    }

    kafka::Reaper reaper_;
};

TEST_F(LedgerScan, AfterARestorePublishesNothingTwiceThatTheLedgerForgot) {
    ASSERT_NO_FATAL_FAILURE(lose_commits_and_ledger());
    RunningRelay relay(installed_);
    ASSERT_TRUE(is_halted());

    const Finished resume =
        millrace({"ledger", "resume", "--scan", "--reason", "restored, the ledger lost"});

    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_THAT(resume.output,
                HasSubstr("scanned 1 topics for 130 waiting tasks: 100 are published"));
    EXPECT_THAT(resume.output, HasSubstr("deleted 100 published tasks"));
    EXPECT_EQ(acts(), "ledger resume --scan/all publishers/restored, the ledger lost");
    EXPECT_TRUE(nothing_waits());
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

// An event for two topics, of which one was written; and what a stranger wrote under our ids.
TEST_F(LedgerScan, DeletesNoTaskForARecordThatIsNotIts) {
    ASSERT_NO_FATAL_FAILURE(lose_commits_and_ledger());
    const std::string other = fresh_name("other");
    create_topic(other, 1);
    session_.execute(
        "INSERT INTO millrace.pending_tasks (event_id, topic, key, task_type, created_at) "
        "SELECT event_id, $1, 'k', 'Twice', created_at FROM millrace.pending_tasks "
        "ORDER BY id LIMIT 1",
        pg::Params().text(other));
    const pg::Result twice = session_.execute(
        "SELECT event_id::text, floor(extract(epoch FROM created_at) * 1000)::bigint "
        "FROM millrace.pending_tasks WHERE topic = $1",
        pg::Params().text(other));
    rd_kafka_headers_t* headers = rd_kafka_headers_new(2);
    rd_kafka_header_add(headers, "id", -1, twice.text(0, 0).c_str(), -1);
    rd_kafka_header_add(headers, "millrace-seq", -1, "0123abcd.0.1.1", -1);
    kafka::Producer stranger(kafka_options(), fresh_name("stranger"), reaper_);
    stranger.init(30s);
    stranger.begin();
    stranger.produce({.topic = other,
                      .partition = 0,
                      .key = std::nullopt,
                      .value = "of a stranger",
                      .timestamp = std::chrono::milliseconds(twice.integer(0, 1)),
                      .headers = headers});
    stranger.flush();
    stranger.commit();
    RunningRelay relay(installed_);
    ASSERT_TRUE(is_halted());

    const Finished resume = millrace({"ledger", "resume", "--scan", "--reason", "lost"});

    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_THAT(resume.output, HasSubstr("for 131 waiting tasks: 100 are published"));
    EXPECT_TRUE(nothing_waits());
    EXPECT_EQ(count_records(other), 2U);
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

// What we published stands behind somebody's open transaction, where no reader sees it yet.
TEST_F(LedgerScan, WaitsForWhatStandsBehindAnOpenTransaction) {
    kafka::Producer stranger(kafka_options(), fresh_name("stranger"), reaper_);
    stranger.init(30s);
    stranger.begin();
    for (int32_t partition = 0; partition < 4; ++partition) {
        stranger.produce({.topic = installed_.topic,
                          .partition = partition,
                          .key = std::nullopt,
                          .value = "never"});
    }
    stranger.flush();
    ASSERT_NO_FATAL_FAILURE(lose_commits_and_ledger());
    RunningRelay relay(installed_);
    ASSERT_TRUE(is_halted());
    Process resume({.arguments = {"ledger", "resume", "--scan", "--reason", "lost", "--config",
                                  config_},
                    .environment = {},
                    .log_name = "resume"});
    ASSERT_TRUE(eventually(60s, [&] { return resume.has_logged("scans " + installed_.topic); }));
    EXPECT_FALSE(resume.has_logged("are published"));
    stranger.abort(10s);

    EXPECT_EQ(resume.wait(60s), 0) << resume.log();
    EXPECT_THAT(resume.log(), HasSubstr("for 130 waiting tasks: 100 are published"));
    EXPECT_TRUE(nothing_waits());
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

TEST_F(OperatorVerbs, TrustingTheDatabaseAfterARestorePublishesAgainAndLosesNothing) {
    installed_.insert(40);
    ASSERT_NO_FATAL_FAILURE(lose_commits(40));
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return !halted().empty(); }));

    const Finished resume =
        millrace({"ledger", "resume", "--trust-database", "--reason", "accepted"});

    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    const Verdict verdict = installed_.verdict();
    EXPECT_EQ(verdict.doubled_count, 40);
    EXPECT_EQ(verdict.lost_count + verdict.phantom_count, 0) << verdict.text();
}

TEST_F(OperatorVerbs, ALedgerTopicMadeAgainHaltsAndIsResumed) {
    installed_.insert(20);
    {
        RunningRelay relay(installed_);
        ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    }
    delete_topic(installed_.installation.ledger_topic());
    const Finished missing = millrace({"ledger", "status"});
    EXPECT_EQ(missing.exit_code, kExitConfiguration);
    EXPECT_THAT(missing.output, HasSubstr("run 'millrace migrate up'"));
    kafka::Reaper reaper;
    ensure_ledger_topic(kafka_options(), installed_.installation, 1, reaper);
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return !halted().empty(); }));
    EXPECT_THAT(halted(), Each(HasSubstr("ledger_behind_database")));
    EXPECT_THAT(millrace({"outbox", "status"}).output,
                HasSubstr("publishers are halted: ledger_behind_database"));

    const Finished resume =
        millrace({"ledger", "resume", "--trust-database", "--reason", "topic was deleted"});

    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    installed_.insert(20);
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

// PROTOCOL 4.3: the topic's id is the row's, also for a relay that ran before the topic was made
// again. It went by the old id and halted the fleet anew, as often as that was resumed.
TEST_F(OperatorVerbs, RelaysThatRunWhileTheLedgerTopicIsMadeAgainGoOnOnceItIsResumed) {
    LedgerRecord foreign = empty_record(installed_, 0, 0, 0);
    foreign.installation = Uuid::random();
    write_ledger(installed_, 0, encode(foreign));
    installed_.insert(20);
    // Killed at the end: before 2.10 librdkafka may crash when a client is destroyed that met both
    // topics.
    Process::Options run;
    run.arguments = {"run", "--config", config_};
    const Process relay(run);
    ASSERT_TRUE(eventually(30s, [&] { return !halted().empty(); }));
    ASSERT_THAT(halted(), Each(HasSubstr("prefix_taken")));

    // As the README says.
    delete_topic(installed_.installation.ledger_topic());
    kafka::Reaper reaper;
    ensure_ledger_topic(kafka_options(), installed_.installation, 1, reaper);
    const Finished resume =
        millrace({"ledger", "resume", "--trust-database", "--reason", "the other is gone"});

    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; })) << relay.log();
    EXPECT_THAT(halted(), testing::IsEmpty());
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
}

TEST_F(OperatorVerbs, ResumeThatDiedBetweenItsStepsRunsAgain) {
    installed_.insert(30);
    ASSERT_NO_FATAL_FAILURE(lose_commits(30));
    RunningRelay relay(installed_);
    ASSERT_TRUE(eventually(30s, [&] { return !halted().empty(); }));
    // What its first step leaves: rows above the ledger, everything still halted.
    session_.execute(
        "UPDATE millrace.relay_publishers SET seq = seq + 100, generation = generation + 1");

    const Finished resume =
        millrace({"ledger", "resume", "--trust-database", "--reason", "second try"});

    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    EXPECT_EQ(installed_.verdict().lost_count, 0);
}

// PROTOCOL 4.6, 4.3: an operator's resume that hangs for a while, and another that brings the work
// to its end meanwhile. The record of the first says less than the ledger's newest, and hides it.
TEST_F(OperatorVerbs, ResumeThatWasPausedHidesNothingThatWasPublishedMeanwhile) {
    halt_at_seq_one();
    Process paused(resume_by("first"));
    ASSERT_NO_FATAL_FAILURE(pause_between_its_steps(paused));
    const Finished resume =
        millrace({"ledger", "resume", "--trust-database", "--reason", "second"});
    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    ASSERT_THAT(halted(), testing::IsEmpty());
    // A relay goes on, and dies between its two commits.
    installed_.insert(20);
    PublisherByHand dead(installed_, 0);
    dead.take_lanes();
    ASSERT_EQ(dead.claim(), 20U);
    dead.commit_kafka();
    dead.roll_back();

    paused.signal(SIGCONT);
    ASSERT_TRUE(paused.wait(60s)) << paused.log();

    RunningRelay relay(installed_);
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }))
        << testing::PrintToString(halted());
    relay.stop();
    const Verdict verdict = installed_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text() << paused.log();
}

// The same with a relay that lives: a record that came late must not halt a fleet that is well.
TEST_F(OperatorVerbs, ResumeThatWasPausedHaltsNoFleetThatIsWell) {
    halt_at_seq_one();
    Process paused(resume_by("first"));
    ASSERT_NO_FATAL_FAILURE(pause_between_its_steps(paused));
    const Finished resume =
        millrace({"ledger", "resume", "--trust-database", "--reason", "second"});
    ASSERT_EQ(resume.exit_code, 0) << resume.output;
    RunningRelay relay(installed_);
    installed_.insert(20);
    ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));

    paused.signal(SIGCONT);
    ASSERT_TRUE(paused.wait(60s)) << paused.log();
    installed_.insert(20);

    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
    EXPECT_THAT(halted(), testing::IsEmpty()) << paused.log();
}

// PROTOCOL 4.1, 4.6: the newest numbers stand in the ledger alone, in a record of the generation
// that the resume ends.
TEST_F(OperatorVerbs, ResumeBeginsTheNumbersOfARecordThatTheTableHasNotAnew) {
    for (int run = 1; run <= 2; ++run) {
        {
            RunningRelay relay(installed_);
            for (const int count : {20, 20, 1}) {
                installed_.insert(count);
                ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
            }
        }
        session_.execute("UPDATE millrace.relay_publishers SET halted = 'database_behind_ledger'");
        const Finished resume =
            millrace({"ledger", "resume", "--trust-database", "--reason", "again"});
        ASSERT_EQ(resume.exit_code, 0) << resume.output;
    }
    RunningRelay relay(installed_);
    installed_.insert(20);
    ASSERT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));

    EXPECT_EQ(sequence_breaks(read_topic(installed_.topic)), std::vector<std::string>{});
    EXPECT_EQ(session_.execute("SELECT max(generation) FROM millrace.relay_publishers")
                  .integer(0, 0),
              3);
}

}  // namespace
}  // namespace millrace::test
