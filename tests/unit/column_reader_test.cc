#include "projections/column_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/failures.h"
#include "tests/support/projections.h"

namespace millrace {
namespace {

using test::event_at;
using test::failure_of;
using testing::HasSubstr;

// One column `c` as given, and whatever the apply statement mentions.
ProjectionFile file_with(const std::string& column, const std::string& mentioned = "c") {
    return parse_projection(
        "things.sql", "/* millrace projection\nversion: 1\ntopics: [things]\ncolumns:\n  c: " +
                          column + "\n*/\n-- table\nCREATE TABLE t (c int);\n-- apply\n" +
                          "INSERT INTO t SELECT " + mentioned + " FROM batch ORDER BY 1;\n");
}

// The only element of a one-dimensional array in PostgreSQL's binary format; nullopt for NULL.
std::optional<std::string> only_element(const std::string& array) {
    const std::string_view element = std::string_view(array).substr(20);
    if (element.substr(0, 4) == "\xff\xff\xff\xff") return std::nullopt;
    return std::string(element.substr(4));
}

// The bytes sent for field number `field` of one event.
std::optional<std::string> read_field(const ProjectionFile& file, const Event& event,
                                      size_t field) {
    const BatchLayout layout(file);
    ColumnReader reader(file, layout);
    BatchRows rows(layout);
    reader.read(event, rows);
    return only_element(rows.arrays(Relation::kBatch).at(field));
}

std::optional<std::string> read(const std::string& column, std::string_view payload) {
    return read_field(file_with(column), event_at(7, "Added", "k", payload), 0);
}

std::string refusal(const std::string& column, std::string_view payload) {
    const Failure failure = failure_of([&] { read(column, payload); });
    EXPECT_EQ(failure.kind(), FailureKind::kPoison) << failure.detail() << " " << payload;
    EXPECT_EQ(failure.reason(), "unparsable_event");
    return failure.detail();
}

std::string bytes(std::initializer_list<int> values) {
    std::string text;
    for (const int value : values) text.push_back(static_cast<char>(value));
    return text;
}

TEST(ColumnReader, FindsMembersAndElementsAtAnyDepth) {
    EXPECT_EQ(read("{type: text, path: $.a.b}", R"({"x": 1, "a": {"c": [], "b": "yes"}})"), "yes");
    EXPECT_EQ(read("{type: text, path: \"$.a[1].b\"}", R"({"a": [{"b": "no"}, {"b": "yes"}]})"),
              "yes");
    EXPECT_EQ(read("{type: text, path: \"$[0]\"}", R"(["yes", "no"])"), "yes");
    EXPECT_EQ(read("{type: text, path: $}", R"( "yes" )"), "yes");
}

TEST(ColumnReader, GivesNullForWhatIsAbsentOrNull) {
    EXPECT_EQ(read("{type: text, path: $.a.b}", R"({"a": 1})"), std::nullopt);
    EXPECT_EQ(read("{type: text, path: $.a.b}", R"({"a": {"b": null}})"), std::nullopt);
    EXPECT_EQ(read("{type: text, path: \"$.a[3]\"}", R"({"a": [1, 2]})"), std::nullopt);
    EXPECT_EQ(read("{type: jsonb, path: $.a}", R"({"a": null})"), std::nullopt);
}

TEST(ColumnReader, TakesTheLastOfMembersThatStandThereTwice) {
    EXPECT_EQ(read("{type: text, path: $.a}", R"({"a": "first", "a": "last"})"), "last");
    EXPECT_EQ(read("{type: text, path: $.a.b}", R"({"a": {"b": "gone"}, "a": {"c": 1}})"),
              std::nullopt);
}

TEST(ColumnReader, ReadsNamesAndTextWithEscapes) {
    EXPECT_EQ(read("{type: text, path: $.ab}", R"({"\u0061b": "\u00e9\n\"\ud83d\ude00"})"),
              "\u00e9\n\"\U0001f600");
}

TEST(ColumnReader, EncodesEachTypeInBinary) {
    const auto value_of = [](const std::string& type, const std::string& json) {
        return read("{type: " + type + ", path: $.v}", "{\"v\": " + json + "}");
    };

    EXPECT_EQ(value_of("boolean", "true"), bytes({1}));
    EXPECT_EQ(value_of("smallint", "-2"), bytes({0xff, 0xfe}));
    EXPECT_EQ(value_of("integer", "258"), bytes({0, 0, 1, 2}));
    EXPECT_EQ(value_of("bigint", "258"), bytes({0, 0, 0, 0, 0, 0, 1, 2}));
    EXPECT_EQ(value_of("double precision", "-2"), bytes({0xc0, 0, 0, 0, 0, 0, 0, 0}));
    EXPECT_EQ(value_of("date", "\"2000-01-03\""), bytes({0, 0, 0, 2}));
    EXPECT_EQ(value_of("timestamptz", "\"2000-01-01T01:00:00.000001+01:00\""),
              bytes({0, 0, 0, 0, 0, 0, 0, 1}));
    EXPECT_EQ(value_of("uuid", "\"00010203-0405-0607-0809-0A0B0C0D0E0F\""),
              bytes({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
    EXPECT_EQ(value_of("json", "[1,  {\"a\" : 2.50}] "), "[1,  {\"a\" : 2.50}]");
    EXPECT_EQ(value_of("jsonb", "\"x\""), "\1\"x\"");
}

TEST(ColumnReader, KeepsTheDigitsOfANumeric) {
    for (const std::string digits :
         {"1.50", "-0.000000000000000000000000000000000001", "123456789012345678901234567890.10",
          "1.0e5", "-0"}) {
        EXPECT_EQ(read("{type: numeric, path: $.v}", "{\"v\":" + digits + "}"), digits);
    }
}

TEST(ColumnReader, NamesPlacePathReasonAndColumnOfAValueThatDoesNotFit) {
    EXPECT_EQ(refusal("{type: bigint, path: $.a.n}", R"({"a": {"n": "12"}})"),
              "things-0@7: $.a.n: not a JSON number, column c");
}

TEST(ColumnReader, RefusesValuesOfAnotherJsonType) {
    EXPECT_THAT(refusal("{type: text, path: $.v}", R"({"v": 1})"), HasSubstr("not a JSON string"));
    EXPECT_THAT(refusal("{type: boolean, path: $.v}", R"({"v": "true"})"),
                HasSubstr("not true or"));
    EXPECT_THAT(refusal("{type: bigint, path: $.v}", R"({"v": 1.0})"), HasSubstr("not an integer"));
    EXPECT_THAT(refusal("{type: numeric, path: $.v}", R"({"v": true})"),
                HasSubstr("not a JSON num"));
    EXPECT_THAT(refusal("{type: text, path: $.v}", R"({"v": {}})"),
                HasSubstr("an object or array"));
    EXPECT_THAT(refusal("{type: uuid, path: $.v}", R"({"v": "x"})"), HasSubstr("not a uuid"));
}

TEST(ColumnReader, RefusesValuesOutOfRange) {
    EXPECT_THAT(refusal("{type: smallint, path: $.v}", R"({"v": 32768})"),
                HasSubstr("out of range"));
    EXPECT_THAT(refusal("{type: integer, path: $.v}", R"({"v": -2147483649})"),
                HasSubstr("out of"));
    EXPECT_THAT(refusal("{type: bigint, path: $.v}", R"({"v": 9223372036854775808})"),
                HasSubstr("out of range"));
    EXPECT_THAT(refusal("{type: double precision, path: $.v}", R"({"v": 1e400})"),
                HasSubstr("out of"));
    EXPECT_THAT(refusal("{type: numeric, path: $.v}", R"({"v": 1e131073})"),
                HasSubstr("out of range"));
    EXPECT_THAT(refusal("{type: numeric, path: $.v}", R"({"v": 1e-16384})"),
                HasSubstr("out of range"));
    EXPECT_THAT(refusal("{type: jsonb, path: $.v}", R"({"v": [1e131073]})"),
                HasSubstr("out of range"));
}

TEST(ColumnReader, RefusesTimesThatAreNoneOrHaveNoOffset) {
    for (const char* time :
         {"2024-02-30T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01 00:00:00Z",
          "2024-01-01T24:00:00Z", "2024-01-01T00:00:61Z", "2024-01-01T00:00:00.Z",
          "2024-01-01T00:00:00+1:00", "now", "2024-01-01T00:00:00ZZ", "0000-01-01T00:00:00Z"}) {
        EXPECT_THAT(
            refusal("{type: timestamptz, path: $.v}", "{\"v\": \"" + std::string(time) + "\"}"),
            HasSubstr("not an RFC 3339 time"))
            << time;
    }
}

TEST(ColumnReader, RefusesNulInTextAndJson) {
    for (const char* type : {"text", "json", "jsonb"}) {
        EXPECT_THAT(refusal("{type: " + std::string(type) + ", path: $.v}", R"({"v": "a\u0000b"})"),
                    HasSubstr("$.v: holds U+0000"));
    }
    EXPECT_THAT(refusal("{type: jsonb, path: $.v}", R"({"v": [{"\u0000": 1}]})"),
                HasSubstr("U+0000"));
}

TEST(ColumnReader, TakesAnEscapedBackslashBeforeU0000ForWhatItIs) {
    EXPECT_EQ(read("{type: json, path: $.v}", R"({"v": "\\u0000"})"), R"("\\u0000")");
}

TEST(ColumnReader, RefusesPayloadsThatAreNotJsonWhereverTheMistakeStands) {
    for (const char* payload :
         {"", " ", "{", "{\"v\": 1", "{\"v\": 1}}", "{\"v\": 1} 2", "{\"x\": tru}", "{\"x\": 01}",
          "{\"x\": \"\\q\"}", "{\"x\": \"\\ud800\"}", "{\"x\": 1,}", "{\"x\" 1}", "[1 2]", "1],[2",
          "{\"x\": \"\x01\"}", "'x'", "{\"x\": +1}"}) {
        EXPECT_THAT(refusal("{type: bigint, path: $.v}", payload),
                    HasSubstr("things-0@7: $: not JSON"))
            << payload;
    }
}

TEST(ColumnReader, RefusesPayloadsThatAreNotUtf8) {
    EXPECT_THAT(refusal("{type: text, path: $.v}", "{\"x\": \"\xff\"}"), HasSubstr("$: not UTF-8"));
}

TEST(ColumnReader, RefusesPayloadsNestedTooDeeply) {
    const std::string payload = std::string(2000, '[') + std::string(2000, ']');

    EXPECT_THAT(refusal("{type: text, path: $.v}", payload), HasSubstr("nested too deeply"));
}

TEST(ColumnReader, RefusesARequiredColumnThatIsMissingOrNull) {
    const std::string column = "{type: text, path: $.v, required: true}";

    EXPECT_THAT(refusal(column, "{}"), HasSubstr("$.v: required, but missing, column c"));
    EXPECT_THAT(refusal(column, R"({"v": null})"), HasSubstr("required, but missing"));
}

TEST(ColumnReader, UsesTheDefaultForWhatIsAbsent) {
    EXPECT_EQ(read("{type: smallint, path: $.v, default: 5}", "{}"), bytes({0, 5}));
}

TEST(ColumnReader, ReadsHeadersByTheLastOfTheirName) {
    Event event = event_at(7, "Added", "k", "not JSON, and no column looks");
    event.headers = {{"h", "1"}, {"h", "2"}, {"g", "3"}};

    EXPECT_EQ(read_field(file_with("{type: smallint, header: h}"), event, 0), bytes({0, 2}));
}

TEST(ColumnReader, LeavesPathColumnsOfATombstoneNullAndDoesNotRequireThem) {
    const ProjectionFile file =
        file_with("{type: text, path: $.v, required: true}", "c, _deleted");
    const Event tombstone = event_at(7, "", "k", std::nullopt);

    EXPECT_EQ(read_field(file, tombstone, 0), std::nullopt);
    EXPECT_EQ(read_field(file, tombstone, 1), bytes({1}));
}

TEST(ColumnReader, SendsOnlyTheMetasThatAreMentioned) {
    const BatchLayout layout(file_with("{type: text, path: $.v}", "c, _offset, _ord"));

    ASSERT_EQ(layout.fields.size(), 3u);
    EXPECT_EQ(layout.fields[1].name, "_ord");
    EXPECT_EQ(layout.fields[2].name, "_offset");
}

TEST(ColumnReader, GivesTheMetasOfTheMessage) {
    Event event = event_at(258, "Added", "k", R"({"v": 1})");
    event.event_id = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    event.timestamp = std::chrono::milliseconds{946684800001};
    const ProjectionFile file =
        file_with("{type: text, path: $.x}",
                  "_id, _topic, _partition, _offset, _key, _type, _ts, _actor, _payload");
    const auto field = [&](size_t index) { return read_field(file, event, index); };

    EXPECT_EQ(field(1), bytes({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
    EXPECT_EQ(field(2), "things");
    EXPECT_EQ(field(3), bytes({0, 0, 0, 0}));
    EXPECT_EQ(field(4), bytes({0, 0, 0, 0, 0, 0, 1, 2}));
    EXPECT_EQ(field(5), "k");
    EXPECT_EQ(field(6), "Added");
    EXPECT_EQ(field(7), bytes({0, 0, 0, 0, 0, 0, 3, 0xe8}));
    EXPECT_EQ(field(8), std::nullopt);
    EXPECT_EQ(field(9), R"({"v": 1})");
}

TEST(ColumnReader, RefusesAKeyThatIsNoTextOnlyIfItIsMentioned) {
    const Event event = event_at(7, "Added", "\xff", R"({"v": "x"})");

    EXPECT_EQ(read_field(file_with("{type: text, path: $.v}"), event, 0), "x");
    const Failure failure = failure_of(
        [&] { read_field(file_with("{type: text, path: $.v}", "_key"), event, 0); });
    EXPECT_EQ(failure.detail(), "things-0@7: message: not UTF-8, column _key");
}

TEST(ColumnReader, LeavesTheRowsAsTheyWereWhenItRefusesAnEvent) {
    const ProjectionFile file = file_with("{type: text, path: $.v}");
    const BatchLayout layout(file);
    ColumnReader reader(file, layout);
    BatchRows rows(layout);
    reader.read(event_at(1, "Added", "k", R"({"v": "kept"})"), rows);

    EXPECT_THROW(reader.read(event_at(2, "Added", "k", R"({"v": 2})"), rows), Failure);

    EXPECT_EQ(rows.row_count(), 1u);
    EXPECT_EQ(only_element(rows.arrays(Relation::kBatch)[0]), "kept");
}

}  // namespace
}  // namespace millrace
