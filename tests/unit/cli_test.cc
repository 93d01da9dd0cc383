#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/failure.h"
#include "tests/support/folder.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kConfig =
    "postgres: {url: \"postgresql://me:s3cret@127.0.0.1:1/shop\"}\n"
    "kafka: {brokers: \"127.0.0.1:1\"}\n";

std::string config(const std::string& more = "") {
    return write_file("millrace.yaml", kConfig + more);
}

TEST(CommandLine, HelpShowsTheVerbsBySection) {
    const Finished help = run_program({"--help"});

    EXPECT_EQ(help.exit_code, 0);
    EXPECT_THAT(help.output, HasSubstr("Set up        migrate     create or update tables"));
    EXPECT_THAT(help.output, HasSubstr("Operate       outbox      what waits"));
    EXPECT_THAT(help.output, HasSubstr("Exit: 0 ok, 1 failed, 2 usage"));
    EXPECT_THAT(help.output, Not(HasSubstr("doctor")));
}

TEST(CommandLine, EveryVerbHasHelpWithAnExample) {
    const std::vector<std::vector<std::string>> verbs{
        {"bench"},         {"demo"},
        {"run"},           {"migrate", "up"},   {"migrate", "status"}, {"validate"},
        {"config", "show"}, {"lanes", "list"},  {"lanes", "pause"},    {"lanes", "unpause"},
        {"lanes", "resume"}, {"ledger", "status"}, {"ledger", "resume"}, {"outbox", "status"},
        {"projection", "list"}, {"projection", "resume"}};
    for (std::vector<std::string> verb : verbs) {
        verb.push_back("--help");

        const Finished help = run_program(verb);

        EXPECT_EQ(help.exit_code, 0) << help.output;
        EXPECT_THAT(help.output, HasSubstr("Example: millrace " + verb.front()));
        EXPECT_THAT(help.output, HasSubstr("--config"));
    }
}

TEST(CommandLine, VersionIsPrinted) {
    EXPECT_THAT(run_program({"--version"}).output, HasSubstr("millrace 0."));
}

TEST(CommandLine, MistakesOnTheCommandLineEndWithTwo) {
    const std::vector<std::vector<std::string>> wrong{{},
                                                      {"nonsense"},
                                                      {"lanes"},
                                                      {"lanes", "pause"},
                                                      {"lanes", "pause", "x"},
                                                      {"ledger", "resume", "--reason", "x"},
                                                      {"ledger", "resume", "--trust-ledger"},
                                                      {"migrate", "up", "--lanes", "65"},
                                                      {"migrate", "up", "--order", "none"},
                                                      {"lanes", "list", "--output", "xml"}};
    for (const std::vector<std::string>& arguments : wrong) {
        EXPECT_EQ(run_program(arguments).exit_code, kExitUsage)
            << testing::PrintToString(arguments);
    }
}

TEST(CommandLine, UnknownCommandIsNamed) {
    EXPECT_THAT(run_program({"frob"}).output, HasSubstr("'frob' is no command here"));
    EXPECT_THAT(run_program({"lanes", "frob"}).output, HasSubstr("'frob' is no command here"));
    EXPECT_THAT(run_program({"lanes", "lst"}).output, HasSubstr("did you mean \"list\"?"));
}

TEST(CommandLine, BothSidesOfTheLedgerCantBeTrusted) {
    const Finished finished = run_program(
        {"ledger", "resume", "--trust-ledger", "--trust-database", "--reason", "x"});

    EXPECT_EQ(finished.exit_code, kExitUsage);
}

TEST(CommandLine, ValidateNeedsNoNetwork) {
    const Finished finished = run_program({"validate", "--config", config()});

    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_THAT(finished.output, HasSubstr(": ok\n"));
}

TEST(CommandLine, AWrongConfigurationEndsWith78AndNamesThePlace) {
    const std::string path = config("relay: {leas: 1s}\n");

    const Finished finished = run_program({"validate", "--config", path});

    EXPECT_EQ(finished.exit_code, kExitConfiguration);
    EXPECT_EQ(finished.output,
              path + ":3:9: unknown key relay.leas; did you mean \"relay.lease\"?\n");
}

TEST(CommandLine, ARefusedPropertyOfKafkaEndsWith78) {
    const std::string path = write_file(
        "millrace.yaml",
        "postgres: {url: \"postgresql://db/x\"}\nkafka: {brokers: k, properties: {acks: 1}}\n");

    const Finished finished = run_program({"validate", "--config", path});

    EXPECT_EQ(finished.exit_code, kExitConfiguration);
    EXPECT_THAT(finished.output, HasSubstr("acks"));
}

TEST(CommandLine, AServerThatIsDownEndsWith69) {
    const Finished finished = run_program({"lanes", "list", "--config", config()});

    EXPECT_EQ(finished.exit_code, kExitServerDown);
    EXPECT_THAT(finished.output, HasSubstr("pg_unreachable"));
}

TEST(CommandLine, NamesOfProjectionsThatAreNotThereAreMistakes) {
    const Finished finished = run_program(
        {"validate", "--config", config("projections: {only: [orders]}\n")});

    EXPECT_EQ(finished.exit_code, kExitConfiguration);
    EXPECT_THAT(finished.output, HasSubstr("projections.only: there is no projection 'orders'"));
}

TEST(CommandLine, AFolderOfProjectionsThatIsNamedMustBeThere) {
    const Finished finished = run_program(
        {"validate", "--config", config("projections: {folder: nowhere}\n")});

    EXPECT_EQ(finished.exit_code, kExitConfiguration);
    EXPECT_THAT(finished.output, HasSubstr("projection_folder"));
}

TEST(CommandLine, ConfigShowHidesSecretsAndNamesOrigins) {
    const Finished finished =
        run_program({"config", "show", "--config", config(), "--output", "json"},
                    {{"MILLRACE_RELAY_PUBLISHERS", "2"}, {"MILLRACE_POSTGRES_PASSWORD", "s3cret"}});

    ASSERT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_THAT(finished.output, Not(HasSubstr("s3cret")));
    const nlohmann::json shown = nlohmann::json::parse(finished.output);
    // Two publishers, lease, keeper, the look at the projections, the probe of PostgreSQL.
    EXPECT_EQ(shown["sessions_max"], 6);
    const auto& keys = shown["keys"];
    const auto publishers = std::find_if(keys.begin(), keys.end(), [](const auto& key) {
        return key["key"] == "relay.publishers";
    });
    ASSERT_NE(publishers, keys.end());
    EXPECT_EQ((*publishers)["value"], "2");
    EXPECT_EQ((*publishers)["origin"], "MILLRACE_RELAY_PUBLISHERS");
}

TEST(CommandLine, ConfigIsFoundByItsVariable) {
    const Finished finished = run_program({"config", "show"}, {{"MILLRACE_CONFIG", config()}});

    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_THAT(finished.output, HasSubstr("postgresql://me:***@127.0.0.1:1/shop"));
    EXPECT_THAT(finished.output, HasSubstr("PostgreSQL sessions"));
}

}  // namespace
}  // namespace millrace::test
