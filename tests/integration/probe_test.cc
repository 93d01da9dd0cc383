#include "projections/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/failure.h"
#include "tests/support/failures.h"
#include "tests/support/projections.h"

namespace millrace {
namespace {

using test::failure_of;
using test::file_text;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::vector<std::string> probe(const ProjectionFile& file) {
    const test::Database database;
    pg::Session session = database.connect();
    return probe_projection(session, file);
}

std::vector<std::string> probe(const std::string& text) {
    return probe(parse_projection("things.sql", text));
}

std::string refusal(const std::string& text) {
    const Failure failure = failure_of([&] { probe(text); });
    EXPECT_EQ(failure.kind(), FailureKind::kFatal) << failure.what();
    EXPECT_EQ(failure.reason(), "projection_file");
    return failure.detail();
}

constexpr const char* kUpsert =
    "INSERT INTO t SELECT id, n FROM batch_last ORDER BY id\n"
    "ON CONFLICT (id) DO UPDATE SET n = excluded.n";

// PROTOCOL 8.4
TEST(Probe, RefusesANaiveOnConflict) {
    EXPECT_THAT(refusal(file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id\n"
                                   "ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n"})),
                AllOf(StartsWith("things.sql:13: the result depends on how events are cut"),
                      HasSubstr("Added then Added, after Added gives as one batch: "),
                      HasSubstr("[21000]; as two: t(sample,9)")));
}

// PROTOCOL 8.4
TEST(Probe, RefusesAnUpdateFromTheBatch) {
    EXPECT_THAT(
        refusal(file_text({"INSERT INTO t SELECT DISTINCT id, 0 FROM batch ORDER BY id\n"
                           "ON CONFLICT DO NOTHING",
                           "UPDATE t SET n = t.n + b.n FROM batch AS b WHERE b.id = t.id"})),
        AllOf(StartsWith("things.sql:13: the result depends on how events are cut"),
              HasSubstr("as one batch: t(sample,6); as two: t(sample,9)")));
}

// PROTOCOL 8.4
TEST(Probe, RefusesAMergeOfTheBatch) {
    EXPECT_THAT(refusal(file_text({"MERGE INTO t USING batch AS b ON t.id = b.id\n"
                                   "WHEN MATCHED THEN UPDATE SET n = t.n + b.n\n"
                                   "WHEN NOT MATCHED THEN INSERT VALUES (b.id, b.n)"})),
                HasSubstr("[21000]"));
}

// PROTOCOL 8.4
TEST(Probe, RefusesAnUpsertWhoseRowALaterDeleteTakesAway) {
    EXPECT_THAT(refusal(file_text({kUpsert, "DELETE FROM t USING batch AS b\n"
                                            "WHERE b.id = t.id AND b._type = 'Removed'"})),
                HasSubstr("Removed then Added, after Added gives as one batch: no rows; as two: "
                          "t(sample,3)"));
}

// PROTOCOL 8.4
TEST(Probe, RefusesASumOverBatchLast) {
    EXPECT_THAT(refusal(file_text({"INSERT INTO t SELECT id, n FROM batch_last ORDER BY id\n"
                                   "ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n"})),
                HasSubstr("as one batch: t(sample,6); as two: t(sample,9)"));
}

// PROTOCOL 8.4: what no pair behind a first event shows, for its row is there already.
TEST(Probe, RefusesASumThatOnlyTheFirstBatchOfAKeyWrites) {
    EXPECT_THAT(refusal(file_text({"INSERT INTO t SELECT id, sum(n) FROM batch GROUP BY id\n"
                                   "ORDER BY id ON CONFLICT (id) DO NOTHING"})),
                HasSubstr("Added then Added gives as one batch: t(sample,6); as two: t(sample,3)"));
}

TEST(Probe, RefusesAFileThatKeepsThePlaceInTheBatch) {
    EXPECT_THAT(refusal(file_text({"INSERT INTO t SELECT id, _ord FROM batch_last ORDER BY id\n"
                                   "ON CONFLICT (id) DO UPDATE SET n = excluded.n"})),
                HasSubstr("as one batch: t(sample,2); as two: t(sample,1)"));
}

TEST(Probe, PassesBothSamples) {
    for (const char* name : {"orders.sql", "customer_totals.sql"}) {
        EXPECT_THAT(probe(test::sample(name)), IsEmpty()) << name;
    }
}

TEST(Probe, PassesTombstonesThatDeleteWhatTheBatchUpserted) {
    EXPECT_THAT(
        probe(file_text({"INSERT INTO t SELECT _key, n FROM batch_last WHERE NOT _deleted\n"
                         "ORDER BY _key ON CONFLICT (id) DO UPDATE SET n = excluded.n",
                         "DELETE FROM t USING batch_last AS l WHERE l._deleted AND t.id = l._key"},
                        "[Added]", "")),
        IsEmpty());
}

TEST(Probe, RefusesTombstonesThatAreForgotten) {
    EXPECT_THAT(
        refusal(file_text({"DELETE FROM t USING batch_last AS l WHERE l._deleted AND t.id = l._key",
                           "INSERT INTO t SELECT _key, 1 FROM batch WHERE NOT _deleted\n"
                           "ORDER BY _key ON CONFLICT (id) DO NOTHING"},
                          "[Added]", "")),
        HasSubstr("Added then a tombstone"));
}

