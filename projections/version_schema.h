#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/pg/session.h"
#include "projections/projection_file.h"
#include "projections/sql_text.h"

namespace millrace {

// Makes `schema` with the tables and indexes of a file, inside the caller's transaction, and leaves
// the author's session settings for the rest of it. Each table statement must have made exactly one
// table there and no relation anywhere else. Throws kFatal `projection_file` with file and line for
// a statement of the author that PostgreSQL refuses, else what the failure is.
void make_version_schema(pg::Session& session, const ProjectionFile& file,
                         const std::string& schema);

// Runs one statement of an author; the error keeps its position.
std::optional<pg::ServerError> run_statement(pg::Session& session, const StatementSql& sql,
                                             const pg::Params& params = {});

// The author's mistake, with file and line; for an outage or a lock that was not free, that
// failure.
Failure failure_of_statement(const ProjectionFile& file, const Section& section,
                             const StatementSql& sql, const pg::ServerError& error);

bool schema_exists(pg::Session& session, const std::string& schema);
bool relation_exists(pg::Session& session, const std::string& schema, const std::string& name);

}  // namespace millrace
