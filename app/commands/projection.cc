#include <iostream>

#include "app/command.h"
#include "app/table.h"
#include "projections/catalog.h"
#include "relay/operator.h"

namespace millrace {

namespace {

int list(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Connection connection(config);
    Table table({"projection", "version", "state", "since", "reason", "then"});
    for (const CatalogEntry& entry : list_projections(connection.session)) {
        Table::Cell since;
        Table::Cell then;
        if (entry.is_halted()) {
            since = entry.halted_at;
            then = "millrace projection resume " + entry.name;
        }
        table.add({entry.name, entry.version, entry.is_halted() ? "halted" : "live", since,
                   cell_of(entry.halted_reason), then});
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
    for (const CatalogEntry& entry : list_projections(session)) {
        if (entry.name == name) found = entry;
    }
    if (found) return *found;
    throw fatal("no_such_projection",
                "there is no projection '" + name + "': see 'millrace projection list'")
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
                          .summary = "every projection, and why one is halted",
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
