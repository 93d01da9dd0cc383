#include "core/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace millrace {

namespace {

// Levenshtein's distance, one row of the table at a time.
size_t distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 0; i < a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b.size(); ++j) {
            const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({changed, row[j] + 1, diagonal + 1});
        }
    }
    return row.back();
}

}  // namespace

std::string suggestion_for(std::string_view name, std::span<const std::string_view> known) {
    std::string_view nearest;
    size_t least = std::max<size_t>(2, name.size() / 3) + 1;
    for (const std::string_view candidate : known) {
        const size_t changes = distance(name, candidate);
        if (changes >= least) continue;
        least = changes;
        nearest = candidate;
    }
    return nearest.empty() ? "" : "; did you mean \"" + std::string(nearest) + "\"?";
}

}  // namespace millrace
