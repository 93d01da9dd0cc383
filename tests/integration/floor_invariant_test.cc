// What the floor rests on (PROTOCOL 6): an id <= L, read by pg_sequence_last_value() at some time,
// was drawn by a transaction that had its xid before that time.

#include <gtest/gtest.h>
#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/pg/session.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"
#include "tests/support/floor_rules.h"
#include "tests/support/floor_script.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

constexpr auto kWaitLimit = 20s;
constexpr int16_t kLane = 1;

constexpr std::string_view kLastValue =
    "SELECT pg_sequence_last_value('millrace.pending_tasks_id_seq')";
constexpr std::string_view kDraw = "SELECT nextval('millrace.pending_tasks_id_seq')";
// Conflicts with the lock that a transaction takes on a sequence before its first nextval().
constexpr std::string_view kBlockSequence = "ALTER SEQUENCE millrace.pending_tasks_id_seq CACHE 1";
constexpr std::string_view kWaitsForSequence = R"(
    SELECT FROM pg_locks
     WHERE pid = $1 AND NOT granted AND relation = 'millrace.pending_tasks_id_seq'::regclass)";
constexpr std::string_view kHasXid = R"(
    SELECT backend_xid IS NOT NULL
      FROM pg_stat_activity
     WHERE pid = $1)";

// The table with the two columns the other way round.
constexpr const char* kSwapColumns = R"(
    DROP TABLE millrace.pending_tasks;
    CREATE TABLE millrace.pending_tasks (
        lane      smallint NOT NULL GENERATED ALWAYS AS (millrace.lane_of(key, event_id)) STORED,
        id        bigint NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1),
        xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
        event_id  uuid NOT NULL DEFAULT gen_random_uuid(),
        topic     text NOT NULL,
        key       text,
        task_type text NOT NULL,
        PRIMARY KEY (lane, id)
    ))";

constexpr const char* kSingleRow =
    "INSERT INTO millrace.pending_tasks (topic, key, task_type) VALUES ('t', 'a', 'T')";

// One statement or several; for COPY, the rows after them.
struct Insert {
    const char* sql;
    const char* copied_rows = "";
};

std::string run(PGconn* connection, const Insert& insert) {
    const std::unique_ptr<PGresult, decltype(&PQclear)> answer(PQexec(connection, insert.sql),
                                                               &PQclear);
    if (PQresultStatus(answer.get()) != PGRES_COPY_IN) return PQresultErrorMessage(answer.get());
    const std::string rows = insert.copied_rows;
    PQputCopyData(connection, rows.data(), static_cast<int>(rows.size()));
    PQputCopyEnd(connection, nullptr);
    const std::unique_ptr<PGresult, decltype(&PQclear)> end(PQgetResult(connection), &PQclear);
    return PQresultErrorMessage(end.get());
}

// Stops the insert where it is about to draw its first id, and looks.
bool has_xid_before_id(const Database& database, const Insert& insert) {
    pg::Session blocker = database.connect();
    pg::Session observer = database.connect();
    const Connection writer(PQconnectdb(database.url().c_str()), &PQfinish);
    blocker.execute("BEGIN");
    blocker.execute(kBlockSequence);
    std::string error;
    std::jthread thread([&] { error = run(writer.get(), insert); });

    const int pid = PQbackendPID(writer.get());
    EXPECT_TRUE(eventually(kWaitLimit, [&] {
        return observer.execute(kWaitsForSequence, pg::Params().int4(pid)).row_count() > 0;
    })) << insert.sql;
    const bool has_xid = observer.execute(kHasXid, pg::Params().int4(pid)).boolean(0, 0);

    blocker.rollback();
    thread.join();
    EXPECT_EQ(error, "") << insert.sql;
    return has_xid;
}

void expect_xid_before_id(const Insert& insert) {
    const Database database;

    EXPECT_TRUE(has_xid_before_id(database, insert)) << insert.sql;
}

TEST(FloorInvariant, SingleRowHasItsXidBeforeItsId) { expect_xid_before_id({kSingleRow}); }

TEST(FloorInvariant, MultiRowValuesHaveTheirXidBeforeTheirIds) {
    expect_xid_before_id({"INSERT INTO millrace.pending_tasks (topic, key, task_type) "
                          "VALUES ('t', 'a', 'T'), ('t', 'b', 'T'), ('t', 'c', 'T')"});
}

TEST(FloorInvariant, InsertSelectHasItsXidBeforeItsIds) {
    expect_xid_before_id({"INSERT INTO millrace.pending_tasks (topic, key, task_type) "
                          "SELECT 't', i, 'T' FROM generate_series(1, 5) AS i ORDER BY i DESC"});
}

