#pragma once

#include <string>
#include <vector>

#include "core/pg/session.h"

namespace millrace {

// What migrations this database has.
struct SchemaState {
    int version = 0;            // 0: none of ours.
    int oldest_compatible = 0;  // The oldest program that may run on it.
};

struct AppliedMigration {
    int version;
    std::string name;
    std::string applied_at;
};

constexpr std::string_view kMigrateHint = "run 'millrace migrate up'";

SchemaState schema_state(pg::Session& session);
std::vector<AppliedMigration> applied_migrations(pg::Session& session);
// The newest version this program knows.
int known_schema_version();

// Throws kFatal `schema_too_old` or `schema_too_new`, unless this program may run on the schema.
void require_schema(pg::Session& session);

// Applies what is missing, all in one transaction, which the caller opened and commits; waits for
// another migrator. Returns what it applied. `lane_count` counts for a new schema only.
std::vector<AppliedMigration> migrate(pg::Session& session, int lane_count);

}  // namespace millrace
