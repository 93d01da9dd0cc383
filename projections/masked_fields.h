#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "projections/json_path.h"

namespace millrace {

// A payload as people may see it: JSON with "***" in place of what stands at the paths, and of all
// below it; in an envelope of the relay's, in its payload too. Written anew: white space is lost,
// and of a member that occurs twice one is left. Nothing if the payload is no JSON, so that nobody
// can tell what is in it.
std::optional<std::string> mask_fields(std::string_view payload,
                                       const std::vector<JsonPath>& paths);

}  // namespace millrace
