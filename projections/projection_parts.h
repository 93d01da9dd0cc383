#pragma once

#include <string_view>

#include "projections/mistakes.h"
#include "projections/projection_file.h"

namespace millrace {

// The two halves of parse_projection(). Both add to `mistakes` and go on.

// Fills all that stands in the header; `yaml` begins on line `line` of the file.
void parse_header(std::string_view yaml, int line, ProjectionFile& file, Mistakes& mistakes);
// Fills sections and warnings from what follows the header, which ends at byte `begin`.
void parse_sections(size_t begin, ProjectionFile& file, Mistakes& mistakes);

}  // namespace millrace
