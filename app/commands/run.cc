#include "app/command.h"
#include "app/lifetime.h"
#include "app/options.h"
#include "app/worker.h"
#include "core/log.h"

namespace millrace {

namespace {

int run(const Arguments& arguments, const Config& config) {
    block_stop_signals();
    const std::string instance = instance_name();
    set_up_log(log_options(config, instance));
    check_options(config);
    for (const std::string& warning : config.warnings()) log(LogLevel::kWarn, "app", warning);

    Lifetime lifetime;
    return lifetime.run(
        [&](std::stop_token stop) {
            // Made and destroyed in here, so that its end counts against the time to stop, too.
            Worker worker(config, instance, arguments.migrate_first, lifetime);
            worker.run(std::move(stop));
        },
        config.duration("shutdown_timeout"));
}

}  // namespace

void add_run(CLI::App& root, Choice& choice) {
    CLI::App* verb = add_verb(root,
                              {.name = "run",
                               .summary = "the worker: runs until SIGTERM",
                               .example = "millrace run --config millrace.yaml --migrate"},
                              choice, run);
    verb->add_flag("--migrate", choice.arguments.migrate_first, "run 'migrate up' first");
}

}  // namespace millrace
