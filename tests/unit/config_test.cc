#include "app/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "app/options.h"
#include "core/failure.h"
#include "tests/support/failures.h"
#include "tests/support/folder.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const std::string kLeast =
    "postgres: {url: \"postgresql://db/shop\"}\n"
    "kafka: {brokers: \"kafka:9092\"}\n";

Config load(const std::string& more, const Environment& environment = {}) {
    return Config::load(write_file("config.yaml", kLeast + more), environment);
}

// What is wrong, empty if nothing is; the file's name is cut off.
std::string mistakes(const std::string& text, const Environment& environment = {}) {
    const std::string path = write_file("config.yaml", text);
    try {
        Config::load(path, environment);
    } catch (const Failure& failure) {
        EXPECT_EQ(failure.exit_code(), kExitConfiguration);
        std::string detail = failure.detail();
        for (size_t at = detail.find(path); at != std::string::npos; at = detail.find(path)) {
            detail.replace(at, path.size(), "F");
        }
        return detail;
    }
    return "";
}

const ConfigEntry& entry(const Config& config, std::string_view name) {
    return *std::find_if(config.entries().begin(), config.entries().end(),
                         [name](const ConfigEntry& found) { return found.name == name; });
}

TEST(Config, EveryDefaultIsAValidValueOfItsKey) {
    for (const ConfigKey& key : config_keys()) {
        // What a map holds has no default: it is there or not.
        if (key.name.find('*') != std::string_view::npos) {
            EXPECT_EQ(key.fallback, "") << key.name;
        } else {
            EXPECT_EQ(fault_of(key, key.fallback), std::nullopt) << key.name;
        }
        EXPECT_FALSE(key.help.empty()) << key.name;
    }
}

TEST(Config, NoTwoKeysShareAVariable) {
    std::set<std::string> variables;
    for (const ConfigKey& key : config_keys()) {
        if (!key.has_variable()) continue;
        EXPECT_TRUE(variables.insert(key.variable()).second) << key.variable();
    }
    EXPECT_TRUE(variables.contains("MILLRACE_RELAY_BATCH_TASKS"));
    EXPECT_TRUE(variables.contains("MILLRACE_SHUTDOWN_TIMEOUT"));
}

TEST(Config, FileWinsOverDefaultAndEnvironmentOverFile) {
    const Config config =
        load("relay: {linger: 20ms, lease: 1s}\n", {{"MILLRACE_RELAY_LEASE", "2s"}});

    EXPECT_EQ(config.duration("relay.linger"), 20ms);
    EXPECT_EQ(config.duration("relay.lease"), 2s);
    EXPECT_EQ(config.count("relay.batch.tasks"), 2000);
    EXPECT_THAT(entry(config, "relay.linger").origin, testing::EndsWith(":3"));
    EXPECT_EQ(entry(config, "relay.lease").origin, "MILLRACE_RELAY_LEASE");
    EXPECT_EQ(entry(config, "relay.batch.tasks").origin, "default");
}

TEST(Config, UnknownKeyNamesItsPlaceAndTheNearestKey) {
    EXPECT_EQ(mistakes(kLeast + "relay:\n  batch: {task: 5}\n"),
              "F:4:11: unknown key relay.batch.task; did you mean \"relay.batch.tasks\"?");
    EXPECT_EQ(mistakes(kLeast + "relai: {}\n"),
              "F:3:1: unknown key relai; did you mean \"relay\"?");
}

TEST(Config, KeysOfLaterCapabilitiesAreUnknown) {
    EXPECT_THAT(mistakes(kLeast + "relay: {doorbell: true}\n"),
                HasSubstr("unknown key relay.doorbell"));
}

TEST(Config, SaysAllMistakesAtOnce) {
    const std::string found = mistakes(kLeast +
                                       "relay: {linger: 20, enabled: maybe, message_format: xml}\n"
                                       "shutdown_timeout: 2h\n");

    EXPECT_THAT(found, HasSubstr("F:3: relay.linger: '20' is not a duration"));
    EXPECT_THAT(found, HasSubstr("F:3: relay.enabled: 'maybe' is neither true nor false"));
    EXPECT_THAT(found, HasSubstr("relay.message_format: 'xml' is none of payload, envelope"));
    EXPECT_THAT(found, HasSubstr("F:4: shutdown_timeout: '2h' is not between 1s and 1h"));
}

