#include "bench/load/rounds.h"

#include <algorithm>

#include "app/bench/percentiles.h"

namespace millrace::bench {

namespace {

// As many digits as the rounds' own figures have at most.
constexpr int kDigits = 2;

nlohmann::ordered_json middle_of(const std::vector<double>& values) {
    if (values.empty()) return nullptr;
    const double middle = median(values);
    return rounded(middle, middle >= 100 ? 0 : kDigits);
}

}  // namespace

void Rounds::add(const BenchRow& row) {
    say(json_of(row).dump());
    auto known = std::find_if(measures_.begin(), measures_.end(),
                              [&row](const Measure& one) { return one.name == row.measure; });
    if (known == measures_.end()) {
        known = measures_.insert(known, {.name = row.measure, .rows = {}});
    }
    known->rows.push_back(row);
}

void Rounds::finish() {
    for (const Measure& measure : measures_) {
        BenchRow row{.measure = measure.name, .figures = {}};
        const auto& figures = measure.rows.front().figures;
        for (size_t i = 0; i < figures.size(); ++i) {
            row.figures.emplace_back(figures[i].first, middle_of(values_of(measure, i)));
        }
        row.figures.emplace_back("spread %", rounded(spread_percent(values_of(measure, 0)), 0));
        row.figures.emplace_back("rounds", static_cast<int64_t>(measure.rows.size()));
        emit_(row);
    }
}

double Rounds::median_of(const std::string& measure) const {
    for (const Measure& one : measures_) {
        if (one.name == measure) return median(values_of(one, 0));
    }
    return 0;
}

std::vector<double> Rounds::values_of(const Measure& measure, size_t figure) {
    std::vector<double> values;
    for (const BenchRow& row : measure.rows) {
        const auto& value = row.figures.at(figure).second;
        if (value.is_number()) values.push_back(value.get<double>());
    }
    return values;
}

}  // namespace millrace::bench
