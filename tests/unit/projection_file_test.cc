#include "projections/projection_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/failures.h"
#include "tests/support/projections.h"

namespace millrace {
namespace {

using test::failure_of;
using test::file_text;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kInsert = "INSERT INTO t SELECT id, n FROM batch ORDER BY id";

ProjectionFile parse(const std::string& text) { return parse_projection("things.sql", text); }

std::string mistakes_of(const std::string& text) {
    const Failure failure = failure_of([&] { parse(text); });
    EXPECT_EQ(failure.kind(), FailureKind::kFatal);
    EXPECT_EQ(failure.reason(), "projection_file");
    EXPECT_EQ(failure.exit_code(), kExitConfiguration);
    return failure.detail();
}

std::string with_header(const std::string& yaml) {
    return "/* millrace projection\n" + yaml + "*/\n-- table\nCREATE TABLE t (a int);\n-- apply\n" +
           "INSERT INTO t SELECT 1 FROM batch ORDER BY 1;\n";
}

constexpr const char* kBase = "version: 1\ntopics: [a]\n";

// One column `x` on line 5.
std::string with_column(const std::string& facts) {
    std::string yaml = kBase;
    yaml += "columns:\n  x: {";
    yaml += facts;
    yaml += "}\n";
    return with_header(yaml);
}

TEST(ProjectionFile, KeepsWhatTheHeaderSays) {
    const ProjectionFile file = parse(with_header(
        "version: 3\ntopics: [a.b, c]\ntypes: [X]\nstart: 2024-01-01T00:00:00Z\nkey: k\n"
        "masked: [$.k, \"$.l[0].m\"]\ncolumns:\n"
        "  k: {type: text, path: $.k, required: true}\n"
        "  d: {type: double precision, header: h, default: 1.5}\n"));

    EXPECT_EQ(file.name, "things");
    EXPECT_EQ(file.version, 3);
    EXPECT_EQ(file.schema(), "things_v3");
    EXPECT_THAT(file.topics, ElementsAre("a.b", "c"));
    EXPECT_THAT(file.types, ElementsAre("X"));
    EXPECT_EQ(file.start.kind, Start::Kind::kTime);
    EXPECT_EQ(file.start.microseconds, 757382400LL * 1'000'000);
    EXPECT_EQ(file.key, "k");
    EXPECT_THAT(file.masked,
                ElementsAre(*parse_json_path("$.k"), *parse_json_path("$.l[0].m")));
    ASSERT_EQ(file.columns.size(), 2u);
    EXPECT_TRUE(file.columns[0].is_required);
    EXPECT_EQ(file.columns[1].type, ColumnType::kDouble);
    EXPECT_EQ(file.columns[1].default_text, "1.5");
    EXPECT_FALSE(file.columns[1].path);
}

TEST(ProjectionFile, KeepsItsSectionsWithTheirLines) {
    const ProjectionFile file = parse(file_text({kInsert, "DELETE FROM t"}));

    ASSERT_EQ(file.sections.size(), 3u);
    EXPECT_EQ(file.sections[0].kind, SectionKind::kTable);
    EXPECT_EQ(file.sections[0].table, "t");
    EXPECT_EQ(file.sections[0].line, 11);
    EXPECT_EQ(file.sections[1].statement, kInsert);
    EXPECT_EQ(file.sections[2].line, 15);
}

TEST(ProjectionFile, TakesNoMarkerOrSemicolonInsideAStringForOne) {
    const ProjectionFile file =
        parse(file_text({"INSERT INTO t\nSELECT $q$;\n-- apply\n$q$, 1 /* ; */ FROM batch -- ;\n"
                         "WHERE id <> ';''' AND n <> 1 ORDER BY \"id\""}));

    EXPECT_EQ(file.sections.size(), 2u);
}

TEST(ProjectionFile, ReportsAllMistakesAtOnceWithTheirLines) {
    const std::string mistakes = mistakes_of(with_header(
        "version: 0\ntopic: [a]\ncolumns:\n  x: {type: txt, path: $.x}\n  y: {type: int}\n"));

    EXPECT_THAT(mistakes, HasSubstr("things.sql:2: version: is a number from 1"));
    EXPECT_THAT(mistakes,
                HasSubstr("things.sql:3: unknown key \"topic\"; did you mean \"topics\"?"));
    EXPECT_THAT(mistakes, HasSubstr("things.sql:1: topics: is missing"));
    EXPECT_THAT(mistakes, HasSubstr("things.sql:5: unknown type \"txt\"; did you mean \"text\"?"));
    EXPECT_THAT(mistakes, HasSubstr("unknown type \"int\"; types are text, "));
    EXPECT_THAT(mistakes, HasSubstr("things.sql:6: column y has one of path: and header:"));
    EXPECT_EQ(mistakes.rfind("things.sql:", 0), 0u);
}

TEST(ProjectionFile, RefusesYamlThatIsNone) {
    EXPECT_THAT(mistakes_of(with_header("version: 1\ntopics: [a\n")), HasSubstr(": not YAML: "));
}

TEST(ProjectionFile, RefusesAKeyThatStandsThereTwice) {
    EXPECT_THAT(mistakes_of(with_header(std::string(kBase) + "version: 2\n")),
                HasSubstr("things.sql:4: \"version\" stands there twice"));
}

TEST(ProjectionFile, RefusesABadStart) {
    EXPECT_THAT(mistakes_of(with_header(std::string(kBase) + "start: 2024-01-01\n")),
                HasSubstr("things.sql:4: start: is earliest, latest or an RFC 3339 time"));
}

TEST(ProjectionFile, RefusesAKeyThatIsNoColumn) {
    EXPECT_THAT(mistakes_of(with_header(std::string(kBase) +
                                        "key: ordr\ncolumns:\n  order: {type: text, path: $.o}\n")),
                HasSubstr("things.sql:4: key: names no column: \"ordr\"; did you mean \"order\"?"));
}

TEST(ProjectionFile, RefusesBadPaths) {
    for (const char* path : {"a", "$a", "$.", "$.a.", "$.a..b", "'$.a[x]'", "'$.a[1'", "'$.a b'"}) {
        std::string column = "type: text, path: ";
        column += path;

        EXPECT_THAT(mistakes_of(with_column(column)), HasSubstr("things.sql:5: bad path")) << path;
    }
}

TEST(ProjectionFile, RefusesWhatIsNoPathToMask) {
    EXPECT_THAT(mistakes_of(with_header(std::string(kBase) + "masked: [$.a, b]\n")),
                HasSubstr("things.sql:4: bad path \"b\""));
    EXPECT_THAT(mistakes_of(with_header(std::string(kBase) + "masked: $.a\n")),
                HasSubstr("things.sql:4: masked: is a list of paths"));
}

TEST(ProjectionFile, RefusesADefaultThatDoesNotFit) {
    EXPECT_THAT(mistakes_of(with_column("type: integer, path: $.x, default: 1.5")),
                HasSubstr("default: does not fit integer: not an integer"));
}

TEST(ProjectionFile, RefusesADefaultOfARequiredColumn) {
    EXPECT_THAT(mistakes_of(with_column("type: integer, path: $.x, required: true, default: 1")),
                HasSubstr("a required column has no default:"));
}

TEST(ProjectionFile, RefusesTwoStatementsUnderOneMarker) {
    EXPECT_THAT(mistakes_of(file_text({std::string(kInsert) + ";\nDELETE FROM t"})),
                HasSubstr("things.sql:14: a second statement under \"-- apply\""));
}

TEST(ProjectionFile, RefusesAnApplyStatementThatOnlyReads) {
    EXPECT_THAT(
        mistakes_of(file_text({"SELECT 1"})),
        HasSubstr("things.sql:13: \"-- apply\" holds INSERT, UPDATE, DELETE, MERGE or WITH"));
}

TEST(ProjectionFile, RefusesParameters) {
    EXPECT_THAT(mistakes_of(file_text({"DELETE FROM t\nWHERE id = $1"})),
                HasSubstr("things.sql:14: parameters like $1"));
}

TEST(ProjectionFile, RefusesACteNamedLikeARelation) {
    EXPECT_THAT(
        mistakes_of(file_text({"WITH x AS (SELECT 1),\nbatch (a) AS NOT MATERIALIZED (SELECT "
                               "1) DELETE FROM t"})),
        HasSubstr("things.sql:14: a CTE can't be named batch"));
}

TEST(ProjectionFile, RefusesATableNamedLikeARelation) {
    std::string text = file_text({kInsert});
    text.replace(text.find("TABLE t "), 8, "TABLE \"batch_last\" ");

    EXPECT_THAT(mistakes_of(text), HasSubstr("things.sql:11: a table can't be named batch_last"));
}

TEST(ProjectionFile, RefusesAUniqueIndexUnderIndex) {
    EXPECT_THAT(mistakes_of(file_text({kInsert}) + "-- index\nCREATE UNIQUE INDEX ON t (n);\n"),
                HasSubstr("things.sql:15: a unique index stands in the table's own statement"));
}

TEST(ProjectionFile, RefusesAnUnknownMeta) {
    EXPECT_THAT(mistakes_of(file_text({"INSERT INTO t SELECT id,\n_ofset FROM batch ORDER BY 1"})),
                HasSubstr("things.sql:14: unknown column _ofset; did you mean \"_offset\"?"));
}

TEST(ProjectionFile, LetsATableHaveColumnsWithAnUnderscore) {
    std::string text = file_text({"UPDATE t SET _mine = 1"});
    text.replace(text.find("n bigint)"), 9, "_mine int)");

    EXPECT_NO_THROW(parse(text));
}

TEST(ProjectionFile, RefusesAKeyInAFileThatSeesTombstones) {
    EXPECT_THAT(
        mistakes_of(file_text({"DELETE FROM t USING batch WHERE _deleted AND t.id = _key"})),
        HasSubstr("a file that mentions _deleted leaves out key:"));
}

TEST(ProjectionFile, RefusesAFileWithoutATableOrAnApply) {
    const std::string mistakes =
        mistakes_of("/* millrace projection\nversion: 1\ntopics: [a]\n*/\n");

    EXPECT_THAT(mistakes, HasSubstr("no section \"-- table\""));
    EXPECT_THAT(mistakes, HasSubstr("no section \"-- apply\""));
}

TEST(ProjectionFile, RefusesAStringThatDoesNotEnd) {
    EXPECT_THAT(mistakes_of(file_text({"DELETE FROM t\nWHERE id = 'x"})),
                HasSubstr("things.sql:14: a string that does not end"));
}

TEST(ProjectionFile, RefusesAFileWithoutItsHeader) {
    EXPECT_THAT(
        mistakes_of("-- table\nCREATE TABLE t (a int)"),
        HasSubstr("things.sql:1: a projection file begins with \"/* millrace projection\""));
}

TEST(ProjectionFile, RefusesANameThatIsNoSchema) {
    const Failure failure =
        failure_of([] { parse_projection("My Things.sql", file_text({kInsert})); });

    EXPECT_THAT(failure.detail(),
                HasSubstr("My Things.sql:1: the file's name is the projection's"));
}

TEST(ProjectionFile, WarnsOfRowsWrittenWithoutOrder) {
    const ProjectionFile file =
        parse(file_text({kInsert, "INSERT INTO t SELECT id, n FROM batch"}));

    EXPECT_THAT(file.warnings,
                ElementsAre(HasSubstr("things.sql:15: writes rows without ORDER BY")));
}

TEST(ProjectionFile, WarnsOfAStatementThatReadsNoBatch) {
    const ProjectionFile file =
        parse(file_text({kInsert, "INSERT INTO t SELECT id, n FROM batch_lst ORDER BY id"}));

    EXPECT_THAT(file.warnings, ElementsAre(HasSubstr("things.sql:15: reads none of batch, ")));
}

// PROTOCOL 8.0
TEST(DefinitionHash, IsTheSameWhereOnlyStartMaskCommentsAndSpaceDiffer) {
    const std::string text = file_text({"INSERT INTO t SELECT id, n FROM batch ORDER BY id"});
    std::string other =
        file_text({"INSERT INTO t -- why\nSELECT id,n /* x */ FROM batch\nORDER BY id"});
    other.replace(other.find("types:"), 0, "start: latest\nmasked: [$.n]\n");

    EXPECT_EQ(definition_hash(parse(text)), definition_hash(parse(other)));
    EXPECT_EQ(definition_hash(parse(text)).size(), 64u);
}

// PROTOCOL 8.0
TEST(DefinitionHash, DiffersWithEachThingThatChangesTheMeaning) {
    const std::string text = file_text({kInsert});
    const std::string hash = definition_hash(parse(text));
    const std::vector<std::pair<std::string, std::string>> changes{
        {"version: 1", "version: 2"},     {"[things]", "[others]"},
        {"[Added, ", "[Adde, "},          {"key: id\n", ""},
        {"path: $.n", "path: $.m"},       {"path: $.n", "header: $.n"},
        {"bigint, ", "integer, "},        {"$.n}", "$.n, default: 1}"},
        {"$.n}", "$.n, required: true}"}, {"n bigint)", "n integer)"},
        {"ORDER BY id", "ORDER BY ID"},   {"ORDER BY id", "ORDER BY n"}};
    for (const auto& [from, to] : changes) {
        std::string changed = text;
        changed.replace(changed.find(from), from.size(), to);

        EXPECT_NE(definition_hash(parse(changed)), hash) << from << " -> " << to;
    }
}

TEST(Samples, ParseWithoutWarnings) {
    for (const char* name : {"orders.sql", "customer_totals.sql"}) {
        const ProjectionFile file = test::sample(name);

        EXPECT_TRUE(file.warnings.empty()) << name;
    }
}

}  // namespace
}  // namespace millrace
