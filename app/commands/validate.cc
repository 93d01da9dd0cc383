#include <iostream>

#include "app/command.h"

namespace millrace {

namespace {

int validate(const Arguments& /*arguments*/, const Config& config) {
    prepare_verb(config);
    std::cout << (config.file() ? config.file()->string() : "the environment") << ": ok\n";
    return 0;
}

}  // namespace

void add_validate(CLI::App& root, Choice& choice) {
    add_verb(root,
             {.name = "validate",
              .summary = "check configuration, without a network",
              .example = "millrace validate --config millrace.yaml"},
             choice, validate)
        ->group("Set up");
}

}  // namespace millrace
