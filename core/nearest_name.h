#pragma once

#include <span>
#include <string>
#include <string_view>

namespace millrace {

// `; did you mean "name"?` for the one of `known` that is nearest to `name` by letters changed,
// added or left out; empty if none is near.
std::string suggestion_for(std::string_view name, std::span<const std::string_view> known);

}  // namespace millrace
