#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "projections/meta.h"
#include "projections/projection_file.h"

namespace millrace {

// The relations an apply statement can read: every event; per key the last event; per key each
// column's last value that is not null, with the metas of the last event.
enum class Relation { kBatch, kLast, kMerged };
std::string_view name_of(Relation relation);

struct BatchField {
    std::string name;
    std::string sql_type;  // What the statement sees; a cast where the wire type differs.
    pg::Type wire;
    std::optional<Meta> meta;  // None: a column of the file.
};

// Which columns a batch's relations have: the file's own, then the metas its apply statements
// mention. Fixed for a projection.
struct BatchLayout {
    explicit BatchLayout(const ProjectionFile& file);

    std::vector<BatchField> fields;   // One cell of each row of BatchRows; without _count.
    bool has_count = false;           // batch_last and batch_merged get _count behind the fields.
    std::optional<size_t> key_field;  // None: the message key.
};

// The relations that a section mentions.
std::vector<Relation> relations_of(const Section& section);

}  // namespace millrace
