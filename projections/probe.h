#pragma once

#include <string>
#include <vector>

#include "core/pg/session.h"
#include "projections/projection_file.h"

namespace millrace {

// The probe by difference (PROTOCOL 8.4): how events are cut into batches must not show. In a
// scratch schema with the file's tables and indexes, after one event of each type in turn, each
// ordered pair of types is applied once as one batch and once as two; both must leave the same
// rows. All of it is one transaction that is rolled back; its locks wait at most two seconds.
//
// Throws kFatal `projection_file` with file, line, pair and both results where they differ, and for
// any statement that PostgreSQL refuses for what it is. Returns, one line each, what a constraint
// or a value of the probe's made impossible to judge.
std::vector<std::string> probe_projection(pg::Session& session, const ProjectionFile& file);

}  // namespace millrace
