#include <iostream>

#include "app/command.h"
#include "app/options.h"
#include "app/table.h"
#include "schema/migrations.h"
#include "schema/migrator.h"

namespace millrace {

namespace {

int migrate_up(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    kafka::Reaper reaper;
    const Installing made = install(config, arguments.install, reaper);
    for (const std::string& line : made.done) std::cout << line << "\n";
    std::cout.flush();
    for (const Failure& refused : made.refused) {
        std::cerr << "millrace: " << refused.what() << "\n";
    }
    return made.refused.empty() ? 0 : made.refused.front().exit_code();
}

// Found wrong as long as something is left for `migrate up`.
int migrate_status(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    pg::Session session(session_options(config));
    const std::vector<AppliedMigration> applied = applied_migrations(session);
    Table table({"version", "name", "applied_at"});
    for (const AppliedMigration& migration : applied) {
        table.add({migration.version, migration.name, migration.applied_at});
    }
    bool is_missing = applied.empty() || !find_installation(session);
    const int newest = applied.empty() ? 0 : applied.back().version;
    for (const Migration& migration : migrations()) {
        if (migration.version <= newest) continue;
        table.add({migration.version, std::string(migration.name), nullptr});
        is_missing = true;
    }
    if (arguments.as_json()) {
        print_json(std::cout, table.as_json());
    } else {
        table.print(std::cout);
        if (is_missing) std::cout << "\nnot up to date: " << kMigrateHint << "\n";
    }
    return is_missing ? kExitFoundWrong : 0;
}

}  // namespace

void add_migrate(CLI::App& root, Choice& choice) {
    CLI::App* noun =
        add_noun(root, "Set up", "migrate", "create or update tables and the ledger topic");
    CLI::App* up = add_verb(*noun,
                            {.name = "up",
                             .summary = "make what is missing; can be repeated",
                             .example = "millrace migrate up --config millrace.yaml --name shop"},
                            choice, migrate_up);
    InstallOptions& install = choice.arguments.install;
    up->add_option("--name", install.name, "of the installation; default: the database's");
    up->add_option("--lanes", install.lane_count, "shares of the key space; fixed for good (12)")
        ->check(CLI::Range(1, 64));
    up->add_option("--order", "what is kept in order: key")->check(CLI::IsMember({"key"}));
    up->add_flag("--moved", install.moved, "the database was moved here, its original is gone");
    add_output(*add_verb(*noun,
                         {.name = "status",
                          .summary = "what has been applied; exit code 3 if something is missing",
                          .example = "millrace migrate status --config millrace.yaml"},
                         choice, migrate_status),
               choice);
}

}  // namespace millrace
