#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace millrace {

// Times as PostgreSQL counts them: from 2000-01-01 UTC. Years are 0001 to 9999.

// Days, of YYYY-MM-DD.
std::optional<int32_t> parse_date(std::string_view text);
// Microseconds, of an RFC 3339 time with an offset; more than six digits of a second are rounded,
// as PostgreSQL does.
std::optional<int64_t> parse_rfc3339(std::string_view text);

}  // namespace millrace
