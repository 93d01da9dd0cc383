#pragma once

#include <string>
#include <string_view>

#include "projections/column_type.h"
#include "projections/json_walker.h"

namespace millrace {

// Why a value does not fit its column; empty when it does. Always a constant, never the value.
using Misfit = std::string_view;

constexpr Misfit kFits = "";
constexpr Misfit kHoldsNul = "holds U+0000, which PostgreSQL cannot store";
constexpr Misfit kNotUtf8 = "not UTF-8";
constexpr Misfit kNotJson = "not JSON";
constexpr Misfit kOutOfRange = "out of range";

// Each appends `value` to `out` in the binary format of wire_type(type), or says why it does not
// fit and may leave a part behind.

// The content of a JSON string. Types that JSON writes without quotes refuse it.
Misfit append_json_string(ColumnType type, std::string_view value, std::string& out);
// A JSON number, true or false, as it stands in the payload.
Misfit append_json_token(ColumnType type, std::string_view token, std::string& out);
// A header's value or a default: text for every type, checked to be UTF-8 without U+0000.
Misfit append_plain_text(ColumnType type, std::string_view text, std::string& out);
// A json or jsonb column's value as it stands in the payload.
Misfit append_raw_json(ColumnType type, const JsonSlot& slot, std::string& out);
// Text that may come from anywhere.
Misfit append_checked_text(std::string_view text, std::string& out);

// True for the grammar of a JSON number, nothing before or behind it.
bool is_json_number(std::string_view token);
// False for a JSON number that PostgreSQL's numeric, and with it jsonb, does not hold.
bool fits_numeric(std::string_view number);

}  // namespace millrace
