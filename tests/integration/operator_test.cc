// Operators' verbs beside running relays (PROTOCOL 2.6, 4.6, 4.7).

#include "relay/operator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "core/failure.h"
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
    RunningRelay relay(installed_);
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
    EXPECT_TRUE(eventually(30s, [&] { return installed_.pending_count() == 0; }));
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

}  // namespace
}  // namespace millrace::test
