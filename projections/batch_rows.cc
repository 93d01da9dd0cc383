#include "projections/batch_rows.h"

#include <algorithm>
#include <numeric>

#include "core/check.h"

namespace millrace {

void BatchRows::end_cell() {
    cells_.push_back({cell_begin_, bytes_.size() - cell_begin_, false});
    cell_begin_ = bytes_.size();
}

void BatchRows::add_null() { cells_.push_back({cell_begin_, 0, true}); }

void BatchRows::end_row(std::optional<std::string_view> message_key) {
    MILLRACE_CHECK(cells_.size() == (keys_.size() + 1) * layout_.fields.size(),
                   "a row has one cell per field");
    if (layout_.key_field) {
        keys_.push_back(cell(keys_.size(), *layout_.key_field));
    } else if (message_key) {
        keys_.push_back({bytes_.size(), message_key->size(), false});
        bytes_.append(*message_key);
    } else {
        keys_.push_back({bytes_.size(), 0, true});
    }
    cell_begin_ = row_begin_ = bytes_.size();
}

void BatchRows::drop_row() {
    bytes_.resize(row_begin_);
    cells_.resize(keys_.size() * layout_.fields.size());
    cell_begin_ = row_begin_;
}

void BatchRows::clear() {
    bytes_.clear();
    cells_.clear();
    keys_.clear();
    cell_begin_ = row_begin_ = 0;
}

std::vector<std::string> BatchRows::arrays(Relation relation) const {
    switch (relation) {
        case Relation::kBatch: return arrays_of_batch();
        case Relation::kLast: return arrays_by_key(/*is_merged=*/false);
        case Relation::kMerged: return arrays_by_key(/*is_merged=*/true);
    }
    MILLRACE_CHECK(false, "every relation has arrays");
}

void BatchRows::append(pg::ArrayBuilder& array, const Cell& cell) const {
    if (cell.is_null) {
        array.add_null();
    } else {
        array.add_bytes(bytes_of(cell));
    }
}

std::vector<std::string> BatchRows::arrays_of_batch() const {
    std::vector<std::string> arrays;
    for (size_t field = 0; field < layout_.fields.size(); ++field) {
        pg::ArrayBuilder array(layout_.fields[field].wire);
        for (size_t row = 0; row < row_count(); ++row) append(array, cell(row, field));
        arrays.push_back(array.take());
    }
    return arrays;
}

std::vector<std::string> BatchRows::arrays_by_key(bool is_merged) const {
    const std::vector<size_t> order = rows_by_key();
    const std::vector<Group> groups = groups_of(order);
    std::vector<std::string> arrays;
    for (size_t field = 0; field < layout_.fields.size(); ++field) {
        const bool merges = is_merged && !layout_.fields[field].meta;
        pg::ArrayBuilder array(layout_.fields[field].wire);
        for (const Group& group : groups) {
            append(array, merges ? merged_cell(order, group, field)
                                 : cell(order[group.last], field));
        }
        arrays.push_back(array.take());
    }
    if (layout_.has_count) {
        pg::ArrayBuilder counts(column_of(Meta::kCount).wire);
        for (const Group& group : groups) {
            counts.add_int8(static_cast<int64_t>(group.last - group.first + 1));
        }
        arrays.push_back(counts.take());
    }
    return arrays;
}

// Rows of one key side by side, in the order of their events.
std::vector<size_t> BatchRows::rows_by_key() const {
    std::vector<size_t> order(row_count());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [this](size_t a, size_t b) {
        if (keys_[a].is_null || keys_[b].is_null) return keys_[a].is_null && !keys_[b].is_null;
        return bytes_of(keys_[a]) < bytes_of(keys_[b]);
    });
    return order;
}

std::vector<BatchRows::Group> BatchRows::groups_of(const std::vector<size_t>& order) const {
    std::vector<Group> groups;
    for (size_t i = 0; i < order.size(); ++i) {
        if (i > 0 && have_same_key(order[i - 1], order[i])) {
            groups.back().last = i;
        } else {
            groups.push_back({i, i});
        }
    }
    return groups;
}

bool BatchRows::have_same_key(size_t row, size_t other) const {
    return !keys_[row].is_null && !keys_[other].is_null &&
           bytes_of(keys_[row]) == bytes_of(keys_[other]);
}

const BatchRows::Cell& BatchRows::merged_cell(const std::vector<size_t>& order, const Group& group,
                                              size_t field) const {
    for (size_t i = group.last; i > group.first; --i) {
        if (!cell(order[i], field).is_null) return cell(order[i], field);
    }
    return cell(order[group.first], field);
}

}  // namespace millrace
