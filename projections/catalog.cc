#include "projections/catalog.h"

#include <map>

#include "core/check.h"
#include "projections/probe.h"
#include "projections/sql_text.h"
#include "projections/version_schema.h"

namespace millrace {

namespace {

constexpr std::string_view kList =
    "SELECT name, version, definition, hash, start_at, halted_reason,\n"
    "       to_char(halted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')\n"
    "FROM millrace.projections\n"
    "ORDER BY name, version";

constexpr std::string_view kHalted =
    "SELECT name, version, halted_reason FROM millrace.projections\n"
    "WHERE state = 'halted' ORDER BY name, version";

constexpr std::string_view kInsert =
    "INSERT INTO millrace.projections (name, version, definition, hash, start_at)\n"
    "VALUES ($1, $2, $3, $4, $5)";

// The same definition, otherwise written: its lines, comments, and what is masked.
constexpr std::string_view kRewrite =
    "UPDATE millrace.projections SET definition = $3 WHERE name = $1 AND version = $2";

constexpr std::string_view kHalt =
    "UPDATE millrace.projections\n"
    "SET state = 'halted', halted_reason = $3, halted_at = clock_timestamp()\n"
    "WHERE name = $1\n"
    "  AND version = $2\n"
    "  AND state = 'live'";

constexpr std::string_view kResume =
    "UPDATE millrace.projections\n"
    "SET state = 'live', halted_reason = NULL, halted_at = NULL\n"
    "WHERE name = $1\n"
    "  AND version = $2\n"
    "  AND state = 'halted'";

// One install at a time: two would meet each other's schemas half made.
constexpr std::string_view kLockInstall =
    "SELECT pg_advisory_xact_lock(hashtextextended('millrace.projections', 0))";

// A view of ours rests on the table it is named after.
constexpr std::string_view kViewRestsOn =
    "SELECT count(*)\n"
    "FROM pg_class AS v\n"
    "JOIN pg_namespace AS vn ON vn.oid = v.relnamespace\n"
    "JOIN pg_rewrite AS r ON r.ev_class = v.oid\n"
    "JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid\n"
    "JOIN pg_class AS t ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid\n"
    "JOIN pg_namespace AS tn ON tn.oid = t.relnamespace\n"
    "WHERE v.relkind = 'v'\n"
    "  AND vn.nspname = $1\n"
    "  AND v.relname = $2\n"
    "  AND tn.nspname = $3\n"
    "  AND t.relname = $2";

pg::Params name_and_version(std::string_view name, int version) {
    return pg::Params().text(name).int4(version);
}

std::vector<CatalogEntry> entries_of(const pg::Result& rows) {
    std::vector<CatalogEntry> entries;
    for (int row = 0; row < rows.row_count(); ++row) {
        CatalogEntry entry;
        entry.name = rows.text(row, 0);
        entry.version = static_cast<int>(rows.integer(row, 1));
        entry.definition = rows.text(row, 2);
        entry.hash = rows.text(row, 3);
        entry.start_at = rows.text(row, 4);
        entry.halted_reason = rows.optional_text(row, 5);
        entry.halted_at = rows.optional_text(row, 6).value_or("");
        entries.push_back(std::move(entry));
    }
    return entries;
}

const CatalogEntry* newest_of(const std::vector<CatalogEntry>& entries, std::string_view name) {
    const CatalogEntry* newest = nullptr;
    for (const CatalogEntry& entry : entries) {
        if (entry.name == name) newest = &entry;  // Sorted by version.
    }
    return newest;
}

Serving serving_of(const ProjectionFile& file, const CatalogEntry* entry) {
    if (entry == nullptr) return Serving::kNotInstalled;
    if (file.version > entry->version) return Serving::kNeedsRebuild;
    if (file.version < entry->version) return Serving::kDefinitionChanged;
    return definition_hash(file) == entry->hash ? Serving::kServed : Serving::kDefinitionChanged;
}

// True if the file is installed already; throws if it must not be.
bool is_installed(const ProjectionFile& file, const CatalogEntry* entry) {
    const auto stored = [&] { return "version " + std::to_string(entry->version); };
    switch (serving_of(file, entry)) {
        case Serving::kNotInstalled: return false;
        case Serving::kServed: return true;
        case Serving::kNeedsRebuild:
            throw misconfigured("needs_rebuild", file.at(1) + "version " +
                                                     std::to_string(file.version) +
                                                     " needs rebuild; " + stored() +
                                                     " goes on being served: put its file back, or "
                                                     "give the new one another name");
        case Serving::kDefinitionChanged:
            throw misconfigured("definition_changed",
                                file.at(1) + "the database has another definition as " + stored() +
                                    ": put the old file back, or give the changed one another "
                                    "name");
        case Serving::kOrphan: break;
    }
    MILLRACE_CHECK(false, "a file is no orphan");
}

void make_view(pg::Session& session, const ProjectionFile& file, const Section& section,
               const std::string& view_schema) {
    const std::string& table = section.table;
    if (relation_exists(session, view_schema, table)) {
        const auto ours = session.execute(kViewRestsOn, pg::Params()
                                                            .text(std::string_view(view_schema))
                                                            .text(std::string_view(table))
                                                            .text(std::string_view(file.schema())));
        if (ours.integer(0, 0) > 0) return;
        throw misconfigured("name_taken", file.at(section.line) + "the name " + view_schema + "." +
                                              table + " is taken; name the table otherwise, or "
                                              "choose another projections.view_schema");
    }
    session.execute(create_view_sql(view_schema, file.schema(), table));
}

void make_views(pg::Session& session, const ProjectionFile& file, const std::string& view_schema) {
    if (!schema_exists(session, view_schema)) session.execute(create_schema_sql(view_schema));
    for (const Section* section : file.sections_of(SectionKind::kTable)) {
        make_view(session, file, *section, view_schema);
    }
}

void make_version(pg::Session& session, const ProjectionFile& file) {
    if (schema_exists(session, file.schema())) {
        throw misconfigured("schema_taken", file.at(1) + "schema " + file.schema() +
                                                " exists and was not made by millrace");
    }
    make_version_schema(session, file, file.schema());
    session.execute(kInsert, name_and_version(file.name, file.version)
                                 .text(std::string_view(file.text))
                                 .text(std::string_view(definition_hash(file)))
                                 .text(std::string_view(file.start.text)));
}

// What is masked counts at once, and lines in errors are the file's. Not where it begins: it has.
void rewrite(pg::Session& session, const ProjectionFile& file, const CatalogEntry& entry) {
    if (entry.definition == file.text || entry.start_at != file.start.text) return;
    session.execute(kRewrite, name_and_version(file.name, file.version)
                                  .text(std::string_view(file.text)));
}

ProjectionFile stored_file(const CatalogEntry& entry) {
    ProjectionFile file = parse_projection(entry.name + ".sql", entry.definition);
    MILLRACE_CHECK(file.version == entry.version, "the catalog holds what it was given");
    return file;
}

}  // namespace

std::vector<CatalogEntry> list_projections(pg::Session& session) {
    return entries_of(session.execute(kList));
}

std::vector<HaltedProjection> halted_projections(pg::Session& session) {
    const pg::Result rows = session.execute_repeated(kHalted);
    std::vector<HaltedProjection> halted;
    for (int row = 0; row < rows.row_count(); ++row) {
        halted.push_back({rows.text(row, 0), static_cast<int>(rows.integer(row, 1)),
                          rows.text(row, 2)});
    }
    return halted;
}

Installed install_projection(pg::Session& session, const ProjectionFile& file,
                             const std::string& view_schema) {
    Installed installed;
    const auto seen = list_projections(session);
    if (!is_installed(file, newest_of(seen, file.name))) {
        installed.not_probed = probe_projection(session, file);
    }
    pg::Transaction transaction(session);
    transaction.execute(kLockInstall);
    // Another install may have been first.
    const auto entries = list_projections(session);
    installed.is_new = !is_installed(file, newest_of(entries, file.name));
    if (installed.is_new) {
        make_version(session, file);
    } else {
        rewrite(session, file, *newest_of(entries, file.name));
    }
    make_views(session, file, view_schema);
    transaction.commit();
    return installed;
}

std::vector<std::string> missing_relations(pg::Session& session, const ProjectionFile& file,
                                           const std::string& view_schema) {
    std::vector<std::string> missing;
    for (const Section* section : file.sections_of(SectionKind::kTable)) {
        for (const std::string& schema : {file.schema(), view_schema}) {
            if (relation_exists(session, schema, section->table)) continue;
            missing.push_back(schema + "." + section->table);
        }
    }
    return missing;
}

bool halt_projection(pg::Session& session, std::string_view name, int version,
                     std::string_view reason) {
    const auto done = session.execute(kHalt, name_and_version(name, version).text(reason));
    return done.affected_count() == 1;
}

bool resume_projection(pg::Session& session, std::string_view name, int version) {
    return session.execute(kResume, name_and_version(name, version)).affected_count() == 1;
}

std::string_view name_of(Serving serving) {
    switch (serving) {
        case Serving::kServed: return "served";
        case Serving::kNeedsRebuild: return "needs_rebuild";
        case Serving::kDefinitionChanged: return "definition_changed";
        case Serving::kNotInstalled: return "not_installed";
        case Serving::kOrphan: return "orphan";
    }
    MILLRACE_CHECK(false, "every serving has a name");
}

std::vector<ServedProjection> match_projections(const std::vector<ProjectionFile>& files,
                                                const std::vector<CatalogEntry>& entries) {
    std::map<std::string, ServedProjection> by_name;
    for (const CatalogEntry& entry : entries) {
        by_name[entry.name] = {entry.name, Serving::kOrphan, entry, std::nullopt, std::nullopt};
    }
    for (const ProjectionFile& file : files) {
        const CatalogEntry* entry = newest_of(entries, file.name);
        ServedProjection& served = by_name[file.name];
        served.name = file.name;
        served.serving = serving_of(file, entry);
        if (served.serving == Serving::kServed || served.serving == Serving::kNeedsRebuild) {
            try {
                served.file = stored_file(*entry);
            } catch (const Failure& failure) {
                served.unreadable = failure;
            }
        }
    }
    std::vector<ServedProjection> all;
    for (auto& [name, served] : by_name) all.push_back(std::move(served));
    return all;
}

}  // namespace millrace
