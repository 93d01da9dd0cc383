#pragma once

#include <span>
#include <string_view>

namespace millrace {

// A file of projections/samples, compiled in: an installed program has no source tree beside it.
struct DemoSample {
    std::string_view file_name;
    std::string_view text;
};

std::span<const DemoSample> demo_samples();

}  // namespace millrace
