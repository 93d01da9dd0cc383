#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/pg/result.h"
#include "projections/batch_layout.h"

namespace millrace {

// Where SQL is generated; identifiers are quoted here and nowhere else.

std::string quote_identifier(std::string_view name);

// An author's statement as it is sent.
struct StatementSql {
    std::string text;
    std::vector<unsigned> types;      // Of its parameters.
    std::vector<Relation> relations;  // In the order of their parameters.
    size_t author_begin = 0;    // The byte of `text` where the author's own text begins, and
    size_t author_skipped = 0;  // how many bytes of his statement stand before that.
};

// The statement of a table or index section: as it is.
StatementSql plain_sql(const Section& section);
// WITH batch AS (SELECT ... FROM unnest($1::text[], ...) AS b(...)) <statement>, for the relations
// that the statement mentions; its own WITH list is continued.
StatementSql apply_sql(const Section& section, const BatchLayout& layout);

// The file's line that an error of the server points at; the statement's first if it points
// nowhere.
int line_of_error(const Section& section, const StatementSql& sql, const pg::ServerError& error);

std::string create_schema_sql(std::string_view schema);
std::string create_view_sql(std::string_view view_schema, std::string_view schema,
                            std::string_view table);
std::string analyze_sql(std::string_view schema, std::string_view table);
// Each row of `table` as one text, in a fixed order.
std::string snapshot_sql(std::string_view table, const std::vector<std::string>& columns);

}  // namespace millrace
