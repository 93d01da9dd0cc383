// Read models as an operator meets them: made by `migrate up`, served by `run`, listed and resumed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/failure.h"
#include "tests/support/admin_client.h"
#include "tests/support/eventually.h"
#include "tests/support/folder.h"
#include "tests/support/installed.h"
#include "tests/support/process.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class ProjectionVerbs : public testing::Test {
  protected:
    ProjectionVerbs() {
        // The installation's own keys, with the projections that it leaves out.
        std::string text = installed_.config();
        const std::string off = "projections: {enabled: false}\n";
        text.replace(text.find(off), off.size(), "projections: {session_timeout: 1s}\n");
        config_text_ = text;
        config_ = folder_.write("millrace.yaml", text);
        write("counted", file(1, "n bigint"));
    }

    void write(const std::string& name, const std::string& text) const {
        folder_.write("projections/" + name + ".sql", text);
    }

    // Counts the tasks that Installed::insert makes, by key.
    std::string file(int version, const std::string& column, const std::string& add = "1",
                     const std::string& table = "counted") const {
        return "/* millrace projection\n"
               "version: " + std::to_string(version) + "\n"
               "topics: [" + installed_.topic + "]\n"
               "columns:\n"
               "  n: {type: bigint, path: $.n}\n"
               "*/\n"
               "-- table\n"
               "CREATE TABLE " + table + " (key text PRIMARY KEY, " + column + ")\n"
               "-- apply\n"
               "INSERT INTO " + table + " AS t\n"
               "SELECT _key, " + add + " * count(*) FROM batch GROUP BY _key ORDER BY _key\n"
               "ON CONFLICT (key) DO UPDATE SET n = t.n + excluded.n\n";
    }

    Finished millrace(std::vector<std::string> arguments) const {
        arguments.insert(arguments.end(), {"--config", config_});
        return run_program(arguments);
    }

    Process run() const {
        return Process({.arguments = {"run", "--config", config_}, .environment = {}});
    }

    int64_t counted(const std::string& table = "counted") {
        return session_
            .execute("SELECT coalesce(sum(n), 0)::bigint FROM " + table + "_v1." + table)
            .integer(0, 0);
    }

    nlohmann::json listed() const {
        const Finished list = millrace({"projection", "list", "--output", "json"});
        EXPECT_EQ(list.exit_code, 0) << list.output;
        return nlohmann::json::parse(list.output);
    }

    Installed installed_;
    Folder folder_;
    std::string config_text_;
    std::string config_;
    pg::Session session_ = installed_.database.connect();
};

TEST_F(ProjectionVerbs, WhatIsInsertedReachesTheReadModelOnce) {
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    installed_.insert(300);
    Process process = run();

    EXPECT_TRUE(eventually(40s, [&] { return counted() == 300; })) << process.log();
    EXPECT_EQ(installed_.number("SELECT sum(n)::bigint FROM read_models.counted"), 300);

    process.signal(SIGTERM);
    EXPECT_EQ(process.wait(20s), 0) << process.log();
    EXPECT_EQ(counted(), 300);
    const nlohmann::json list = listed();
    ASSERT_EQ(list.size(), 1U);
    EXPECT_EQ(list[0]["state"], "live");
    EXPECT_EQ(list[0]["partitions"], 4);
}

TEST_F(ProjectionVerbs, MigrateUpNamesTheLineOfAMistakeAndMakesTheOthers) {
    write("wrong", file(1, "n bigint", "1", "wrong") + "-- apply\nDELETE FROM nowhere\n");

    const Finished up = millrace({"migrate", "up"});

    EXPECT_EQ(up.exit_code, kExitConfiguration);
    EXPECT_THAT(up.output, HasSubstr("wrong.sql:"));
    EXPECT_THAT(up.output, HasSubstr("projection counted version 1 made"));
}

TEST_F(ProjectionVerbs, AFileThatMigrateUpHasNotSeenIsNotServedUntilItHas) {
    const Process process = run();
    const AdminClient admin(process);

    EXPECT_TRUE(eventually(20s, [&] {
        return admin.get("/readyz").find("run 'millrace migrate up'") != std::string::npos;
    })) << process.log();
    EXPECT_EQ(listed()[0]["state"], "not_installed");
    EXPECT_EQ(admin.metric("millrace_projection_halted{projection=\"counted\","
                           "reason=\"not_installed\"}"),
              1);

    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    installed_.insert(10);

    EXPECT_TRUE(eventually(40s, [&] { return counted() == 10; })) << process.log();
    EXPECT_EQ(admin.metric("millrace_projection_halted"), 0);
}