TEST(FloorInvariant, CopyHasItsXidBeforeItsIds) {
    expect_xid_before_id({.sql = "COPY millrace.pending_tasks (topic, key, task_type) FROM STDIN",
                          .copied_rows = "t\ta\tT\nt\tb\tT\n"});
}

TEST(FloorInvariant, WritableCteHasItsXidBeforeItsId) {
    expect_xid_before_id(
        {"WITH made AS (INSERT INTO millrace.pending_tasks (topic, key, task_type) "
         "VALUES ('t', 'a', 'T') RETURNING id) SELECT id FROM made"});
}

TEST(FloorInvariant, SavepointsHaveTheirXidBeforeTheirIds) {
    expect_xid_before_id(
        {"BEGIN; SAVEPOINT s; "
         "INSERT INTO millrace.pending_tasks (topic, key, task_type) VALUES ('t', 'a', 'T'); "
         "ROLLBACK TO s; SAVEPOINT s; "
         "INSERT INTO millrace.pending_tasks (topic, key, task_type) VALUES ('t', 'b', 'T'); "
         "COMMIT"});
}

TEST(FloorInvariant, IdBeforeXidDrawsTheIdFirst) {
    const Database database;
    database.connect().run_script(kSwapColumns);

    EXPECT_FALSE(has_xid_before_id(database, {kSingleRow}));
}

TEST(FloorInvariant, SequenceHasNoValueBeforeItsFirstId) {
    const Database database;

    EXPECT_TRUE(database.connect().execute(kLastValue).is_null(0, 0));
}

TEST(FloorInvariant, SequenceValueShowsIdsOfOpenTransactions) {
    const Database database;
    pg::Session writer = database.connect();
    writer.execute("BEGIN");
    const int64_t id = writer.execute(kDraw).integer(0, 0);

    EXPECT_EQ(database.connect().execute(kLastValue).integer(0, 0), id);
}

// Unlike SELECT last_value, which reads the row without the lock that nextval() writes it under.
TEST(FloorInvariant, SequenceValueNeverFalls) {
    constexpr int kReadCount = 20'000;
    const Database database;
    pg::Session reader = database.connect();
    reader.execute(kDraw);
    std::vector<std::jthread> drawers;
    for (int i = 0; i < 2; ++i) {
        drawers.emplace_back([&database](const std::stop_token& stop) {
            pg::Session session = database.connect();
            while (!stop.stop_requested()) {
                session.execute("SELECT count(nextval('millrace.pending_tasks_id_seq')) "
                                "FROM generate_series(1, 100)");
            }
        });
    }

    int fall_count = 0;
    int64_t last = 0;
    for (int i = 0; i < kReadCount; ++i) {
        const int64_t value = reader.execute(kLastValue).integer(0, 0);
        if (value < last) ++fall_count;
        last = value;
    }

    EXPECT_EQ(fall_count, 0);
    EXPECT_GT(last, kReadCount / 100) << "nobody drew meanwhile";
}

// Traffic until the floor has passed the id for good: no late entry can bring it back.
testing::AssertionResult passes(FloorScript& script, int64_t id) {
    const bool has_passed = eventually(kWaitLimit, [&] {
        script.pass_traffic(1);
        return script.rule().floor() >= id && script.rule().late_count() == 0;
    });
    return has_passed ? testing::AssertionSuccess() : testing::AssertionFailure();
}

// A session that keeps ids for later gives them to transactions that begin after L was read.
TEST(FloorInvariant, CachedIdsLose) {
    Database database;
    database.connect().execute(
        "ALTER TABLE millrace.pending_tasks ALTER COLUMN id SET CACHE 20");
    FloorScript script(database, right_floor());
    FloorScript::Writer writer = script.open_writer(kLane);
    const int64_t id = writer.insert();
    writer.commit();
    ASSERT_TRUE(passes(script, id + 1));

    writer.begin();
    writer.insert();
    writer.commit();

    EXPECT_EQ(script.finish().lost_count, 1);
}

// So would an INSERT of an id that was drawn in an earlier transaction, which is why writers hold
// no right to give ids themselves.
TEST(FloorInvariant, IdsDrawnBeforeTheTransactionLose) {
    Database database;
    FloorScript script(database, right_floor());
    pg::Session session = database.connect();
    const int64_t id = session.execute(kDraw).integer(0, 0);
    ASSERT_TRUE(passes(script, id));

    session.execute("INSERT INTO millrace.pending_tasks (id, topic, key, task_type) "
                    "OVERRIDING SYSTEM VALUE VALUES ($1, 't', 'a', 'T')",
                    pg::Params().int8(id));

    EXPECT_FALSE(script.probe());
}

}  // namespace
}  // namespace millrace::test
