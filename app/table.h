#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace millrace {

// Rows for people, or for programs: the same cells as columns of text or as an array of objects. A
// null cell is shown as `-`.
class Table {
  public:
    using Cell = nlohmann::ordered_json;

    explicit Table(std::vector<std::string> columns) : columns_(std::move(columns)) {}

    void add(std::vector<Cell> row);
    size_t row_count() const { return rows_.size(); }

    void print(std::ostream& out) const;
    nlohmann::ordered_json as_json() const;

  private:
    std::vector<std::string> columns_;
    std::vector<std::vector<Cell>> rows_;
};

// With a comma between thousands.
std::string with_commas(int64_t number);

// JSON, indented; bytes that are not UTF-8 are replaced.
void print_json(std::ostream& out, const nlohmann::ordered_json& value);

// The same on one line, for streams of them.
void print_json_line(std::ostream& out, const nlohmann::ordered_json& value);

// A cell of something that may be missing.
template <typename Value>
Table::Cell cell_of(const std::optional<Value>& value) {
    return value ? Table::Cell(*value) : Table::Cell(nullptr);
}

}  // namespace millrace
