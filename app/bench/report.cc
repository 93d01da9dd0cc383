#include "app/bench/report.h"

#include <cmath>

#include "app/table.h"

namespace millrace {

namespace {

std::string text_of(const nlohmann::ordered_json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number_integer()) return with_commas(value.get<int64_t>());
    if (value.is_null()) return "-";
    return value.dump();
}

std::string head_of(const BenchRow& row) {
    std::string names = "| measure |";
    std::string rule = "|---|";
    for (const auto& [name, value] : row.figures) {
        names += " " + name + " |";
        rule += "---|";
    }
    return names + "\n" + rule + "\n";
}

}  // namespace

nlohmann::ordered_json rounded(double value, int digits) {
    const double scale = std::pow(10, digits);
    const double result = std::round(value * scale) / scale;
    if (digits <= 0) return static_cast<int64_t>(result);
    return result;
}

nlohmann::ordered_json figure_or_none(double value, int digits) {
    return value > 0 ? rounded(value, digits) : nullptr;
}

nlohmann::ordered_json json_of(const BenchRow& row) {
    nlohmann::ordered_json json{{"measure", row.measure}};
    for (const auto& [name, value] : row.figures) json[name] = value;
    return json;
}

std::string markdown_of(const std::vector<BenchRow>& rows) {
    std::string text;
    std::string head;
    for (const BenchRow& row : rows) {
        if (head_of(row) != head) {
            head = head_of(row);
            text += (text.empty() ? "" : "\n") + head;
        }
        text += "| " + row.measure + " |";
        for (const auto& [name, value] : row.figures) text += " " + text_of(value) + " |";
        text += "\n";
    }
    return text;
}

}  // namespace millrace
