#include "app/config_value.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <regex>
#include <utility>
#include <vector>

#include "core/failure.h"

namespace millrace {

namespace {

using Units = std::vector<std::pair<std::string_view, int64_t>>;

const Units& duration_units() {
    static const Units kUnits{{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
    return kUnits;
}

const Units& size_units() {
    static const Units kUnits{
        {"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", int64_t{1} << 30}};
    return kUnits;
}

std::optional<int64_t> parse_with_unit(std::string_view text, const Units& units) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0) return std::nullopt;
    const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
    for (const auto& [name, factor] : units) {
        int64_t product = 0;
        if (unit == name && !__builtin_mul_overflow(number, factor, &product)) return product;
    }
    return std::nullopt;
}

// The largest unit that divides `value`, as a configuration would have it.
std::string with_unit(int64_t value, const Units& units) {
    auto unit = units.rbegin();
    while (value == 0 || value % unit->second != 0) {
        if (std::next(unit) == units.rend()) break;
        ++unit;
    }
    return std::to_string(value / unit->second) + std::string(unit->first);
}

std::optional<std::string> range_fault(const std::optional<int64_t>& value, const ConfigKey& key,
                                       std::string_view example, const Units& units) {
    if (!value) return "is not " + std::string(example);
    if (*value >= key.least && *value <= key.most) return std::nullopt;
    return "is not between " + with_unit(key.least, units) + " and " + with_unit(key.most, units);
}

bool is_choice(std::string_view choices, std::string_view text) {
    for (size_t begin = 0; begin <= choices.size();) {
        const size_t end = std::min(choices.find('|', begin), choices.size());
        if (choices.substr(begin, end - begin) == text) return true;
        begin = end + 1;
    }
    return false;
}

std::string as_list(std::string_view choices) {
    std::string list;
    for (const char c : choices) list += c == '|' ? ", " : std::string(1, c);
    return list;
}

std::string read_secret(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file) throw misconfigured("config_reference", "file " + path + " can't be read");
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    return text;
}

std::string resolve(const std::string& reference, const Environment& environment) {
    if (reference.starts_with("env:")) {
        const std::string name = reference.substr(4);
        const auto found = environment.find(name);
        if (found != environment.end()) return found->second;
        throw misconfigured("config_reference", "environment variable " + name + " is not set");
    }
    if (reference.starts_with("file:/")) return read_secret(reference.substr(5));
    throw misconfigured("config_reference",
                        "${" + reference + "} is neither ${env:NAME} nor ${file:/path}");
}

}  // namespace

std::optional<int64_t> parse_duration(std::string_view text) {
    return parse_with_unit(text, duration_units());
}

std::optional<int64_t> parse_size(std::string_view text) {
    return parse_with_unit(text, size_units());
}

std::optional<int64_t> parse_count(std::string_view text) {
    return parse_with_unit(text, {{"", 1}});
}

std::optional<double> parse_share(std::string_view text) {
    double share = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), share,
                                              std::chars_format::fixed);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    if (!(share >= 0 && share <= 1)) return std::nullopt;
    return share;
}

std::optional<std::string> fault_of(const ConfigKey& key, std::string_view text) {
    switch (key.type) {
        case KeyType::kText:
        case KeyType::kNames: return std::nullopt;
        case KeyType::kBoolean:
            if (text == "true" || text == "false") return std::nullopt;
            return "is neither true nor false";
        case KeyType::kCount:
            return range_fault(parse_count(text), key, "a whole number", {{"", 1}});
        case KeyType::kDuration:
            return range_fault(parse_duration(text), key,
                               "a duration: a whole number and ms, s, m or h, such as 20ms",
                               duration_units());
        case KeyType::kSize:
            return range_fault(parse_size(text), key,
                               "a size: a whole number and B, KiB, MiB or GiB, such as 4MiB",
                               size_units());
        case KeyType::kShare:
            if (parse_share(text)) return std::nullopt;
            return "is no number from 0 to 1, such as 0.05";
        case KeyType::kChoice:
            if (is_choice(key.choices, text)) return std::nullopt;
            return "is none of " + as_list(key.choices);
    }
    return std::nullopt;
}

std::string expand(const std::string& text, const Environment& environment) {
    std::string expanded;
    size_t at = 0;
    for (;;) {
        const size_t begin = text.find("${", at);
        if (begin == std::string::npos) return expanded + text.substr(at);
        const size_t end = text.find('}', begin);
        if (end == std::string::npos) {
            throw misconfigured("config_reference", "a reference that begins with ${ has no }");
        }
        expanded += text.substr(at, begin - at);
        expanded += resolve(text.substr(begin + 2, end - begin - 2), environment);
        at = end + 1;
    }
}

bool has_reference(std::string_view text) { return text.find("${") != std::string_view::npos; }

std::string mask_passwords(const std::string& text) {
    static const std::regex kInUri("(://[^:/@?]*:)[^/?]*@");
    static const std::regex kAsParameter(R"re((password\s*=\s*)('(\\.|[^'\\])*'|[^&\s]+))re");
    return std::regex_replace(std::regex_replace(text, kInUri, "$1***@"), kAsParameter, "$1***");
}

}  // namespace millrace
