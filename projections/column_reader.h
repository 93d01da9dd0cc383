#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "projections/batch_rows.h"
#include "projections/column_value.h"
#include "projections/json_walker.h"
#include "schema/event.h"

namespace millrace {

// Turns events into rows of a batch. A payload is read once from front to end for all columns; one
// that no column looks into need not be JSON. JSON's null counts as absent. Holds buffers: one per
// loop, not thread-safe.
class ColumnReader {
  public:
    ColumnReader(const ProjectionFile& file, const BatchLayout& layout);

    // Adds one row, or throws kPoison `unparsable_event`, whose detail is
    // `topic-partition@offset: path: why, column`, and leaves the rows as they were.
    void read(const Event& event, BatchRows& rows);

  private:
    struct Source {
        std::string name;
        ColumnType type;
        bool is_header;
        size_t path_index;   // Into the walker's paths, unless it is a header.
        std::string source;  // As the file writes it.
        bool is_required;
        bool has_default;
        std::string default_bytes;
    };

    void add_row(const Event& event, BatchRows& rows);
    void add_column(const Event& event, const Source& source, BatchRows& rows);
    void add_meta(const Event& event, Meta meta, BatchRows& rows);
    void add_payload(const Event& event, BatchRows& rows);

    std::vector<Source> sources_;
    std::vector<Meta> metas_;
    size_t payload_path_index_ = 0;
    bool reads_payload_ = false;
    JsonWalker walker_;
};

}  // namespace millrace
