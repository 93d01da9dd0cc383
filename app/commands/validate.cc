#include <iostream>

#include "app/command.h"
#include "app/projection_host.h"

namespace millrace {

namespace {

int validate(const Arguments& /*arguments*/, const Config& config) {
    prepare_verb(config);
    const std::vector<ProjectionFile> files = configured_projections(config);
    if (files.empty() && config.boolean("projections.enabled")) {
        std::cout << config.path("projections.folder").string() << ": no .sql files\n";
    }
    for (const ProjectionFile& file : files) {
        for (const std::string& warning : file.warnings)
            std::cout << "warning: " << warning << "\n";
        std::cout << file.path << ": ok\n";
    }
    std::cout << (config.file() ? config.file()->string() : "the environment") << ": ok\n";
    return 0;
}

}  // namespace

void add_validate(CLI::App& root, Choice& choice) {
    add_verb(root,
             {.name = "validate",
              .summary = "check configuration and projections, without a network",
              .example = "millrace validate --config millrace.yaml"},
             choice, validate)
        ->group("Set up");
}

}  // namespace millrace