TEST(Config, WrongShapesAreNamed) {
    EXPECT_THAT(mistakes(kLeast + "relay: 5\n"), HasSubstr("F:3:8: relay needs keys below it"));
    EXPECT_THAT(mistakes(kLeast + "relay: {lease: {a: 1}}\n"),
                HasSubstr("relay.lease is one value"));
    EXPECT_THAT(mistakes(kLeast + "relay: {lease: 1s, lease: 2s}\n"),
                HasSubstr("relay.lease is given twice"));
    EXPECT_THAT(mistakes(kLeast + "projections: {only: orders}\n"),
                HasSubstr("is a list of names"));
    EXPECT_THAT(mistakes("[1, 2]\n"), HasSubstr("the file is not a map of keys"));
    EXPECT_THAT(mistakes("postgres: {url: \"x\n"), StartsWith("F:"));
}

TEST(Config, AnEmptySectionIsNoMistake) { EXPECT_EQ(mistakes(kLeast + "relay:\n"), ""); }

TEST(Config, UrlAndBrokersMustBeGiven) {
    EXPECT_EQ(mistakes(""), "F: postgres.url is missing\nF: kafka.brokers is missing");
    EXPECT_EQ(mistakes("kafka: {brokers: k}\n", {{"PGHOST", "db"}}), "");
    EXPECT_EQ(mistakes("", {{"MILLRACE_POSTGRES_URL", "postgresql://db/x"},
                            {"MILLRACE_KAFKA_BROKERS", "k:1"}}),
              "");
}

TEST(Config, ShortestPollMustNotBeAboveTheLongest) {
    EXPECT_THAT(mistakes(kLeast + "relay: {poll: {min: 50ms}}\n"),
                HasSubstr("relay.poll.min is above relay.poll.max"));
}

TEST(Config, MapsComeFromTheFileOnly) {
    const Config config = load(
        "projections: {only: [orders, totals], overrides: {totals: {threads: 4}}}\n",
        {{"MILLRACE_PROJECTIONS_OVERRIDES_TOTALS_THREADS", "9"}});

    EXPECT_THAT(config.map("projections.overrides.*.threads"),
                ElementsAre(testing::Pair("totals", "4")));
    EXPECT_THAT(config.names("projections.only"), ElementsAre("orders", "totals"));
    EXPECT_THAT(config.warnings(),
                ElementsAre(HasSubstr("MILLRACE_PROJECTIONS_OVERRIDES_TOTALS_THREADS is no key")));
}

TEST(Config, ProjectionsMayClassCodesOtherwise) {
    const Config config = load("projections: {overrides: {totals: {on_poison: skip, "
                               "sqlstates: {\"23503\": environment, P0002: record}}}}\n");

    EXPECT_THAT(config.map("projections.overrides.totals.sqlstates.*"),
                ElementsAre(testing::Pair("23503", "environment"),
                            testing::Pair("P0002", "record")));
    EXPECT_THAT(config.map("projections.overrides.*.on_poison"),
                ElementsAre(testing::Pair("totals", "skip")));
    EXPECT_TRUE(config.map("projections.overrides.*.threads").empty());
}

// An outage is never a record's fault, and our own codes are ours.
TEST(Config, ContradictionsOfClassesAreRefused) {
    const auto mistakes_of = [](const std::string& sqlstates) {
        return mistakes(kLeast + "projections: {overrides: {totals: {sqlstates: {" + sqlstates +
                        "}}}}\n");
    };
    EXPECT_THAT(mistakes_of("\"57P01\": record"), HasSubstr("by which an outage is known"));
    EXPECT_THAT(mistakes_of("\"53\": bug"), HasSubstr("by which an outage is known"));
    EXPECT_THAT(mistakes_of("\"53100\": record"), HasSubstr("not of its making"));
    EXPECT_THAT(mistakes_of("\"40P01\": record"), HasSubstr("not of its making"));
    EXPECT_THAT(mistakes_of("\"42\": record"), HasSubstr("not of its making"));
    EXPECT_THAT(mistakes_of("MR001: conflict"), HasSubstr("millrace's own"));
    EXPECT_THAT(mistakes_of("\"235033\": bug"), HasSubstr("is no SQLSTATE"));
    EXPECT_THAT(mistakes_of("\"23503\": nonsense"), HasSubstr("conflict, overload"));
    EXPECT_EQ(mistakes_of("\"23503\": environment"), "");
}

