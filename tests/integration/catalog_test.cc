#include "projections/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/failure.h"
#include "tests/support/failures.h"
#include "tests/support/projections.h"

namespace millrace {
namespace {

using test::failure_of;
using test::file_text;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kUpsert =
    "INSERT INTO t SELECT id, n FROM batch_last ORDER BY id\n"
    "ON CONFLICT (id) DO UPDATE SET n = excluded.n";
constexpr const char* kViews = "read_models";

ProjectionFile things(const std::string& text = file_text({kUpsert})) {
    return parse_projection("things.sql", text);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    text.replace(text.find(from), from.size(), to);
    return text;
}

class Catalog : public testing::Test {
  protected:
    Installed install(const ProjectionFile& file) {
        return install_projection(session_, file, kViews);
    }
    Failure refusal(const ProjectionFile& file) {
        return failure_of([&] { install(file); });
    }
    int64_t number(const std::string& sql) { return session_.execute(sql).integer(0, 0); }
    int64_t schema_count() {
        return number(
            "SELECT count(*) FROM pg_namespace WHERE nspname IN ('things_v1', 'things_v2')");
    }

    test::Database database_;
    pg::Session session_ = database_.connect();
};

TEST_F(Catalog, InstallMakesTablesIndexesViewsAndTheRow) {
    const Installed installed =
        install(things(file_text({kUpsert}) + "-- index\nCREATE INDEX t_by_n ON t (n);\n"));

    EXPECT_TRUE(installed.is_new);
    EXPECT_THAT(installed.not_probed, IsEmpty());
    session_.execute("INSERT INTO things_v1.t VALUES ('a', 1)");
    EXPECT_EQ(number("SELECT n FROM read_models.t WHERE id = 'a'"), 1);
    EXPECT_EQ(number("SELECT count(*) FROM pg_indexes WHERE indexname = 't_by_n'"), 1);
    const auto entries = list_projections(session_);
    ASSERT_EQ(entries.size(), 1u);
    EXPECT_EQ(entries[0].definition, things().text + "-- index\nCREATE INDEX t_by_n ON t (n);\n");
    EXPECT_EQ(entries[0].start_at, "earliest");
    EXPECT_FALSE(entries[0].is_halted());
}

TEST_F(Catalog, InstallTwiceChangesNothing) {
    install(things());
    session_.execute("INSERT INTO things_v1.t VALUES ('a', 1)");

    const Installed again = install(things());

    EXPECT_FALSE(again.is_new);
    EXPECT_EQ(number("SELECT count(*) FROM read_models.t"), 1);
}

TEST_F(Catalog, InstallMakesAViewAgainThatIsMissing) {
    install(things());
    session_.execute("DROP VIEW read_models.t");

    install(things());

    EXPECT_THAT(missing_relations(session_, things(), kViews), IsEmpty());
}

// PROTOCOL 8.0
TEST_F(Catalog, InstallRefusesAnotherDefinitionOfTheSameVersion) {
    install(things());

    const Failure failure =
        refusal(things(replaced(file_text({kUpsert}), "path: $.n", "path: $.m")));

    EXPECT_EQ(failure.reason(), "definition_changed");
    EXPECT_EQ(failure.exit_code(), kExitConfiguration);
}

TEST_F(Catalog, InstallRefusesAHigherVersionUntilItIsRebuilt) {
    install(things());

    const Failure failure =
        refusal(things(replaced(file_text({kUpsert}), "version: 1", "version: 2")));

    EXPECT_EQ(failure.reason(), "needs_rebuild");
    EXPECT_THAT(failure.detail(), HasSubstr("things.sql:1: version 2 needs rebuild"));
    EXPECT_EQ(schema_count(), 1);
}

TEST_F(Catalog, InstallRefusesASchemaThatIsSomebodyElses) {
    session_.execute("CREATE SCHEMA things_v1");

    EXPECT_EQ(refusal(things()).reason(), "schema_taken");
}

TEST_F(Catalog, InstallRefusesANameThatAnotherRelationHasAndLeavesNothing) {
    session_.execute("CREATE SCHEMA read_models");
    session_.execute("CREATE TABLE read_models.t (id int)");

    const Failure failure = refusal(things());

    EXPECT_EQ(failure.reason(), "name_taken");
    EXPECT_THAT(failure.detail(), HasSubstr("things.sql:11: the name read_models.t is taken"));
    EXPECT_EQ(schema_count(), 0);
    EXPECT_THAT(list_projections(session_), IsEmpty());
}

TEST_F(Catalog, InstallRefusesANameThatAnotherProjectionHas) {
    install(things());

    const Failure failure = refusal(parse_projection("others.sql", file_text({kUpsert})));

    EXPECT_EQ(failure.reason(), "name_taken");
}

TEST_F(Catalog, InstallRefusesWhatTheProbeRefuses) {
    const Failure failure =
        refusal(things(file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id\n"
                                  "ON CONFLICT (id) DO UPDATE SET n = excluded.n"})));