TEST_F(ProjectionVerbs, AViewThatIsGoneRefusesItsProjectionAlone) {
    write("other", file(1, "n bigint", "1", "other"));
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    session_.execute("DROP VIEW read_models.counted");
    const Process process = run();
    const AdminClient admin(process);
    installed_.insert(10);

    EXPECT_TRUE(eventually(40s, [&] { return counted("other") == 10; })) << process.log();
    EXPECT_THAT(admin.get("/readyz"), HasSubstr("projection counted is not served by this process: "
                                                "projection_incomplete: it lacks "
                                                "read_models.counted"));
    EXPECT_TRUE(eventually(20s, [&] {
        return admin.get("/readyz").find("\"status\":\"degraded\"") != std::string::npos;
    }));
    EXPECT_EQ(listed()[0]["state"], "projection_incomplete");
    EXPECT_EQ(listed()[1]["state"], "live");
    EXPECT_EQ(admin.metric("millrace_projection_halted{projection=\"counted\","
                           "reason=\"projection_incomplete\"}"),
              1);

    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);

    EXPECT_TRUE(eventually(40s, [&] { return counted() == 10; })) << process.log();
}

// Nothing of a server's is asked while the process is put together.
TEST_F(ProjectionVerbs, ADatabaseThatRefusesUsAfterTheChecksIsWaitedFor) {
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    session_.execute("ALTER TABLE millrace.projections RENAME TO moved");
    Process process = run();
    const AdminClient admin(process);
    ASSERT_TRUE(eventually(30s, [&] {
        return admin.get("/readyz").find("projections wait: ") != std::string::npos;
    })) << process.log();

    session_.execute("ALTER TABLE millrace.moved RENAME TO projections");
    installed_.insert(10);

    EXPECT_TRUE(eventually(40s, [&] { return counted() == 10; })) << process.log();
    EXPECT_TRUE(process.is_running());
}

TEST_F(ProjectionVerbs, AHigherVersionIsRefusedAndTheStoredOneServed) {
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    write("counted", file(2, "n bigint", "2"));

    const Finished up = millrace({"migrate", "up"});
    Process process = run();
    installed_.insert(10);

    EXPECT_EQ(up.exit_code, kExitConfiguration);
    EXPECT_THAT(up.output, HasSubstr("needs_rebuild"));
    EXPECT_TRUE(eventually(40s, [&] { return counted() == 10; })) << process.log();
    EXPECT_EQ(listed()[0]["state"], "needs_rebuild");
}

TEST_F(ProjectionVerbs, AChangedFileIsNotServedAndReadyzSaysSo) {
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    const Folder old;
    old.write("projections/counted.sql", file(1, "n bigint"));
    write("counted", file(1, "n bigint", "2"));
    Process process = run();
    const AdminClient admin(process);

    // The first answer may be of a moment at which no server was asked yet.
    ASSERT_TRUE(eventually(20s, [&] {
        const std::string body = admin.get("/readyz");
        return body.find("definition_changed") != std::string::npos &&
               body.find("\"status\":\"degraded\"") != std::string::npos;
    })) << process.log();

    EXPECT_EQ(listed()[0]["state"], "definition_changed");

    // Those with the old file apply all partitions.
    const Process other({.arguments = {"run", "--config", old.write("millrace.yaml", config_text_)},
                         .environment = {}});
    installed_.insert(40);
    EXPECT_TRUE(eventually(40s, [&] { return counted() == 40; })) << other.log();
    EXPECT_TRUE(process.is_running());
}

