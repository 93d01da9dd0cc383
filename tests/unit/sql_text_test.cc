#include "projections/sql_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/projections.h"

namespace millrace {
namespace {

using test::file_text;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct Applied {
    explicit Applied(const std::string& statement)
        : file(parse_projection("things.sql", file_text({statement}))),
          section(*file.sections_of(SectionKind::kApply)[0]),
          sql(apply_sql(section, BatchLayout(file))) {}

    // Where the server would say that `word` of the sent statement is wrong.
    int line_of(const std::string& word) const {
        pg::ServerError error;
        int characters = 1;
        for (const char c : sql.text.substr(0, sql.text.find(word))) {
            if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) ++characters;
        }
        error.position = characters;
        return line_of_error(section, sql, error);
    }

    ProjectionFile file;
    const Section& section;
    StatementSql sql;
};

constexpr const char* kBatch =
    "batch AS (SELECT \"id\", \"n\" FROM unnest($1::text[], $2::bigint[]) AS b(\"id\", \"n\"))";

TEST(ApplySql, PutsTheBatchBeforeTheStatement) {
    const Applied applied("INSERT INTO t SELECT id, n FROM batch ORDER BY id");

    EXPECT_EQ(applied.sql.text,
              "WITH " + std::string(kBatch) + " INSERT INTO t SELECT id, n FROM batch ORDER BY id");
    EXPECT_THAT(applied.sql.types, ElementsAre(1009u, 1016u));
}

TEST(ApplySql, ContinuesTheStatementsOwnWith) {
    const Applied applied("with /* own */ x AS (SELECT * FROM batch) DELETE FROM t USING x");

    EXPECT_THAT(applied.sql.text, StartsWith("WITH " + std::string(kBatch) + ",  /* own */ x AS"));
}

TEST(ApplySql, ContinuesARecursiveWith) {
    const Applied applied("WITH RECURSIVE x AS (SELECT * FROM batch) DELETE FROM t USING x");

    EXPECT_THAT(applied.sql.text, StartsWith("WITH RECURSIVE " + std::string(kBatch) + ",  x AS"));
}

TEST(ApplySql, SendsOnlyTheRelationsThatAreMentioned) {
    const Applied applied("INSERT INTO t SELECT id, _count FROM batch_merged ORDER BY id");

    EXPECT_THAT(applied.sql.text, Not(HasSubstr("batch AS")));
    EXPECT_THAT(applied.sql.text, Not(HasSubstr("batch_last")));
    EXPECT_THAT(applied.sql.text, HasSubstr("$3::bigint[]) AS b(\"id\", \"n\", \"_count\")"));
    EXPECT_THAT(applied.sql.relations, ElementsAre(Relation::kMerged));
}

TEST(ApplySql, GivesACountOnlyToTheReducedRelations) {
    const Applied applied("DELETE FROM t USING batch, batch_last AS l WHERE l._count = n");

    EXPECT_EQ(applied.sql.types.size(), 5u);
}

TEST(ApplySql, TakesNoNameInsideAStringForARelation) {
    const Applied applied("DELETE FROM t WHERE id = 'batch' -- batch_last");

    EXPECT_EQ(applied.sql.text, "DELETE FROM t WHERE id = 'batch'");
    EXPECT_TRUE(applied.sql.types.empty());
}

TEST(ApplySql, CastsANumericFromItsText) {
    std::string text = file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id"});
    text.replace(text.find("type: bigint"), 12, "type: numeric");
    const ProjectionFile file = parse_projection("things.sql", text);
    const StatementSql sql = apply_sql(file.sections[1], BatchLayout(file));

    EXPECT_THAT(sql.text, HasSubstr("\"n\"::numeric AS \"n\" FROM unnest($1::text[], $2::text[])"));
}

TEST(LineOfError, MapsAPositionBackToTheFile) {
    const Applied applied("INSERT INTO t\nSELECT id, 'é€',\nwrong FROM batch\nORDER BY late");

    EXPECT_EQ(applied.line_of("INSERT"), 13);
    EXPECT_EQ(applied.line_of("wrong"), 15);
    EXPECT_EQ(applied.line_of("late"), 16);
}

TEST(LineOfError, CountsTheWithThatWasReplaced) {
    const Applied applied("WITH\nRECURSIVE\nx AS (SELECT * FROM batch)\nDELETE FROM wrong");

    EXPECT_EQ(applied.line_of("x AS"), 15);
    EXPECT_EQ(applied.line_of("wrong"), 16);
}

TEST(LineOfError, IsTheFirstLineIfNothingIsKnown) {
    const Applied applied("INSERT INTO t\nSELECT id, n FROM batch ORDER BY id");

    EXPECT_EQ(line_of_error(applied.section, applied.sql, {}), 13);
    EXPECT_EQ(applied.line_of("unnest"), 13);
}

TEST(QuoteIdentifier, DoublesQuotes) { EXPECT_EQ(quote_identifier("a\"b"), "\"a\"\"b\""); }

}  // namespace
}  // namespace millrace