    EXPECT_EQ(failure.reason(), "projection_file");
    EXPECT_EQ(schema_count(), 0);
}

TEST_F(Catalog, InstallNamesTheLineOfATableThatPostgresRefuses) {
    const Failure failure =
        refusal(things(replaced(file_text({kUpsert}), "n bigint)", "\n n bigintt)")));

    EXPECT_EQ(failure.reason(), "projection_file");
    EXPECT_THAT(failure.detail(), HasSubstr("things.sql:12: type \"bigintt\" does not exist"));
}

TEST_F(Catalog, InstallNamesTheLineOfAnIndexThatPostgresRefuses) {
    const Failure failure =
        refusal(things(file_text({kUpsert}) + "-- index\nCREATE INDEX ON t\n (missing);\n"));

    EXPECT_THAT(failure.detail(), HasSubstr("things.sql:16: column \"missing\" does not exist"));
}

TEST_F(Catalog, InstallRefusesATableStatementThatMakesNoTableInItsSchema) {
    const Failure failure = refusal(
        things(replaced(file_text({kUpsert}), "CREATE TABLE t (id text PRIMARY KEY, n bigint)",
                        "CREATE TABLE t PARTITION OF public.whole FOR VALUES IN ('a')")));

    EXPECT_EQ(failure.reason(), "projection_file");
}

TEST_F(Catalog, InstallRefusesATableStatementThatMakesMoreThanItsTable) {
    session_.execute("CREATE FUNCTION public.more() RETURNS int LANGUAGE plpgsql AS\n"
                     "'BEGIN CREATE TABLE public.hidden (a int); RETURN 1; END'");

    const Failure failure =
        refusal(things(replaced(file_text({kUpsert}), "(id text PRIMARY KEY, n bigint)",
                                "AS SELECT ''::text AS id, public.more()::bigint AS n")));

    EXPECT_THAT(failure.detail(), HasSubstr("things.sql:11: the statement must make one table"));
    EXPECT_EQ(number("SELECT count(*) FROM pg_class WHERE relname = 'hidden'"), 0);
}

TEST_F(Catalog, MissingRelationsNamesTablesAndViewsThatAreGone) {
    install(things());
    session_.execute("DROP TABLE things_v1.t CASCADE");

    EXPECT_THAT(missing_relations(session_, things(), kViews),
                ElementsAre("things_v1.t", "read_models.t"));
}

