#include "projections/calendar.h"

#include <chrono>

namespace millrace {

namespace {

constexpr std::chrono::sys_days kPostgresEpoch{std::chrono::year{2000} / 1 / 1};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Reads exactly `count` digits off the front of `text`.
std::optional<int> take_digits(std::string_view& text, size_t count) {
    if (text.size() < count) return std::nullopt;
    int number = 0;
    for (size_t i = 0; i < count; ++i) {
        if (!is_digit(text[i])) return std::nullopt;
        number = number * 10 + (text[i] - '0');
    }
    text.remove_prefix(count);
    return number;
}

bool take(std::string_view& text, char c) {
    if (text.empty() || text[0] != c) return false;
    text.remove_prefix(1);
    return true;
}

// RFC 3339 allows its letters in either case.
bool take_letter(std::string_view& text, char upper) {
    return take(text, upper) || take(text, static_cast<char>(upper - 'A' + 'a'));
}

std::optional<std::chrono::sys_days> take_date(std::string_view& text) {
    const auto year = take_digits(text, 4);
    if (!year || *year == 0 || !take(text, '-')) return std::nullopt;
    const auto month = take_digits(text, 2);
    if (!month || !take(text, '-')) return std::nullopt;
    const auto day = take_digits(text, 2);
    if (!day) return std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year{*year},
                                           std::chrono::month{static_cast<unsigned>(*month)},
                                           std::chrono::day{static_cast<unsigned>(*day)}};
    if (!date.ok()) return std::nullopt;
    return std::chrono::sys_days{date};
}

// Reads "hh:mm" and checks the limits.
std::optional<std::chrono::minutes> take_minutes(std::string_view& text) {
    const auto hours = take_digits(text, 2);
    if (!hours || *hours > 23 || !take(text, ':')) return std::nullopt;
    const auto minutes = take_digits(text, 2);
    if (!minutes || *minutes > 59) return std::nullopt;
    return std::chrono::minutes{*hours * 60 + *minutes};
}

// Reads ".digits" if it stands there.
std::optional<std::chrono::microseconds> take_fraction(std::string_view& text) {
    if (!take(text, '.')) return std::chrono::microseconds{0};
    int64_t value = 0;
    size_t count = 0;
    for (; !text.empty() && is_digit(text[0]); text.remove_prefix(1), ++count) {
        if (count < 6) value = value * 10 + (text[0] - '0');
        if (count == 6 && text[0] >= '5') ++value;
    }
    if (count == 0) return std::nullopt;
    for (size_t i = count; i < 6; ++i) value *= 10;
    return std::chrono::microseconds{value};
}

// Reads "Z" or "+hh:mm".
std::optional<std::chrono::minutes> take_offset(std::string_view& text) {
    if (take_letter(text, 'Z')) return std::chrono::minutes{0};
    const bool is_behind = take(text, '-');
    if (!is_behind && !take(text, '+')) return std::nullopt;
    const auto minutes = take_minutes(text);
    if (!minutes) return std::nullopt;
    return is_behind ? -*minutes : *minutes;
}

}  // namespace

std::optional<int32_t> parse_date(std::string_view text) {
    const auto date = take_date(text);
    if (!date || !text.empty()) return std::nullopt;
    return static_cast<int32_t>((*date - kPostgresEpoch).count());
}

std::optional<int64_t> parse_rfc3339(std::string_view text) {
    const auto date = take_date(text);
    if (!date || !take_letter(text, 'T')) return std::nullopt;
    const auto minutes = take_minutes(text);
    if (!minutes || !take(text, ':')) return std::nullopt;
    const auto seconds = take_digits(text, 2);
    if (!seconds || *seconds > 60) return std::nullopt;  // 60: a leap second, the next minute's 0.
    const auto fraction = take_fraction(text);
    if (!fraction) return std::nullopt;
    const auto offset = take_offset(text);
    if (!offset || !text.empty()) return std::nullopt;
    const std::chrono::microseconds time = (*date - kPostgresEpoch) + *minutes - *offset +
                                           std::chrono::seconds{*seconds} + *fraction;
    return time.count();
}

}  // namespace millrace
