#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace {

// `; did you mean "name"?` for the one of `known` that is nearest to `name` by letters changed,
// added or left out; empty if none is near.
std::string suggestion_for(std::string_view name, const std::vector<std::string_view>& known);

}  // namespace millrace
