#include "projections/meta.h"

#include <array>

#include "core/check.h"

namespace millrace {

namespace {

constexpr std::array<MetaColumn, 13> kColumns{{
    {Meta::kOrd, "_ord", "bigint", pg::Type::kInt8},
    {Meta::kId, "_id", "uuid", pg::Type::kUuid},
    {Meta::kTopic, "_topic", "text", pg::Type::kText},
    {Meta::kPartition, "_partition", "integer", pg::Type::kInt4},
    {Meta::kOffset, "_offset", "bigint", pg::Type::kInt8},
    {Meta::kKey, "_key", "text", pg::Type::kText},
    {Meta::kType, "_type", "text", pg::Type::kText},
    {Meta::kTs, "_ts", "timestamptz", pg::Type::kTimestamptz},
    {Meta::kTenant, "_tenant", "text", pg::Type::kText},
    {Meta::kActor, "_actor", "text", pg::Type::kText},
    {Meta::kDeleted, "_deleted", "boolean", pg::Type::kBool},
    {Meta::kPayload, "_payload", "json", pg::Type::kJson},
    {Meta::kCount, "_count", "bigint", pg::Type::kInt8},
}};

}  // namespace

std::span<const MetaColumn> meta_columns() { return kColumns; }

std::optional<Meta> find_meta(std::string_view name) {
    for (const MetaColumn& column : meta_columns()) {
        if (column.name == name) return column.meta;
    }
    return std::nullopt;
}

const MetaColumn& column_of(Meta meta) {
    for (const MetaColumn& column : meta_columns()) {
        if (column.meta == meta) return column;
    }
    MILLRACE_CHECK(false, "every meta has a column");
}

}  // namespace millrace