TEST(Config, NamesOfALibrarysPropertiesMayHoldDots) {
    const std::string text =
        "postgres: {url: \"postgresql://db/shop\"}\n"
        "kafka: {brokers: k, properties: {socket.timeout.ms: 5000, sasl.password: hidden}}\n";
    const Config config = Config::load(write_file("config.yaml", text), {});

    EXPECT_EQ(config.map("kafka.properties.*").at("socket.timeout.ms"), "5000");
    EXPECT_EQ(entry(config, "kafka.properties.sasl.password").shown, "***");
}

TEST(Config, NamesOfTopicsMayHoldDots) {
    const Config config = load(
        "relay:\n"
        "  on_unpublishable: dead_letter\n"
        "  topics:\n"
        "    shop.orders.v2: {on_unpublishable: halt_lane}\n"
        "    plain: {on_unpublishable: park_key}\n");

    EXPECT_THAT(config.map("relay.topics.*.on_unpublishable"),
                ElementsAre(testing::Pair("plain", "park_key"),
                            testing::Pair("shop.orders.v2", "halt_lane")));
    EXPECT_EQ(entry(config, "relay.topics.shop.orders.v2.on_unpublishable").text, "halt_lane");
}

TEST(Config, PolicyOfATopicThatCannotBeIsAMistake) {
    EXPECT_THAT(mistakes(kLeast + "relay: {topics: {\"a b\": {on_unpublishable: halt_lane}}}\n"),
                HasSubstr("'a b' can't be the name of a topic"));
    EXPECT_THAT(mistakes(kLeast + "relay: {topics: {a: {on_unpublishable: skip}}}\n"),
                HasSubstr("is none of park_key, dead_letter, halt_lane"));
}

// PROTOCOL 5.1: copies of dead letters hold up nothing.
TEST(Config, TopicOfDeadLettersCanOnlyBeDeadLetter) {
    const std::string begin = kLeast + "relay: {topics: {a.b.dlq: {on_unpublishable: ";

    EXPECT_THAT(mistakes(begin + "park_key}}}\n"), HasSubstr("can only be dead_letter"));
    EXPECT_EQ(mistakes(begin + "dead_letter}}}\n"), "");
}

TEST(Config, UnknownVariableOnlyWarns) {
    const Config config =
        load("", {{"MILLRACE_RELAY_LEASES", "1s"}, {"MILLRACE_TEST_PG", "x"}, {"PATH", "/bin"}});

    EXPECT_THAT(config.warnings(),
                ElementsAre("environment variable MILLRACE_RELAY_LEASES is no key of the "
                            "configuration; did you mean \"MILLRACE_RELAY_LEASE\"?"));
}

TEST(Config, ReferencesAreReplacedInAnyString) {
    const std::string secret = write_file("secret", "s3cret\n");
    const Config config =
        load("admin: {listen: \"${env:HOST}:84${env:LAST}\"}\n"
             "projections: {folder: \"${file:" + secret + "}\"}\n",
             {{"HOST", "0.0.0.0"}, {"LAST", "80"}});

    EXPECT_EQ(config.text("admin.listen"), "0.0.0.0:8480");
    EXPECT_EQ(config.text("projections.folder"), "s3cret");
    EXPECT_EQ(entry(config, "projections.folder").shown, "${file:" + secret + "}");
}

TEST(Config, AReferenceThatLeadsNowhereIsAMistake) {
    EXPECT_EQ(mistakes(kLeast + "log: {level: \"${env:NOPE}\"}\n"),
              "F:3: log.level: environment variable NOPE is not set");
    EXPECT_EQ(mistakes(kLeast + "log: {level: \"${file:/does/not/exist}\"}\n"),
              "F:3: log.level: file /does/not/exist can't be read");
    EXPECT_THAT(mistakes(kLeast + "log: {level: \"${vault:x}\"}\n"), HasSubstr("is neither"));
}

TEST(Config, ShownValuesHoldNoSecret) {
    const Config config = load("", {{"MILLRACE_POSTGRES_URL", "postgresql://me:p%40ss@db/shop"},
                                    {"MILLRACE_POSTGRES_PASSWORD", "s3cret"}});

    EXPECT_EQ(entry(config, "postgres.url").shown, "postgresql://me:***@db/shop");
    EXPECT_EQ(entry(config, "postgres.password").shown, "***");
    EXPECT_EQ(config.text("postgres.password"), "s3cret");
}

