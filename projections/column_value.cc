#include "projections/column_value.h"

#include <simdjson.h>

#include <bit>
#include <charconv>
#include <limits>

#include "core/uuid.h"
#include "projections/calendar.h"

namespace millrace {

namespace {

constexpr Misfit kNotString = "not a JSON string";
constexpr Misfit kNotNumber = "not a JSON number";
constexpr Misfit kNotInteger = "not an integer";
constexpr Misfit kNotBoolean = "not true or false";
constexpr Misfit kNotDate = "not a date YYYY-MM-DD";
constexpr Misfit kNotTime = "not an RFC 3339 time with an offset";
constexpr Misfit kNotUuid = "not a uuid";

// What PostgreSQL's unconstrained numeric holds.
constexpr int64_t kNumericDigitsMax = 131072;
constexpr int64_t kNumericScaleMax = 16383;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

template <typename Integer>
Misfit append_integer(std::string_view token, std::string& out) {
    Integer number = 0;
    const char* end = token.data() + token.size();
    const auto [rest, error] = std::from_chars(token.data(), end, number);
    if (rest != end || error == std::errc::invalid_argument) return kNotInteger;
    if (error != std::errc()) return kOutOfRange;
    if constexpr (sizeof(Integer) == 2) pg::append_int16(out, number);
    if constexpr (sizeof(Integer) == 4) pg::append_int32(out, number);
    if constexpr (sizeof(Integer) == 8) pg::append_int64(out, number);
    return kFits;
}

Misfit append_double(std::string_view token, std::string& out) {
    double number = 0;
    const char* end = token.data() + token.size();
    const auto [rest, error] = std::from_chars(token.data(), end, number);
    if (error != std::errc() || rest != end) return kOutOfRange;
    pg::append_int64(out, std::bit_cast<int64_t>(number));
    return kFits;
}

// PostgreSQL would refuse the rest only when the batch is applied, and then for all of its events.
Misfit append_numeric(std::string_view token, std::string& out) {
    if (!fits_numeric(token)) return kOutOfRange;
    out.append(token);
    return kFits;
}

Misfit append_boolean(std::string_view token, std::string& out) {
    if (token != "true" && token != "false") return kNotBoolean;
    out.push_back(token == "true" ? '\1' : '\0');
    return kFits;
}

Misfit append_number(ColumnType type, std::string_view token, std::string& out) {
    if (!is_json_number(token)) return kNotNumber;
    if (type == ColumnType::kNumeric) return append_numeric(token, out);
    if (type == ColumnType::kDouble) return append_double(token, out);
    if (type == ColumnType::kSmallint) return append_integer<int16_t>(token, out);
    if (type == ColumnType::kInteger) return append_integer<int32_t>(token, out);
    return append_integer<int64_t>(token, out);
}

Misfit append_date(std::string_view text, std::string& out) {
    const auto date = parse_date(text);
    if (!date) return kNotDate;
    pg::append_int32(out, *date);
    return kFits;
}

Misfit append_time(std::string_view text, std::string& out) {
    const auto time = parse_rfc3339(text);
    if (!time) return kNotTime;
    pg::append_int64(out, *time);
    return kFits;
}

Misfit append_uuid(std::string_view text, std::string& out) {
    const auto uuid = Uuid::parse(text);
    if (!uuid) return kNotUuid;
    out.append(uuid->view());
    return kFits;
}

// For a header or a default, which are rare; a payload is walked once for all of its columns.
Misfit append_json_text(ColumnType type, std::string_view text, std::string& out) {
    JsonWalker walker({JsonPath{}});
    const Misfit misfit = walker.read(text);
    if (!misfit.empty()) return misfit;
    return append_raw_json(type, walker.slot(0), out);
}

}  // namespace

Misfit append_json_string(ColumnType type, std::string_view value, std::string& out) {
    switch (type) {
        case ColumnType::kText:
            if (value.find('\0') != std::string_view::npos) return kHoldsNul;
            out.append(value);
            return kFits;
        case ColumnType::kDate: return append_date(value, out);
        case ColumnType::kTimestamptz: return append_time(value, out);
        case ColumnType::kUuid: return append_uuid(value, out);
        case ColumnType::kBoolean: return kNotBoolean;
        case ColumnType::kSmallint:
        case ColumnType::kInteger:
        case ColumnType::kBigint:
        case ColumnType::kNumeric:
        case ColumnType::kDouble: return kNotNumber;
        case ColumnType::kJson:
        case ColumnType::kJsonb: return kNotJson;
    }
    return kNotJson;
}

Misfit append_json_token(ColumnType type, std::string_view token, std::string& out) {
    switch (type) {
        case ColumnType::kBoolean: return append_boolean(token, out);
        case ColumnType::kSmallint:
        case ColumnType::kInteger:
        case ColumnType::kBigint:
        case ColumnType::kNumeric:
        case ColumnType::kDouble: return append_number(type, token, out);
        case ColumnType::kText:
        case ColumnType::kDate:
        case ColumnType::kTimestamptz:
        case ColumnType::kUuid: return kNotString;
        case ColumnType::kJson:
        case ColumnType::kJsonb: return kNotJson;
    }
    return kNotJson;
}

Misfit append_plain_text(ColumnType type, std::string_view text, std::string& out) {
    switch (type) {
        case ColumnType::kText: return append_checked_text(text, out);
        case ColumnType::kDate:
        case ColumnType::kTimestamptz:
        case ColumnType::kUuid: return append_json_string(type, text, out);
        case ColumnType::kBoolean:
        case ColumnType::kSmallint:
        case ColumnType::kInteger:
        case ColumnType::kBigint:
        case ColumnType::kNumeric:
        case ColumnType::kDouble: return append_json_token(type, text, out);
        case ColumnType::kJson:
        case ColumnType::kJsonb: return append_json_text(type, text, out);
    }
    return kNotJson;
}

Misfit append_raw_json(ColumnType type, const JsonSlot& slot, std::string& out) {
    if (slot.holds_nul) return kHoldsNul;
    if (type == ColumnType::kJsonb) {
        if (slot.holds_huge_number) return kOutOfRange;
        out.push_back('\1');  // jsonb_recv wants a version before the text.
    }
    out.append(slot.raw);
    return kFits;
}

Misfit append_checked_text(std::string_view text, std::string& out) {
    if (!simdjson::validate_utf8(text.data(), text.size())) return kNotUtf8;
    if (text.find('\0') != std::string_view::npos) return kHoldsNul;
    out.append(text);
    return kFits;
}

bool is_json_number(std::string_view token) {
    size_t i = 0;
    const auto at = [&](size_t n) { return n < token.size() ? token[n] : '\0'; };
    const auto digits = [&] {
        const size_t begin = i;
        while (is_digit(at(i))) ++i;
        return i > begin;
    };
    if (at(i) == '-') ++i;
    if (at(i) == '0') {
        ++i;
    } else if (!digits()) {
        return false;
    }
    if (at(i) == '.') {
        ++i;
        if (!digits()) return false;
    }
    if (at(i) == 'e' || at(i) == 'E') {
        ++i;
        if (at(i) == '+' || at(i) == '-') ++i;
        if (!digits()) return false;
    }
    return i == token.size() && i > 0;
}

bool fits_numeric(std::string_view number) {
    const size_t exponent_at = number.find_first_of("eE");
    const std::string_view digits = number.substr(0, exponent_at);
    int64_t exponent = 0;
    if (exponent_at != std::string_view::npos) {
        std::string_view text = number.substr(exponent_at + 1);
        if (text[0] == '+') text.remove_prefix(1);
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), exponent);
        if (parsed.ec != std::errc()) return false;
        if (exponent > kNumericDigitsMax || exponent < -kNumericScaleMax) return false;
    }
    const size_t point = std::min(digits.find('.'), digits.size());
    const auto before = static_cast<int64_t>(point) - (digits[0] == '-' ? 1 : 0);
    const auto after = static_cast<int64_t>(digits.size() - std::min(point + 1, digits.size()));
    return before + exponent <= kNumericDigitsMax && after - exponent <= kNumericScaleMax;
}

}  // namespace millrace