TEST_F(ProjectionVerbs, ARecordThatFailsHaltsUntilItIsResumed) {
    const std::string keys = "session_timeout: 1s";
    config_text_.replace(config_text_.find(keys), keys.size(), keys + ", on_poison: halt");
    config_ = folder_.write("millrace.yaml", config_text_);
    write("counted", file(1, "n bigint CHECK (n < 5)"));
    write("other", file(1, "n bigint", "1", "other"));
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    Process process = run();
    const AdminClient admin(process);
    installed_.insert(20, 1);
    ASSERT_TRUE(eventually(60s, [&] { return listed()[0]["state"] == "halted"; }))
        << process.log();
    const nlohmann::json halted = listed()[0];
    EXPECT_EQ(halted["then"], "millrace projection resume counted");
    EXPECT_THAT(halted["reason"].get<std::string>(), HasSubstr("23514"));
    EXPECT_TRUE(eventually(10s, [&] {
        return admin.get("/readyz").find("projection counted is halted") != std::string::npos;
    })) << admin.get("/readyz");

    installed_.insert(20);
    EXPECT_TRUE(eventually(40s, [&] { return counted("other") == 40; })) << process.log();
    // What stands before it is applied.
    EXPECT_EQ(counted(), 4);

    session_.execute("ALTER TABLE counted_v1.counted DROP CONSTRAINT counted_n_check");
    const Finished resume = millrace({"projection", "resume", "counted", "--reason", "mended"});

    EXPECT_EQ(resume.exit_code, 0) << resume.output;
    EXPECT_TRUE(eventually(40s, [&] { return counted() == 40; })) << process.log();
    EXPECT_EQ(session_.execute("SELECT verb || '/' || object || '/' || reason "
                               "FROM millrace.operator_acts")
                  .text(0, 0),
              "projection resume/counted version 1/mended");
}

TEST_F(ProjectionVerbs, AFileThatIsGoneIsListedAsOrphan) {
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    std::filesystem::remove(folder_.path() / "projections" / "counted.sql");

    EXPECT_EQ(listed()[0]["state"], "orphan");
}

TEST_F(ProjectionVerbs, AProjectionThatIsNotThereIsAMistakeOfUsage) {
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);

    const Finished resume = millrace({"projection", "resume", "countd"});
    const Finished not_halted = millrace({"projection", "resume", "counted"});

    EXPECT_EQ(resume.exit_code, kExitUsage);
    EXPECT_THAT(resume.output, HasSubstr("did you mean \"counted\"?"));
    EXPECT_THAT(not_halted.output, HasSubstr("was not halted"));
    EXPECT_EQ(session_.execute("SELECT FROM millrace.operator_acts").row_count(), 0);
}

// Type json takes \u0000 at the insert, a text column never could.
TEST_F(ProjectionVerbs, OneEventAmongManyWithANulIsOneLetterAndNamedWithPathAndColumn) {
    write("counted",
          "/* millrace projection\nversion: 1\ntopics: [" + installed_.topic + "]\n"
          "columns:\n  name: {type: text, path: $.name}\n*/\n"
          "-- table\nCREATE TABLE counted (name text PRIMARY KEY, n bigint)\n"
          "-- apply\nINSERT INTO counted AS t\n"
          "SELECT name, count(*) FROM batch WHERE name IS NOT NULL GROUP BY name ORDER BY name\n"
          "ON CONFLICT (name) DO UPDATE SET n = t.n + excluded.n\n");
    ASSERT_EQ(millrace({"migrate", "up"}).exit_code, 0);
    session_.execute(
        "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
        "SELECT '" + installed_.topic + "', 'k' || i % 50, 'Named', "
        "CASE i WHEN 15000 THEN '{\"name\": \"a\\u0000b\"}' "
        "ELSE '{\"name\": \"n' || i % 50 || '\"}' END::json "
        "FROM generate_series(1, 20000) AS i");

    Process process = run();

    // Behind it come 100 events of its key.
    ASSERT_TRUE(eventually(60s, [&] { return counted() == 20000 - 1 - 100; })) << process.log();
    const Finished list = millrace({"dlq", "list", "--output", "json"});
    const nlohmann::json letters = nlohmann::json::parse(list.output);
    ASSERT_EQ(letters.size(), 1U);
    EXPECT_EQ(letters[0]["cause"], "unparsable_event");
    EXPECT_EQ(letters[0]["parked"], 100);
    EXPECT_THAT(letters[0]["error"], HasSubstr(letters[0]["record"].get<std::string>()));
    EXPECT_THAT(letters[0]["error"], HasSubstr("$.name"));
    EXPECT_THAT(letters[0]["error"], HasSubstr("column name"));
    EXPECT_EQ(listed()[0]["state"], "live");
}

TEST_F(ProjectionVerbs, ValidateNamesTheLineOfAMistake) {
    write("wrong", "/* millrace projection\nversion: one\n*/\n");

    const Finished validate = millrace({"validate"});

    EXPECT_EQ(validate.exit_code, kExitConfiguration);
    EXPECT_THAT(validate.output, HasSubstr("wrong.sql:2: "));
}

}  // namespace
}  // namespace millrace::test
