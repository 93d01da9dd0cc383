#include "app/bench/percentiles.h"

#include <algorithm>
#include <cmath>

namespace millrace {

namespace {

// The smallest sample that a share of all does not exceed.
double at_share(const std::vector<double>& sorted, double share) {
    const double rank = std::ceil(share * static_cast<double>(sorted.size()));
    return sorted[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

}  // namespace

Percentiles percentiles(std::vector<double> samples) {
    if (samples.empty()) return {};
    std::sort(samples.begin(), samples.end());
    return {.p50 = at_share(samples, 0.5),
            .p99 = at_share(samples, 0.99),
            .p999 = at_share(samples, 0.999),
            .max = samples.back()};
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double spread_percent(const std::vector<double>& values) {
    if (values.empty() || median(values) == 0) return 0;
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return (*high - *low) / median(values) * 100;
}

}  // namespace millrace
