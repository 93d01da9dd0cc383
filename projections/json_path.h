#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace millrace {

// A member's name or an element's number.
using JsonStep = std::variant<std::string, size_t>;
using JsonPath = std::vector<JsonStep>;

// path = "$" step*
// step = "." name | "[" number "]"
// name = one or more characters, none of them . [ ] * ' " or white space
// `$` alone is the whole payload. Anything else is nullopt.
std::optional<JsonPath> parse_json_path(std::string_view text);

}  // namespace millrace
