#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "schema/installation.h"
#include "schema/migrator.h"
#include "tests/support/database.h"
#include "tests/support/failures.h"

namespace millrace::test {
namespace {

// What a writer meets.
class OutboxTable : public testing::Test {
  protected:
    // The SQLSTATE that an insert of these columns ends with.
    std::string insert(const std::string& columns, const std::string& values) {
        return sqlstate_of([&] {
            session_.execute("INSERT INTO millrace.pending_tasks (" + columns + ") VALUES (" +
                             values + ")");
        });
    }

    Database database_;
    pg::Session session_ = database_.connect();
};

TEST_F(OutboxTable, RefusesAPayloadThatIsNotJson) {
    EXPECT_EQ(insert("topic, task_type, payload", "'t', 'T', '{\"a\": }'"), "22P02");
}

TEST_F(OutboxTable, RefusesBothPayloads) {
    EXPECT_EQ(insert("topic, task_type, payload, payload_bytes", "'t', 'T', '{}', '\\x00'"),
              "23514");
}

TEST_F(OutboxTable, TakesNoPayloadAtAll) {
    EXPECT_EQ(insert("topic, task_type", "'t', 'T'"), "none");
}

TEST_F(OutboxTable, RefusesHeadersThatAreNoObject) {
    EXPECT_EQ(insert("topic, task_type, headers", "'t', 'T', '[1]'"), "23514");
    EXPECT_EQ(insert("topic, task_type, headers", "'t', 'T', '\"x\"'"), "23514");
}

TEST_F(OutboxTable, RefusesATaskWithoutTopicOrType) {
    EXPECT_EQ(insert("topic, task_type", "'', 'T'"), "23514");
    EXPECT_EQ(insert("task_type", "'T'"), "23502");
    EXPECT_EQ(insert("topic", "'t'"), "23502");
}

TEST_F(OutboxTable, KeepsThePayloadsOwnText) {
    ASSERT_EQ(insert("topic, task_type, payload", "'t', 'T', '{\"b\":  1.10, \"b\": 2}'"), "none");

    EXPECT_EQ(session_.execute("SELECT payload::text FROM millrace.pending_tasks").text(0, 0),
              "{\"b\":  1.10, \"b\": 2}");
}

// PROTOCOL 1: a task without key is spread by its event id.
TEST_F(OutboxTable, PutsAKeyIntoOneLaneAndKeylessTasksIntoMany) {
    session_.execute("INSERT INTO millrace.pending_tasks (topic, key, task_type) "
                     "SELECT 't', 'same', 'Keyed' FROM generate_series(1, 50)");
    session_.execute("INSERT INTO millrace.pending_tasks (topic, task_type) "
                     "SELECT 't', 'Keyless' FROM generate_series(1, 200)");
    const auto lanes = [&](const std::string& type) {
        return session_
            .execute("SELECT count(DISTINCT lane) FROM millrace.pending_tasks "
                     "WHERE task_type = '" + type + "'")
            .integer(0, 0);
    };

    EXPECT_EQ(lanes("Keyed"), 1);
    EXPECT_EQ(lanes("Keyless"), 12);
    EXPECT_EQ(session_
                  .execute("SELECT count(*) FROM millrace.pending_tasks "
                           "WHERE lane NOT BETWEEN 0 AND 11")
                  .integer(0, 0),
              0);
}

// What an application's role may do (PROTOCOL 1).
class AppRole : public OutboxTable {
  protected:
    void SetUp() override {
        ASSERT_EQ(insert("topic, task_type", "'t', 'Before'"), "none");
        session_.execute("SET ROLE millrace_app");
    }

    std::string run(const std::string& sql) {
        return sqlstate_of([&] { session_.execute(sql); });
    }

    static constexpr const char* kDenied = "42501";
};

TEST_F(AppRole, MayInsertEachColumnThatIsAWritersToSet) {
    EXPECT_EQ(insert("event_id, topic, key, task_type, tenant_id, actor_id, payload, headers, "
                     "created_at",
                     "gen_random_uuid(), 't', 'k', 'T', 'n', 'a', '{}', '{}', now()"),
              "none");
    EXPECT_EQ(insert("topic, task_type, payload_bytes", "'t', 'T', '\\x00'"), "none");
}

// PROTOCOL 1: COPY and OVERRIDING SYSTEM VALUE need no right on the sequence, only on the column.
TEST_F(AppRole, MaySetNeitherIdNorXidNorLane) {
    EXPECT_EQ(insert("xid, topic, task_type", "'1', 't', 'T'"), kDenied);
    EXPECT_EQ(run("INSERT INTO millrace.pending_tasks (id, topic, task_type) "
                  "OVERRIDING SYSTEM VALUE VALUES (1, 't', 'T')"),
              kDenied);
    EXPECT_EQ(run("COPY millrace.pending_tasks (id, topic, task_type) FROM STDIN"), kDenied);
    EXPECT_EQ(run("COPY millrace.pending_tasks FROM STDIN"), kDenied);
    EXPECT_EQ(insert("lane, topic, task_type", "3, 't', 'T'"), "428C9");  // It is generated.
}

TEST_F(AppRole, MayNotMoveTheSequence) {
    EXPECT_EQ(run("SELECT nextval('millrace.pending_tasks_id_seq')"), kDenied);
    EXPECT_EQ(run("SELECT setval('millrace.pending_tasks_id_seq', 1)"), kDenied);
}

TEST_F(AppRole, MayNotChangeOrReadOrRemoveTasks) {
    EXPECT_EQ(run("UPDATE millrace.pending_tasks SET topic = 'x'"), kDenied);
    EXPECT_EQ(run("DELETE FROM millrace.pending_tasks"), kDenied);
    EXPECT_EQ(run("TRUNCATE millrace.pending_tasks"), kDenied);
    EXPECT_EQ(run("SELECT FROM millrace.pending_tasks FOR UPDATE"), kDenied);
    EXPECT_EQ(run("SELECT topic FROM millrace.pending_tasks"), kDenied);
}

TEST_F(AppRole, MayNotTouchTheRelaysTables) {
    for (const char* table : {"installation", "relay_members", "relay_publishers", "relay_lanes",
                              "relay_counters", "operator_acts"}) {
        EXPECT_EQ(run(std::string("SELECT FROM millrace.") + table), kDenied) << table;
        EXPECT_EQ(run(std::string("DELETE FROM millrace.") + table), kDenied) << table;
    }
}

void install_in(pg::Session& session) {
    const DatabaseIdentity here = database_identity(session);
    insert_installation(session, {.id = Uuid::random(),
                                  .name = "test",
                                  .prefix = "millrace.test",
                                  .kafka_cluster_id = std::nullopt,
                                  .system_identifier = here.system_identifier,
                                  .database_oid = here.database_oid,
                                  .lane_count = 12});
}

// The reason for which a start is refused; `none` if it is not.
std::string refusal_in(pg::Session& session) {
    try {
        require_installation(session);
        return "none";
    } catch (const Failure& failure) {
        EXPECT_EQ(failure.exit_code(), kExitConfiguration);
        return failure.reason();
    }
}

class Schema : public testing::Test {
  protected:
    void install() { install_in(session_); }
    std::string refusal() { return refusal_in(session_); }

