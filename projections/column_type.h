#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/pg/params.h"

namespace millrace {

// What a column of a projection file can be.
enum class ColumnType {
    kText,
    kBoolean,
    kSmallint,
    kInteger,
    kBigint,
    kNumeric,
    kDouble,
    kDate,
    kTimestamptz,
    kUuid,
    kJson,
    kJsonb,
};

// As SQL and the file write it.
std::string_view name_of(ColumnType type);
std::optional<ColumnType> find_column_type(std::string_view name);
std::vector<std::string_view> column_type_names();

// What is sent for it. A numeric travels as text and is cast in the batch relation: its text is the
// JSON number's own, so no digit is lost, and PostgreSQL reads it as fast as its binary form.
pg::Type wire_type(ColumnType type);

}  // namespace millrace
