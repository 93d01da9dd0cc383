// `migrate up` and `migrate status`, by the shipped program on real servers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/failure.h"
#include "schema/installation.h"
#include "schema/migrator.h"
#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/folder.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using testing::HasSubstr;

std::string config_of(const std::string& url, const std::string& kafka_more = "") {
    return write_file("millrace.yaml", "postgres: {url: \"" + url + "\"}\n" +
                                           "kafka: {brokers: \"" + brokers() +
                                           "\", replication: 1" + kafka_more + "}\n");
}

class Migrate : public testing::Test {
  protected:
    Finished up(std::vector<std::string> more = {}, const std::string& config = "") {
        std::vector<std::string> arguments{"migrate", "up", "--config",
                                           config.empty() ? config_ : config};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run_program(arguments);
    }

    // The installation with a name of its own, whose ledger topic no other test has.
    Finished up_named() { return up({"--name", name_}); }

    Database database_ = Database::bare();
    std::string config_ = config_of(database_.url());
    std::string name_ = fresh_name("migrate").substr(0, 40);
};

TEST_F(Migrate, MakesSchemaInstallationAndLedgerTopicAndIsRepeatable) {
    const Finished first = up({"--name", name_, "--lanes", "5"});
    const Finished second = up();

    ASSERT_EQ(first.exit_code, 0) << first.output;
    EXPECT_THAT(first.output, HasSubstr("applied migration 0001_outbox"));
    EXPECT_THAT(first.output, HasSubstr("5 lanes, prefix millrace." + name_));
    ASSERT_EQ(second.exit_code, 0) << second.output;
    EXPECT_THAT(second.output, testing::Not(HasSubstr("applied")));
    pg::Session session = database_.connect();
    const Installation installation = require_installation(session);
    EXPECT_EQ(installation.name, name_);
    EXPECT_EQ(installation.lane_count, 5);
    EXPECT_TRUE(installation.kafka_cluster_id);
    EXPECT_GT(count_records(installation.ledger_topic()), 0U);
}

TEST_F(Migrate, TakesTheDatabasesNameAndRefusesOneThatDoesNotFit) {
    pg::Session session = database_.connect();
    const std::string wide = "\"Shop " + database_.name() + "\"";
    session.execute("CREATE DATABASE " + wide);
    const std::string url = database_.url() + " dbname='Shop " + database_.name() + "'";

    const Finished fits = up();
    const Finished does_not = up({}, config_of(url));

    session.execute("DROP DATABASE " + wide + " WITH (FORCE)");
    EXPECT_EQ(does_not.exit_code, kExitConfiguration);
    EXPECT_THAT(does_not.output, HasSubstr("give another by --name"));
    // A test's database has a name of 50 characters.
    EXPECT_EQ(fits.exit_code, kExitConfiguration);
    EXPECT_THAT(fits.output, HasSubstr(database_.name()));
}

TEST_F(Migrate, FixedFactsCantBeChangedLater) {
    ASSERT_EQ(up_named().exit_code, 0);

    const Finished lanes = up({"--lanes", "3"});
    const Finished name = up({"--name", "other"});
    const Finished prefix = up({}, config_of(database_.url(), ", prefix: other"));

    EXPECT_EQ(lanes.exit_code, kExitConfiguration);
    EXPECT_THAT(lanes.output, HasSubstr("has 12 lanes"));
    EXPECT_EQ(name.exit_code, kExitConfiguration);
    EXPECT_THAT(name.output, HasSubstr("is called '" + name_ + "'"));
    EXPECT_EQ(prefix.exit_code, kExitConfiguration);
    EXPECT_THAT(prefix.output, HasSubstr("was made with 'millrace." + name_ + "'"));
}

TEST_F(Migrate, AnotherClusterIsRefused) {
    ASSERT_EQ(up_named().exit_code, 0);
    database_.connect().execute("UPDATE millrace.installation SET kafka_cluster_id = 'elsewhere'");

    const Finished again = up();

    EXPECT_EQ(again.exit_code, kExitConfiguration);
    EXPECT_THAT(again.output, HasSubstr("the installation's ledger is in cluster elsewhere"));
}

// PROTOCOL 1: two installations with one prefix would share consumer groups.
TEST_F(Migrate, ThePrefixOfAnotherInstallationIsTaken) {
    ASSERT_EQ(up_named().exit_code, 0);
    const Database second = Database::bare();

    const Finished other = up({"--name", name_}, config_of(second.url()));

    EXPECT_EQ(other.exit_code, kExitConfiguration);
    EXPECT_THAT(other.output, HasSubstr("prefix_taken"));
    EXPECT_THAT(other.output, HasSubstr("--name ANOTHER"));
    const Finished as_it_says = up({"--name", name_ + "2"}, config_of(second.url()));
    EXPECT_EQ(as_it_says.exit_code, 0) << as_it_says.output;
}