TEST(Probe, TakesTheLiteralsOfTheFileForTypesIfItNamesNone) {
    std::string text = file_text({kUpsert, "DELETE FROM t USING batch AS b\n"
                                           "WHERE b.id = t.id AND b._type = 'Removed'"});
    text.replace(text.find("types:"), text.find("key:") - text.find("types:"), "");

    EXPECT_THAT(refusal(text), HasSubstr("the result depends on how events are cut into batches"));
}

TEST(Probe, LeavesColumnsWithAVolatileDefaultOutOfTheComparison) {
    std::string text = file_text({"INSERT INTO t (id, n) SELECT id, n FROM batch_last ORDER BY id\n"
                                  "ON CONFLICT (id) DO UPDATE SET n = excluded.n"});
    text.replace(
        text.find("n bigint)"), 9,
        "n bigint, u uuid DEFAULT gen_random_uuid(), c timestamptz DEFAULT clock_timestamp(),"
        " s bigserial, i bigint GENERATED ALWAYS AS IDENTITY, d int DEFAULT 1 + 1)");

    EXPECT_THAT(probe(text), IsEmpty());
}

TEST(Probe, ComparesColumnsWithAnyOtherDefault) {
    std::string text =
        file_text({"INSERT INTO t (id, n, d) SELECT id, 1, _ord FROM batch_last ORDER BY "
                   "id ON CONFLICT (id) DO UPDATE SET d = excluded.d"});
    text.replace(text.find("n bigint)"), 9, "n bigint, d bigint DEFAULT 1 + 1)");

    EXPECT_THAT(refusal(text), HasSubstr("as one batch: t(sample,1,2)"));
}

TEST(Probe, RefusesAStatementThatReadsTheClock) {
    EXPECT_THAT(
        refusal(file_text({"INSERT INTO t SELECT id, extract(epoch FROM clock_timestamp()) * 1e6\n"
                           "FROM batch_last ORDER BY id\n"
                           "ON CONFLICT (id) DO UPDATE SET n = excluded.n"})),
        HasSubstr("the result depends"));
}

TEST(Probe, GivesNoVerdictOnACheckThatFailsBothWays) {
    std::string text = file_text({kUpsert});
    text.replace(text.find("n bigint)"), 9, "n bigint CHECK (n > 1000))");

    EXPECT_THAT(probe(text), ElementsAre(AllOf(StartsWith("things.sql:13: not probed: Added"),
                                               HasSubstr("t_n_check"), HasSubstr("[23514]"))));
}

TEST(Probe, GivesNoVerdictOnAForeignKeyThatFailsBothWays) {
    std::string text = file_text({kUpsert});
    text.replace(text.find("-- table"), 0,
                 "-- table\nCREATE TABLE parents (id text PRIMARY KEY);\n");
    text.replace(text.find("n bigint)"), 9,
                 "n bigint, FOREIGN KEY (id) REFERENCES parents DEFERRABLE INITIALLY DEFERRED)");

    EXPECT_THAT(probe(text), ElementsAre(AllOf(HasSubstr("not probed: "), HasSubstr("[23503]"))));
}

TEST(Probe, RefusesAnErrorThatOnlyOneWayHas) {
    std::string text =
        file_text({"INSERT INTO t SELECT id, count(*) FROM batch GROUP BY id ORDER BY id\n"
                   "ON CONFLICT (id) DO UPDATE SET n = excluded.n"});
    text.replace(text.find("n bigint)"), 9, "n bigint CHECK (n < 2))");

    EXPECT_THAT(refusal(text), AllOf(HasSubstr("[23514]; as two: t(sample,1)")));
}

TEST(Probe, RefusesAStatementThatIsWrongWhateverTheEvent) {
    EXPECT_THAT(
        refusal(file_text({"INSERT INTO t\nSELECT id, nn FROM batch ORDER BY id"})),
        AllOf(StartsWith("things.sql:14: column \"nn\" does not exist"), HasSubstr("[42703]")));
}

TEST(Probe, RefusesAStatementWithAnUnknownTable) {
    EXPECT_THAT(refusal(file_text({"INSERT INTO other SELECT id, n FROM batch ORDER BY id"})),
                HasSubstr("things.sql:13: relation \"other\" does not exist"));
}

TEST(Probe, LeavesNothingBehind) {
    const test::Database database;
    pg::Session session = database.connect();

    probe_projection(session, parse_projection("things.sql", file_text({kUpsert})));

    EXPECT_TRUE(session.is_idle());
    EXPECT_EQ(session.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'things%'")
                  .integer(0, 0),
              0);
    EXPECT_EQ(session.execute("SELECT current_setting('search_path')").text(0, 0),
              "\"$user\", public");
}

TEST(Probe, DoesNotWaitLongForALock) {
    const test::Database database;
    pg::Session session = database.connect();
    pg::Session rival = database.connect();
    session.execute("CREATE TABLE public.parents (id text PRIMARY KEY)");
    const pg::Transaction held(rival);
    rival.execute("LOCK TABLE public.parents");
    std::string text = file_text({kUpsert});
    text.replace(text.find("id text PRIMARY KEY"), 19,
                 "id text PRIMARY KEY REFERENCES public.parents");

    const Failure failure =
        failure_of([&] { probe_projection(session, parse_projection("things.sql", text)); });

    EXPECT_EQ(failure.kind(), FailureKind::kTransient);
    EXPECT_EQ(failure.sqlstate(), "55P03");
}

}  // namespace
}  // namespace millrace