TEST_F(Catalog, HaltKeepsTheFirstReasonUntilResumed) {
    install(things());

    EXPECT_TRUE(halt_projection(session_, "things", 1, "first"));
    EXPECT_FALSE(halt_projection(session_, "things", 1, "second"));

    const CatalogEntry halted = list_projections(session_).at(0);
    EXPECT_EQ(halted.halted_reason, "first");
    EXPECT_EQ(halted.halted_at.size(), std::string("2024-01-01T00:00:00Z").size());
    ASSERT_EQ(halted_projections(session_).size(), 1U);
    EXPECT_EQ(halted_projections(session_)[0].name, "things");
    EXPECT_EQ(halted_projections(session_)[0].version, 1);
    EXPECT_EQ(halted_projections(session_)[0].reason, "first");
    EXPECT_TRUE(resume_projection(session_, "things", 1));
    EXPECT_FALSE(resume_projection(session_, "things", 1));
    EXPECT_TRUE(halted_projections(session_).empty());
    EXPECT_FALSE(list_projections(session_).at(0).is_halted());
}

TEST_F(Catalog, ServesTheStoredDefinitionAndSaysWhatItDoesNotServe) {
    install(things());
    install(parse_projection("kept.sql",
                             replaced(file_text({"INSERT INTO k SELECT id, n FROM batch_last "
                                                 "ORDER BY id ON CONFLICT DO NOTHING"}),
                                      "TABLE t", "TABLE k")));
    const ProjectionFile higher =
        things(replaced(file_text({kUpsert}), "version: 1", "version: 2"));
    const ProjectionFile unknown = parse_projection("unknown.sql", file_text({kUpsert}));

    const auto served = match_projections({higher, unknown}, list_projections(session_));

    ASSERT_EQ(served.size(), 3u);
    EXPECT_EQ(served[0].name, "kept");
    EXPECT_EQ(served[0].serving, Serving::kOrphan);
    EXPECT_FALSE(served[0].file);
    EXPECT_EQ(served[1].serving, Serving::kNeedsRebuild);
    EXPECT_EQ(served[1].file->version, 1);
    EXPECT_EQ(served[2].serving, Serving::kNotInstalled);
}

// PROTOCOL 8.0
TEST_F(Catalog, DoesNotServeAFileThatChangedWithoutANewVersion) {
    install(things());
    const ProjectionFile changed = things(replaced(file_text({kUpsert}), "path: $.n", "path: $.m"));

    const auto served = match_projections({changed}, list_projections(session_));

    ASSERT_EQ(served.size(), 1u);
    EXPECT_EQ(served[0].serving, Serving::kDefinitionChanged);
    EXPECT_FALSE(served[0].file);
}

class Positions : public Catalog {
  protected:
    void SetUp() override {
        session_.execute("INSERT INTO millrace.positions (projection, version, topic, partition,\n"
                         "    next_offset, epoch) VALUES ('things', 1, 'things', 0, 10, 3)");
    }
    std::string move(int64_t expected, int64_t epoch) {
        return failure_of([&] {
                   session_.execute(
                       "SELECT millrace.move_position('things', 1, 'things', 0, $1, $2, 20, 5)",
                       pg::Params().int8(expected).int8(epoch));
               })
            .sqlstate();
    }
};

// PROTOCOL 7.1
TEST_F(Positions, MoveRaisesUnlessOffsetAndEpochAreAsExpected) {
    EXPECT_EQ(move(11, 3), pg::kPositionLost);
    EXPECT_EQ(move(10, 2), pg::kPositionLost);
    EXPECT_EQ(move(10, 3), "");
    EXPECT_EQ(move(10, 3), pg::kPositionLost);

    EXPECT_EQ(number("SELECT next_offset FROM millrace.positions"), 20);
    EXPECT_EQ(number("SELECT leader_epoch FROM millrace.positions"), 5);
}

TEST_F(Positions, LagViewTellsReadersHowFarAndWhen) {
    EXPECT_EQ(move(10, 3), "");

    EXPECT_EQ(number("SELECT applied_to FROM millrace.projection_lag\n"
                     "WHERE projection = 'things' AND version = 1 AND topic = 'things'\n"
                     "  AND partition = 0 AND applied_at > now() - interval '1 minute'"),
              20);
}

}  // namespace
}  // namespace millrace
