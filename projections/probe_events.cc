#include "projections/probe_events.h"

#include <algorithm>

#include "core/check.h"
#include "core/uuid.h"
#include "projections/calendar.h"
#include "projections/column_value.h"
#include "projections/sql_lexer.h"

namespace millrace {

namespace {

constexpr std::string_view kSampleUuid = "6d696c6c-7261-4365-8000-00000000cafe";
constexpr std::string_view kSampleTime = "2020-02-03T04:05:06Z";
constexpr int64_t kFirstOffset = 1000;

// Not 0 and not 1: sums and products of them show.
std::string_view sample_of(ColumnType type) {
    switch (type) {
        case ColumnType::kText: return "sample";
        case ColumnType::kBoolean: return "true";
        case ColumnType::kSmallint:
        case ColumnType::kInteger:
        case ColumnType::kBigint:
        case ColumnType::kNumeric:
        case ColumnType::kDouble: return "3";
        case ColumnType::kDate: return "2020-02-03";
        case ColumnType::kTimestamptz: return kSampleTime;
        case ColumnType::kUuid: return kSampleUuid;
        case ColumnType::kJson:
        case ColumnType::kJsonb: return R"({"sample": 3})";
    }
    MILLRACE_CHECK(false, "every column type has a sample");
}

void add_column(const ProbeEvent& event, const Column& column, BatchRows& rows) {
    // A tombstone has no payload to read a path from, but headers like any message.
    if (event.is_tombstone && column.path) return rows.add_null();
    const Misfit misfit = append_plain_text(column.type, sample_of(column.type), rows.open_cell());
    MILLRACE_CHECK(misfit.empty(), "a sample fits its column");
    rows.end_cell();
}

std::string id_of(const ProbeEvent& event) {
    Uuid id = *Uuid::parse(kSampleUuid);
    id.bytes[15] = static_cast<unsigned char>(event.number);
    return std::string(id.view());
}

void add_meta(const ProbeEvent& event, Meta meta, BatchRows& rows) {
    std::string& out = rows.open_cell();
    switch (meta) {
        case Meta::kOrd: pg::append_int64(out, static_cast<int64_t>(rows.row_count()) + 1); break;
        case Meta::kId: out += id_of(event); break;
        case Meta::kPartition: pg::append_int32(out, 0); break;
        case Meta::kOffset: pg::append_int64(out, kFirstOffset + event.number); break;
        case Meta::kTs: pg::append_int64(out, *parse_rfc3339(kSampleTime)); break;
        case Meta::kDeleted: out.push_back(event.is_tombstone ? '\1' : '\0'); break;
        case Meta::kTopic:
        case Meta::kKey:
        case Meta::kTenant:
        case Meta::kActor: out += "sample"; break;
        case Meta::kType:
            if (event.is_tombstone) return rows.add_null();
            out += event.type;
            break;
        case Meta::kPayload:
            if (event.is_tombstone) return rows.add_null();
            out += R"({"sample": 3})";
            break;
        case Meta::kCount: MILLRACE_CHECK(false, "_count is no cell");
    }
    rows.end_cell();
}

}  // namespace

std::vector<ProbeEvent> probe_events(const ProjectionFile& file) {
    std::vector<std::string> types = file.types;
    if (types.empty()) {
        for (const Section* section : file.sections_of(SectionKind::kApply)) {
            for (const SqlToken& token : lex_sql(section->statement).tokens) {
                if (token.kind == SqlTokenKind::kString) types.push_back(token.value);
            }
        }
        types.emplace_back("sample");  // And one that no literal names, for what falls to an ELSE.
        std::sort(types.begin(), types.end());
        types.erase(std::unique(types.begin(), types.end()), types.end());
    }
    std::vector<ProbeEvent> events;
    for (const std::string& type : types) events.push_back({type, false, 0});
    if (file.mentions("_deleted")) events.push_back({"", true, 0});
    return events;
}

void add_probe_row(const ProbeEvent& event, const ProjectionFile& file, const BatchLayout& layout,
                   BatchRows& rows) {
    for (const Column& column : file.columns) add_column(event, column, rows);
    for (const BatchField& field : layout.fields) {
        if (field.meta) add_meta(event, *field.meta, rows);
    }
    rows.end_row("sample");
}

}  // namespace millrace
