#pragma once

#include <string>
#include <vector>

#include "projections/batch_rows.h"

namespace millrace {

// An event of the probe: all are alike but for `_ord`, `_id`, `_offset` and type.
struct ProbeEvent {
    std::string type;
    bool is_tombstone = false;
    int number = 0;  // Gives offset and id.

    std::string name() const { return is_tombstone ? "a tombstone" : type; }
};

// What the probe makes pairs of: the file's types, else the string literals of its apply statements
// and a type that none of them is; a tombstone is one more if the file mentions `_deleted`.
std::vector<ProbeEvent> probe_events(const ProjectionFile& file);

// Adds the event with a value by its type in every column.
void add_probe_row(const ProbeEvent& event, const ProjectionFile& file, const BatchLayout& layout,
                   BatchRows& rows);

}  // namespace millrace
