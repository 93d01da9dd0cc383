#include <iostream>

#include "app/command.h"
#include "app/lifetime.h"
#include "core/log.h"

namespace millrace {

namespace {

// What was made is removed after a stop; a preload ends with its statement first.
constexpr std::chrono::seconds kStopLimit{60};

int bench(const Arguments& arguments, const Config& config) {
    block_stop_signals();
    prepare_verb(config);
    // Warnings are about its own scratch installation.
    set_up_log({.level = "error", .format = "text"});
    return run_command(
        [&](const std::stop_token& stop) {
            return run_bench(config, arguments.bench, arguments.as_json(), std::cout, stop);
        },
        kStopLimit);
}

}  // namespace

void add_bench(CLI::App& root, Choice& choice) {
    CLI::App* verb = add_verb(root,
                              {.name = "bench",
                               .summary = "measure it here, in a database and topics of its own",
                               .example = "millrace bench --config millrace.yaml drain latency"},
                              choice, bench);
    verb->group("Understand");
    add_output(*verb, choice);
    BenchOptions& options = choice.arguments.bench;
    verb->add_option("measures", options.measures,
                     "drain, latency, projection, end-to-end; none: all")
        ->check(CLI::IsMember(bench_measures()));
    verb->add_option("--tasks", options.task_count, "of a drain and of Kafka to read model")
        ->check(CLI::Range(1000, 100'000'000))
        ->capture_default_str();
    verb->add_option("--seconds", options.seconds, "of each open loop of 1,000 tasks a second")
        ->check(CLI::Range(1, 3600))
        ->capture_default_str();
    verb->add_option("--publishers", options.publishers, "relay.publishers of the worker")
        ->check(CLI::Range(1, 32))
        ->capture_default_str();
}

}  // namespace millrace
