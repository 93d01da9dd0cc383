#include "projections/json_path.h"

#include <charconv>

namespace millrace {

namespace {

// Reads ".name" off the front of `text`.
std::optional<JsonStep> take_member(std::string_view& text) {
    const size_t end = std::min(text.find_first_of(".[", 1), text.size());
    const std::string_view name = text.substr(1, end - 1);
    if (name.empty() || name.find_first_of("]*'\" \t\r\n") != std::string_view::npos) {
        return std::nullopt;
    }
    text.remove_prefix(end);
    return JsonStep(std::string(name));
}

// Reads "[number]" off the front of `text`.
std::optional<JsonStep> take_element(std::string_view& text) {
    size_t number = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + 1, end, number);
    if (error != std::errc() || rest == end || *rest != ']') return std::nullopt;
    text.remove_prefix(static_cast<size_t>(rest - text.data()) + 1);
    return JsonStep(number);
}

}  // namespace

std::optional<JsonPath> parse_json_path(std::string_view text) {
    if (text.empty() || text[0] != '$') return std::nullopt;
    text.remove_prefix(1);
    JsonPath path;
    while (!text.empty()) {
        if (text[0] != '.' && text[0] != '[') return std::nullopt;
        const auto step = text[0] == '.' ? take_member(text) : take_element(text);
        if (!step) return std::nullopt;
        path.push_back(*step);
    }
    return path;
}

}  // namespace millrace
