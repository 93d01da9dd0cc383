#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/pg/session.h"
#include "projections/projection_file.h"

namespace millrace {

// A version of a projection as the database knows it.
struct CatalogEntry {
    std::string name;
    int version = 0;
    std::string definition;
    std::string hash;
    std::string start_at;
    std::optional<std::string> halted_reason;  // Set: halted, for the whole fleet.
    std::string halted_at;                     // ISO 8601 with offset, empty if not halted.

    bool is_halted() const { return halted_reason.has_value(); }
};

// All SQL on millrace.projections. Each call runs on `session`, outside a transaction of the
// caller's except where said.

// By name, then version.
std::vector<CatalogEntry> list_projections(pg::Session& session);

struct HaltedProjection {
    std::string name;
    int version = 0;
    std::string reason;
};
// For those who look every second: none of the definitions is read.
std::vector<HaltedProjection> halted_projections(pg::Session& session);

struct Installed {
    bool is_new = false;
    std::vector<std::string> not_probed;  // What the probe gave no verdict on (PROTOCOL 8.4).
};

// What `migrate up` does for one file: probes it, then makes the version's schema, tables, indexes,
// views and the catalog's row in one transaction. Calling again changes nothing but makes views
// that are missing. Waits for another install of the database. Throws kFatal: `projection_file`
// (the author's SQL or the probe refused it), `definition_changed` (same version, other hash, or an
// older version), `needs_rebuild` (a higher version), `schema_taken`, `name_taken`.
Installed install_projection(pg::Session& session, const ProjectionFile& file,
                             const std::string& view_schema);

// What `run` checks before it serves: tables and views that are not there, as schema.name.
std::vector<std::string> missing_relations(pg::Session& session, const ProjectionFile& file,
                                           const std::string& view_schema);

// Halts a version for the fleet, over restarts too; the first reason stays. True if it was live.
bool halt_projection(pg::Session& session, std::string_view name, int version,
                     std::string_view reason);
// False if it was not halted or is not there. Joins the caller's transaction if one is open, so
// that the operator's act commits with it.
bool resume_projection(pg::Session& session, std::string_view name, int version);

// What a process does with each projection it has a file of or finds in the catalog.
enum class Serving {
    kServed,             // By the stored definition.
    kNeedsRebuild,       // The file's version is higher: the stored one is served.
    kDefinitionChanged,  // Same version, other hash, or older: not served by this process.
    kNotInstalled,       // `migrate up` has not seen the file.
    kOrphan,             // In the catalog without a file: listed, nothing dropped, not served.
};
std::string_view name_of(Serving serving);

struct ServedProjection {
    std::string name;
    Serving serving;
    std::optional<CatalogEntry> entry;   // None: not installed.
    std::optional<ProjectionFile> file;  // What to serve; set for kServed and kNeedsRebuild.
    std::optional<Failure> unreadable;   // Instead of it: why this program can't read it.
};

// By name. Pure: compares the folder's files with the catalog's newest version of each.
std::vector<ServedProjection> match_projections(const std::vector<ProjectionFile>& files,
                                                const std::vector<CatalogEntry>& entries);

}  // namespace millrace
