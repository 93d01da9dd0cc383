#include <iostream>

#include "app/command.h"
#include "app/options.h"
#include "app/table.h"

namespace millrace {

namespace {

int config_show(const Arguments& arguments, const Config& config) {
    prepare_verb(config);
    Table table({"key", "value", "origin"});
    for (const ConfigEntry& entry : config.entries()) {
        table.add({entry.name, entry.shown, entry.origin});
    }
    const Footprint most = footprint(config);
    if (arguments.as_json()) {
        print_json(std::cout, {{"keys", table.as_json()},
                               {"sessions_max", most.session_count},
                               {"threads_max", most.thread_count},
                               {"kafka_clients_max", most.client_count}});
        return 0;
    }
    table.print(std::cout);
    std::cout << "\n'millrace run' takes at most " << most.session_count
              << " PostgreSQL sessions, " << most.thread_count << " threads, and "
              << most.client_count
              << " Kafka clients, each with a thread of its own and one for each broker.\n";
    return 0;
}

}  // namespace

void add_config(CLI::App& root, Choice& choice) {
    CLI::App* noun =
        add_noun(root, "Understand", "config", "effective values and where each comes from");
    add_output(*add_verb(*noun,
                         {.name = "show",
                          .summary = "every key, its value without secrets, and its origin",
                          .example = "millrace config show --config millrace.yaml"},
                         choice, config_show),
               choice);
}

}  // namespace millrace
