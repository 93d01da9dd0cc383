#include "projections/column_type.h"

#include <array>

#include "core/check.h"

namespace millrace {

namespace {

struct Known {
    ColumnType type;
    std::string_view name;
    pg::Type wire;
};

constexpr std::array<Known, 12> kKnown{{
    {ColumnType::kText, "text", pg::Type::kText},
    {ColumnType::kBoolean, "boolean", pg::Type::kBool},
    {ColumnType::kSmallint, "smallint", pg::Type::kInt2},
    {ColumnType::kInteger, "integer", pg::Type::kInt4},
    {ColumnType::kBigint, "bigint", pg::Type::kInt8},
    {ColumnType::kNumeric, "numeric", pg::Type::kText},
    {ColumnType::kDouble, "double precision", pg::Type::kFloat8},
    {ColumnType::kDate, "date", pg::Type::kDate},
    {ColumnType::kTimestamptz, "timestamptz", pg::Type::kTimestamptz},
    {ColumnType::kUuid, "uuid", pg::Type::kUuid},
    {ColumnType::kJson, "json", pg::Type::kJson},
    {ColumnType::kJsonb, "jsonb", pg::Type::kJsonb},
}};

const Known& known(ColumnType type) {
    for (const Known& entry : kKnown) {
        if (entry.type == type) return entry;
    }
    MILLRACE_CHECK(false, "every column type is known");
}

}  // namespace

std::string_view name_of(ColumnType type) { return known(type).name; }

std::optional<ColumnType> find_column_type(std::string_view name) {
    for (const Known& entry : kKnown) {
        if (entry.name == name) return entry.type;
    }
    return std::nullopt;
}

std::vector<std::string_view> column_type_names() {
    std::vector<std::string_view> names;
    for (const Known& entry : kKnown) names.push_back(entry.name);
    return names;
}

pg::Type wire_type(ColumnType type) { return known(type).wire; }

}  // namespace millrace
