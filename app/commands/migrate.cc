#include <iostream>

#include "app/command.h"
#include "app/options.h"
#include "core/log.h"

namespace millrace {

namespace {

int migrate_up(const Arguments& arguments, const Config& config) {
    set_up_log({.level = "warn"});
    check_options(config);
    kafka::Reaper reaper;
    for (const std::string& line : install(config, arguments.install, reaper)) {
        std::cout << line << "\n";
    }
    return 0;
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
}

}  // namespace millrace
