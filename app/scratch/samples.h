#pragma once

#include <span>
#include <string>
#include <string_view>

namespace millrace {

// A file of projections/samples, compiled in: an installed program has no source tree beside it.
struct Sample {
    std::string_view file_name;
    std::string_view text;
};

std::span<const Sample> samples();
// The text of the one of that name.
std::string sample_text(std::string_view file_name);

}  // namespace millrace