    Database database_;
    pg::Session session_ = database_.connect();
};

TEST_F(Schema, OfAnInstallationIsAccepted) {
    install();

    EXPECT_EQ(require_installation(session_).name, "test");
}

TEST_F(Schema, WithoutAnInstallationIsTooOld) { EXPECT_EQ(refusal(), "schema_too_old"); }

TEST_F(Schema, WithoutAnyTableIsTooOld) {
    session_.execute("DROP SCHEMA millrace CASCADE");

    EXPECT_EQ(refusal(), "schema_too_old");
}

TEST_F(Schema, WithoutTheNewestMigrationIsTooOld) {
    install();
    session_.execute("DELETE FROM millrace.schema_migrations "
                     "WHERE version = (SELECT max(version) FROM millrace.schema_migrations)");

    EXPECT_EQ(refusal(), "schema_too_old");
}

TEST_F(Schema, ThatALaterProgramMadeIncompatibleIsTooNew) {
    install();
    session_.execute("INSERT INTO millrace.schema_migrations (version, name, oldest_compatible) "
                     "VALUES (999, 'later', 999)");

    EXPECT_EQ(refusal(), "schema_too_new");
}

// A rolling update: the new program migrates while the old one still runs.
TEST_F(Schema, ThatALaterProgramMadeButKeptCompatibleIsAccepted) {
    install();
    session_.execute("INSERT INTO millrace.schema_migrations (version, name, oldest_compatible) "
                     "VALUES (999, 'later', 1)");

    EXPECT_EQ(refusal(), "none");
}

TEST_F(Schema, WhoseFunctionHasAnotherLaneCountIsRefused) {
    install();
    session_.execute("CREATE OR REPLACE FUNCTION millrace.lane_count() RETURNS integer "
                     "LANGUAGE sql IMMUTABLE AS 'SELECT 7'");

    EXPECT_EQ(refusal(), "lane_count_differs");
}

TEST_F(Schema, WhoseLanesAreNotAllThereIsRefused) {
    install();
    session_.execute("DELETE FROM millrace.relay_lanes WHERE lane = 11");

    EXPECT_EQ(refusal(), "lane_count_differs");
}

// PROTOCOL 1: the copy would fence the original.
TEST(SchemaCopy, IsRefusedAsACopyOfItsOriginal) {
    const Database original;
    {
        pg::Session session = original.connect();
        install_in(session);
    }
    const Database copy = Database::copy_of(original);
    pg::Session session = copy.connect();

    EXPECT_EQ(refusal_in(session), "database_copied");
}

// How many migrations it applied.
size_t migrate_once(const Database& database) {
    pg::Session session = database.connect();
    pg::Transaction transaction(session);
    const size_t count = migrate(session, 12).size();
    transaction.commit();
    return count;
}

TEST(Migrator, AppliesEachMigrationOnce) {
    const Database database = Database::bare();

    EXPECT_EQ(migrate_once(database), static_cast<size_t>(known_schema_version()));
    EXPECT_EQ(migrate_once(database), 0U);
}

TEST(Migrator, WaitsForAnotherOneAndFindsNothingLeftToDo) {
    const Database database = Database::bare();
    std::vector<size_t> counts(4);
    {
        std::vector<std::jthread> threads;
        for (size_t& count : counts) {
            threads.emplace_back([&database, &count] { count = migrate_once(database); });
        }
    }

    std::sort(counts.begin(), counts.end());
    EXPECT_THAT(counts, testing::ElementsAre(0U, 0U, 0U,
                                             static_cast<size_t>(known_schema_version())));
}

TEST(Migrator, MakesTheLanesItIsTold) {
    const Database database(64);
    pg::Session session = database.connect();

    EXPECT_EQ(session.execute("SELECT millrace.lane_count()").integer(0, 0), 64);
    EXPECT_EQ(session.execute("SELECT count(*) FROM millrace.relay_lanes").integer(0, 0), 64);
}

}  // namespace
}  // namespace millrace::test
