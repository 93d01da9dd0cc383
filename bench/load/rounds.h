#pragma once

#include <string>
#include <vector>

#include "bench/load/cases.h"

namespace millrace::bench {

// Collects the rows of several rounds and emits one a measure: the median of each figure by itself,
// the spread of the first one, and of how many rounds it is. `emit` must outlive it.
class Rounds {
  public:
    explicit Rounds(const Emit& emit) : emit_(emit) {}

    // Says it on standard error. Rows of one measure have the same figures.
    void add(const BenchRow& row);
    // In the order in which measures came first.
    void finish();
    // Of the first figure; 0 if there was no such measure.
    double median_of(const std::string& measure) const;

  private:
    struct Measure {
        std::string name;
        std::vector<BenchRow> rows;
    };
    static std::vector<double> values_of(const Measure& measure, size_t figure);

    const Emit& emit_;
    std::vector<Measure> measures_;
};

}  // namespace millrace::bench