// PROTOCOL 1: a copy would fence the original.
TEST_F(Migrate, ACopiedDatabaseIsRefusedUntilSomebodySaysWhatItIs) {
    ASSERT_EQ(up_named().exit_code, 0);
    const Database copy = Database::copy_of(database_);
    const std::string config = config_of(copy.url());

    const Finished plain = up({}, config);
    const Finished verb = run_program({"lanes", "list", "--config", config});
    const Finished moved = up({"--moved"}, config);
    const Finished after = run_program({"lanes", "list", "--config", config});

    EXPECT_EQ(plain.exit_code, kExitConfiguration);
    EXPECT_THAT(plain.output, HasSubstr("database_copied"));
    EXPECT_THAT(plain.output, HasSubstr("--moved"));
    EXPECT_EQ(verb.exit_code, kExitConfiguration);
    EXPECT_EQ(moved.exit_code, 0) << moved.output;
    EXPECT_EQ(after.exit_code, 0) << after.output;
}

TEST_F(Migrate, ACopyWithANewNameIsAnInstallationOfItsOwn) {
    ASSERT_EQ(up_named().exit_code, 0);
    {
        pg::Session session = database_.connect();
        session.execute(
            "UPDATE millrace.relay_publishers SET seq = 7, halted = 'x' WHERE number = 3");
        session.execute("UPDATE millrace.relay_lanes SET publisher = 3 WHERE lane = 1");
        session.execute("INSERT INTO millrace.pending_tasks (topic, task_type) VALUES ('t', 'T')");
    }
    const Database copy = Database::copy_of(database_);
    const std::string config = config_of(copy.url());
    const std::string new_name = fresh_name("copy").substr(0, 40);

    const Finished adopted = up({"--name", new_name}, config);

    ASSERT_EQ(adopted.exit_code, 0) << adopted.output;
    EXPECT_THAT(adopted.output, HasSubstr("holds 1 tasks of the original"));
    pg::Session original = database_.connect();
    pg::Session session = copy.connect();
    const Installation made = require_installation(session);
    EXPECT_NE(made.id, require_installation(original).id);
    EXPECT_EQ(made.prefix, "millrace." + new_name);
    const pg::Result publisher = session.execute(
        "SELECT seq, generation, halted IS NULL FROM millrace.relay_publishers WHERE number = 3");
    EXPECT_EQ(publisher.integer(0, 0), 0);
    EXPECT_EQ(publisher.integer(0, 1), 2);
    EXPECT_TRUE(publisher.boolean(0, 2));
    EXPECT_EQ(session.execute("SELECT FROM millrace.relay_lanes WHERE publisher IS NOT NULL")
                  .row_count(),
              0);
}

TEST_F(Migrate, ACopyMayNotTakeTheOriginalsPrefix) {
    const std::string prefix = ", prefix: \"" + fresh_name("prefix") + "\"";
    ASSERT_EQ(up({"--name", name_}, config_of(database_.url(), prefix)).exit_code, 0);
    const Database copy = Database::copy_of(database_);

    const Finished adopted = up({"--name", "other"}, config_of(copy.url(), prefix));

    EXPECT_EQ(adopted.exit_code, kExitConfiguration);
    EXPECT_THAT(adopted.output, HasSubstr("is the original's"));
}

TEST_F(Migrate, MissingRightsAreNamedWithTheGrant) {
    const std::string role = fresh_name("role");
    pg::Session session = database_.connect();
    session.execute("CREATE ROLE \"" + role + "\" LOGIN");

    const Finished refused = up({}, config_of(database_.url() + " user='" + role + "'"));

    session.execute("DROP ROLE \"" + role + "\"");
    EXPECT_EQ(refused.exit_code, kExitConfiguration);
    EXPECT_THAT(refused.output, HasSubstr("GRANT CREATE ON DATABASE " + database_.name() + " TO "));
}

TEST_F(Migrate, StatusSaysWhatIsMissing) {
    const Finished before =
        run_program({"migrate", "status", "--config", config_, "--output", "json"});
    ASSERT_EQ(up_named().exit_code, 0);
    const Finished after = run_program({"migrate", "status", "--config", config_});

    EXPECT_EQ(before.exit_code, kExitFoundWrong);
    const nlohmann::json listed = nlohmann::json::parse(before.output);
    EXPECT_EQ(static_cast<int>(listed.size()), known_schema_version());
    EXPECT_TRUE(listed[0]["applied_at"].is_null());
    EXPECT_EQ(after.exit_code, 0) << after.output;
}

TEST_F(Migrate, AVerbOnADatabaseWithoutSchemaSaysWhatToRun) {
    const Finished finished = run_program({"outbox", "status", "--config", config_});

    EXPECT_EQ(finished.exit_code, kExitConfiguration);
    EXPECT_THAT(finished.output, HasSubstr("run 'millrace migrate up'"));
}

TEST_F(Migrate, WithoutKafkaNothingIsMade) {
    const std::string config = write_file(
        "millrace.yaml",
        "postgres: {url: \"" + database_.url() + "\"}\nkafka: {brokers: \"127.0.0.1:1\"}\n");

    const Finished finished = up({}, config);

    EXPECT_EQ(finished.exit_code, kExitServerDown) << finished.output;
    pg::Session session = database_.connect();
    EXPECT_EQ(schema_state(session).version, 0);
}

}  // namespace
}  // namespace millrace::test
