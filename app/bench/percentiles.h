#pragma once

#include <vector>

namespace millrace {

// Of all samples, sorted: no buckets.
struct Percentiles {
    double p50 = 0;
    double p99 = 0;
    double p999 = 0;
    double max = 0;
};

Percentiles percentiles(std::vector<double> samples);
// 0 of none.
double median(std::vector<double> values);
// Largest less smallest, in per cent of the median.
double spread_percent(const std::vector<double>& values);

}  // namespace millrace
