#include "projections/batch_layout.h"

#include "core/check.h"

namespace millrace {

std::string_view name_of(Relation relation) {
    switch (relation) {
        case Relation::kBatch: return "batch";
        case Relation::kLast: return "batch_last";
        case Relation::kMerged: return "batch_merged";
    }
    MILLRACE_CHECK(false, "every relation has a name");
}

BatchLayout::BatchLayout(const ProjectionFile& file) {
    for (const Column& column : file.columns) {
        if (column.name == file.key) key_field = fields.size();
        fields.push_back({column.name, std::string(name_of(column.type)), wire_type(column.type),
                          std::nullopt});
    }
    for (const MetaColumn& column : meta_columns()) {
        if (!file.mentions(column.name)) continue;
        if (column.meta == Meta::kCount) {
            has_count = true;
            continue;
        }
        fields.push_back({std::string(column.name), std::string(column.sql_type), column.wire,
                          column.meta});
    }
    // A relation needs a column even if the statement only counts its rows.
    if (!fields.empty()) return;
    const MetaColumn& ordinal = column_of(Meta::kOrd);
    fields.push_back(
        {std::string(ordinal.name), std::string(ordinal.sql_type), ordinal.wire, ordinal.meta});
}

std::vector<Relation> relations_of(const Section& section) {
    std::vector<Relation> relations;
    for (const Relation relation : {Relation::kBatch, Relation::kLast, Relation::kMerged}) {
        if (section.mentions(name_of(relation))) relations.push_back(relation);
    }
    return relations;
}

}  // namespace millrace
