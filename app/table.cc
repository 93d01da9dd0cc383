#include "app/table.h"

#include <algorithm>

#include "core/check.h"

namespace millrace {

namespace {

constexpr size_t kGap = 2;

std::string text_of(const Table::Cell& cell) {
    if (cell.is_null()) return "-";
    if (cell.is_string()) return cell.get<std::string>();
    return cell.dump();
}

// Numbers stand at the right of their column.
std::string padded(const Table::Cell& cell, size_t width) {
    std::string text = text_of(cell);
    const std::string gap(width - std::min(width, text.size()), ' ');
    return cell.is_number() ? gap + text : text + gap;
}

void print_line(std::ostream& out, std::string line) {
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
}

}  // namespace

void Table::add(std::vector<Cell> row) {
    MILLRACE_CHECK(row.size() == columns_.size(), "a row has a cell for each column");
    rows_.push_back(std::move(row));
}

void Table::print(std::ostream& out) const {
    std::vector<size_t> widths;
    for (size_t i = 0; i < columns_.size(); ++i) {
        widths.push_back(columns_[i].size());
        for (const auto& row : rows_) widths[i] = std::max(widths[i], text_of(row[i]).size());
    }
    std::string header;
    for (size_t i = 0; i < columns_.size(); ++i) {
        header += padded(columns_[i], widths[i] + kGap);
    }
    print_line(out, header);
    for (const auto& row : rows_) {
        std::string line;
        for (size_t i = 0; i < row.size(); ++i) {
            line += padded(row[i], widths[i]) + std::string(kGap, ' ');
        }
        print_line(out, line);
    }
}

nlohmann::ordered_json Table::as_json() const {
    nlohmann::ordered_json array = nlohmann::ordered_json::array();
    for (const auto& row : rows_) {
        nlohmann::ordered_json object;
        for (size_t i = 0; i < row.size(); ++i) object[columns_[i]] = row[i];
        array.push_back(std::move(object));
    }
    return array;
}

std::string with_commas(int64_t number) {
    std::string text = std::to_string(number);
    for (auto place = static_cast<int64_t>(text.size()) - 3; place > (number < 0 ? 1 : 0);
         place -= 3) {
        text.insert(static_cast<size_t>(place), 1, ',');
    }
    return text;
}

void print_json(std::ostream& out, const nlohmann::ordered_json& value) {
    out << value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

void print_json_line(std::ostream& out, const nlohmann::ordered_json& value) {
    out << value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

}  // namespace millrace
