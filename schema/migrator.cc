#include "schema/migrator.h"

#include "schema/migrations.h"

namespace millrace {

namespace {

// Any two migrators of a database meet on this number: "millrace" in ASCII.
constexpr std::string_view kLock = "SELECT pg_advisory_xact_lock(7883964225434248037)";

constexpr std::string_view kMakeSchema = R"(
    CREATE SCHEMA IF NOT EXISTS millrace)";
constexpr std::string_view kMakeHistoryTable = R"(
    CREATE TABLE IF NOT EXISTS millrace.schema_migrations (
        version           integer PRIMARY KEY,
        name              text NOT NULL,
        oldest_compatible integer NOT NULL,
        applied_at        timestamptz NOT NULL DEFAULT clock_timestamp()
    ))";
constexpr std::string_view kHasHistory =
    "SELECT to_regclass('millrace.schema_migrations') IS NOT NULL";
constexpr std::string_view kState = R"(
    SELECT coalesce(max(version), 0), coalesce(max(oldest_compatible), 0)
    FROM millrace.schema_migrations)";
constexpr std::string_view kApplied = R"(
    SELECT version, name, applied_at::text FROM millrace.schema_migrations ORDER BY version)";
constexpr std::string_view kNote = R"(
    INSERT INTO millrace.schema_migrations (version, name, oldest_compatible)
    VALUES ($1, $2, $3))";

// A program older than this can't run on the newest schema: it knows nothing of what was set aside,
// and would publish or apply a key's later events ahead of it.
constexpr int kOldestCompatible = 9;

}  // namespace

SchemaState schema_state(pg::Session& session) {
    if (!session.execute(kHasHistory).boolean(0, 0)) return {};
    const pg::Result row = session.execute(kState);
    return {static_cast<int>(row.integer(0, 0)), static_cast<int>(row.integer(0, 1))};
}

std::vector<AppliedMigration> applied_migrations(pg::Session& session) {
    std::vector<AppliedMigration> applied;
    if (!session.execute(kHasHistory).boolean(0, 0)) return applied;
    const pg::Result rows = session.execute(kApplied);
    for (int i = 0; i < rows.row_count(); ++i) {
        applied.push_back(
            {static_cast<int>(rows.integer(i, 0)), rows.text(i, 1), rows.text(i, 2)});
    }
    return applied;
}

int known_schema_version() { return migrations().back().version; }

void require_schema(pg::Session& session) {
    const SchemaState state = schema_state(session);
    const std::string ours = std::to_string(known_schema_version());
    if (state.version < known_schema_version()) {
        throw misconfigured("schema_too_old",
                            "the database's schema is at version " +
                                std::to_string(state.version) + ", this program needs " + ours +
                                ": " + std::string(kMigrateHint));
    }
    if (state.version > known_schema_version() &&
        state.oldest_compatible > known_schema_version()) {
        throw misconfigured("schema_too_new",
                            "the database's schema is at version " +
                                std::to_string(state.version) + ", this program knows " + ours +
                                ": run a newer millrace");
    }
}

std::vector<AppliedMigration> migrate(pg::Session& session, int lane_count) {
    session.execute(kLock);
    session.execute("SELECT set_config('millrace.lane_count', $1, true)",
                    pg::Params().text(std::to_string(lane_count)));
    session.execute(kMakeSchema);
    session.execute(kMakeHistoryTable);
    const int version = schema_state(session).version;

    std::vector<AppliedMigration> applied;
    for (const Migration& migration : migrations()) {
        if (migration.version <= version) continue;
        session.run_script(std::string(migration.sql));
        session.execute(kNote, pg::Params()
                                   .int4(migration.version)
                                   .text(migration.name)
                                   .int4(kOldestCompatible));
        applied.push_back({migration.version, std::string(migration.name), ""});
    }
    return applied;
}

}  // namespace millrace