TEST(Config, PasswordsInConnectionStringsAreMasked) {
    EXPECT_EQ(mask_passwords("host=db password=x user=y"), "host=db password=*** user=y");
    EXPECT_EQ(mask_passwords("host=db password = 'a b\\'c' user=y"),
              "host=db password = *** user=y");
    EXPECT_EQ(mask_passwords("postgresql://db/x?sslpassword=abc&user=u"),
              "postgresql://db/x?sslpassword=***&user=u");
    EXPECT_EQ(mask_passwords("postgresql://u:p@ss@db/x"), "postgresql://u:***@db/x");
    EXPECT_EQ(mask_passwords("postgresql://db:5432/x"), "postgresql://db:5432/x");
}

TEST(Config, DurationsAndSizesNeedAUnit) {
    EXPECT_EQ(parse_duration("0ms"), 0);
    EXPECT_EQ(parse_duration("3s"), 3000);
    EXPECT_EQ(parse_duration("1h"), 3'600'000);
    EXPECT_EQ(parse_size("4MiB"), 4 << 20);
    for (const char* text : {"", "3", "s", "-1s", "1.5s", "3 s", "3sec", "9223372036854775807h"}) {
        EXPECT_EQ(parse_duration(text), std::nullopt) << text;
    }
    EXPECT_EQ(parse_size("4MB"), std::nullopt);
    EXPECT_EQ(parse_count("12x"), std::nullopt);
}

TEST(Config, FolderIsRelativeToTheFile) {
    const std::string path = write_file("config.yaml", kLeast);
    const Config config = Config::load(path, {});

    EXPECT_EQ(config.path("projections.folder"),
              std::filesystem::path(path).parent_path() / "projections");
}

TEST(Config, AMissingFileIsAMistakeWhenItWasNamed) {
    EXPECT_THROW(Config::load("/does/not/exist.yaml", {}), Failure);
    EXPECT_THROW(Config::load(std::nullopt, {{"MILLRACE_CONFIG", "/does/not/exist"}}), Failure);
}

TEST(Config, PropertiesTheProtocolRestsOnAreRefused) {
    const std::string text =
        "postgres: {url: \"postgresql://db/shop\"}\n"
        "kafka: {brokers: k, properties: {enable.idempotence: \"false\"}}\n";
    const Config config = Config::load(write_file("config.yaml", text), {});

    EXPECT_THROW(check_options(config), Failure);
}

TEST(Config, AUrlThatLibpqRefusesIsReportedWithoutItsPassword) {
    const Config config =
        load("", {{"MILLRACE_POSTGRES_URL", "postgresql://me:s3cret@db:port/x?bad"}});

    const Failure failure = failure_of([&] { check_options(config); });

    EXPECT_THAT(failure.detail(), StartsWith("postgres.url: "));
    EXPECT_THAT(failure.detail(), testing::Not(HasSubstr("s3cret")));
}

TEST(Config, RelayOptionsCarryEveryKeyOfTheRelay) {
    const Config config = load(
        "relay: {batch: {tasks: 7, bytes: 1MiB}, publishers: 3, linger: 5ms,\n"
        "        poll: {min: 2ms, max: 9ms}, lease: 1s, message_format: envelope,\n"
        "        on_unpublishable: dead_letter, topic_grace: 7s,\n"
        "        topics: {a.b: {on_unpublishable: halt_lane}}}\n");
    Installation installation;

    const RelayOptions options = relay_options(config, installation, "host-1");

    EXPECT_EQ(options.publisher.batch.task_count, 7);
    EXPECT_EQ(options.publisher.batch.byte_count, 1 << 20);
    EXPECT_EQ(options.publisher_count, 3);
    EXPECT_EQ(options.publisher.linger, 5ms);
    EXPECT_EQ(options.publisher.poll_min, 2ms);
    EXPECT_EQ(options.publisher.poll_max, 9ms);
    EXPECT_EQ(options.lease, 1s);
    EXPECT_EQ(options.publisher.message_format, MessageFormat::kEnvelope);
    EXPECT_EQ(options.publisher.unpublishable.topic_grace, 7s);
    EXPECT_EQ(options.publisher.unpublishable.policy_of("a.b"), OnUnpublishable::kHaltLane);
    EXPECT_EQ(options.publisher.unpublishable.policy_of("a"), OnUnpublishable::kDeadLetter);
    EXPECT_EQ(options.publisher.kafka.client_id, "00000000/host-1");
}

}  // namespace
}  // namespace millrace::test
