#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "projections/batch_layout.h"

namespace millrace {

// The events of a batch as rows of encoded cells, and the arrays that its relations are sent as. A
// row is written cell by cell in the layout's order. An event without a key is a row of its own in
// batch_last and batch_merged: how events are cut into batches must not show. Not thread-safe.
class BatchRows {
  public:
    explicit BatchRows(const BatchLayout& layout) : layout_(layout) {}

    // Bytes appended here belong to the cell that end_cell() ends.
    std::string& open_cell() { return bytes_; }
    void end_cell();
    void add_null();
    // `message_key` groups the row unless the layout has a key of its own.
    void end_row(std::optional<std::string_view> message_key);
    // Forgets what was written since the last end_row().
    void drop_row();
    void clear();

    size_t row_count() const { return keys_.size(); }
    size_t byte_count() const { return bytes_.size(); }
    // One array per field, and the count behind them if the relation has one. Rows of batch stand
    // in the order they were added, the others in the order of their keys' bytes.
    std::vector<std::string> arrays(Relation relation) const;

  private:
    struct Cell {
        size_t begin;
        size_t size;
        bool is_null;
    };
    struct Group {
        size_t first;  // Into `order`, as is `last`.
        size_t last;
    };

    const Cell& cell(size_t row, size_t field) const {
        return cells_[row * layout_.fields.size() + field];
    }
    std::string_view bytes_of(const Cell& cell) const {
        return std::string_view(bytes_).substr(cell.begin, cell.size);
    }
    void append(pg::ArrayBuilder& array, const Cell& cell) const;
    std::vector<size_t> rows_by_key() const;
    std::vector<Group> groups_of(const std::vector<size_t>& order) const;
    bool have_same_key(size_t row, size_t other) const;
    const Cell& merged_cell(const std::vector<size_t>& order, const Group& group,
                            size_t field) const;
    std::vector<std::string> arrays_of_batch() const;
    std::vector<std::string> arrays_by_key(bool is_merged) const;

    const BatchLayout& layout_;
    std::string bytes_;
    std::vector<Cell> cells_;
    std::vector<Cell> keys_;  // One a row.
    size_t cell_begin_ = 0;
    size_t row_begin_ = 0;
};

}  // namespace millrace
