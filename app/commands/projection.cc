#include <iostream>

#include "app/command.h"
#include "app/projection_host.h"
#include "app/table.h"
#include "core/nearest_name.h"
#include "projections/catalog.h"
#include "relay/operator.h"

namespace millrace {

namespace {

// Where a projection stands, for readers and for us (migration 0003).
constexpr std::string_view kProgress = R"(
    SELECT count(*), max(applied_at)::text
    FROM millrace.projection_lag
    WHERE projection = $1 AND version = $2)";

struct State {
    std::string name;
    Table::Cell reason;
    Table::Cell then;
};

// What the catalog says of it, then what the folder of this configuration does.
State state_of(const ServedProjection& found, const Config& config, pg::Session& session) {
    if (found.entry && found.entry->is_halted()) {
        return {"halted", cell_of(found.entry->halted_reason),
                "millrace projection resume " + found.name};
    }
    // Without a folder there is nothing to compare with.
    if (!config.boolean("projections.enabled")) return {"live", nullptr, nullptr};
    if (found.serving == Serving::kNotInstalled) {
        return {"not_installed", nullptr, "millrace migrate up"};
    }
    if (!found.file) return {std::string(name_of(found.serving)), nullptr, nullptr};
    std::string missing;
    for (const std::string& name :
         missing_relations(session, *found.file, config.text("projections.view_schema"))) {
        missing += (missing.empty() ? "it lacks " : ", ") + name;
    }
    if (!missing.empty()) return {"projection_incomplete", missing, "millrace migrate up"};
    if (found.serving == Serving::kServed) return {"live", nullptr, nullptr};
    return {std::string(name_of(found.serving)), nullptr, nullptr};
}

int list(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    pg::Session& session = connection.session;
    Table table(
        {"projection", "version", "state", "partitions", "applied_at", "since", "reason", "then"});
    for (const ServedProjection& found :
         match_projections(configured_projections(config), list_projections(session))) {
        const State state = state_of(found, config, session);
        if (!found.entry) {
            table.add({found.name, nullptr, state.name, 0, nullptr, nullptr, state.reason,
                       state.then});
            continue;
        }
        const CatalogEntry& entry = *found.entry;
        const pg::Result progress =
            session.execute(kProgress, pg::Params().text(entry.name).int4(entry.version));
        Table::Cell since;
        if (entry.is_halted()) since = entry.halted_at;
        table.add({entry.name, entry.version, state.name, progress.integer(0, 0),
                   cell_of(progress.optional_text(0, 1)), since, state.reason, state.then});
    }
    if (arguments.as_json()) {
        print_json(std::cout, table.as_json());
    } else {
        table.print(std::cout);
    }
    return 0;
}

// The newest version of that name.
CatalogEntry named(pg::Session& session, const std::string& name) {
    std::optional<CatalogEntry> found;
    const std::vector<CatalogEntry> entries = list_projections(session);
    std::vector<std::string_view> known;
    for (const CatalogEntry& entry : entries) {
        known.push_back(entry.name);
        if (entry.name == name) found = entry;
    }
    if (found) return *found;
    throw fatal("no_such_projection", "there is no projection '" + name + "'" +
                                          suggestion_for(name, known))
        .with_exit_code(kExitUsage);
}

int resume(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    const CatalogEntry entry = named(connection.session, arguments.projection);
    pg::Transaction transaction(connection.session);
    if (!resume_projection(connection.session, entry.name, entry.version)) {
        std::cout << "projection " << entry.name << " was not halted\n";
        return 0;
    }
    Operator(connection.session)
        .record_act("projection resume", entry.name + " version " + std::to_string(entry.version),
                    arguments.reason);
    transaction.commit();
    std::cout << "projection " << entry.name
              << " is live again; workers try within a second, and halt it again if its cause was "
                 "not mended\n";
    return 0;
}

}  // namespace

void add_projection(CLI::App& root, Choice& choice) {
    CLI::App* noun =
        add_noun(root, "Operate", "projection", "which there are; try a halted one again");
    add_output(*add_verb(*noun,
                         {.name = "list",
                          .summary = "every projection, its state, how far it is",
                          .example = "millrace projection list --config millrace.yaml"},
                         choice, list),
               choice);
    CLI::App* verb = add_verb(*noun,
                              {.name = "resume",
                               .summary = "try a halted projection again, its cause being mended",
                               .example = "millrace projection resume orders"},
                              choice, resume);
    verb->add_option("NAME", choice.arguments.projection, "of the projection")->required();
    add_reason(*verb, choice);
}

}  // namespace millrace
