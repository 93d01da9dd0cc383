#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace millrace {

// One measurement: what was measured, and its figures by name with their units.
struct BenchRow {
    std::string measure;
    std::vector<std::pair<std::string, nlohmann::ordered_json>> figures;
};

// To as many digits as mean something.
nlohmann::ordered_json rounded(double value, int digits);

// None for 0: what could not be seen, as the CPU of a server elsewhere.
nlohmann::ordered_json figure_or_none(double value, int digits);

nlohmann::ordered_json json_of(const BenchRow& row);
// Tables in Markdown: rows that have the same figures stand below one head.
std::string markdown_of(const std::vector<BenchRow>& rows);

}  // namespace millrace
