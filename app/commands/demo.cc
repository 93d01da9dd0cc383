#include "app/command.h"
#include "app/lifetime.h"

namespace millrace {

namespace {

// The rest drains and is proved after a stop, which takes seconds.
constexpr std::chrono::seconds kStopLimit{90};

int demo(const Arguments& arguments, const Config& config) {
    block_stop_signals();
    prepare_verb(config);
    return run_command(
        [&](std::stop_token stop) { return run_demo(config, arguments.demo, std::move(stop)); },
        kStopLimit);
}

}  // namespace

void add_demo(CLI::App& root, Choice& choice) {
    CLI::App* verb = add_verb(root,
                              {.name = "demo",
                               .summary = "a shop, live, for 20 seconds; then the proof",
                               .example = "millrace demo --config millrace.yaml --chaos"},
                              choice, demo);
    DemoOptions& options = choice.arguments.demo;
    verb->add_option_function<std::string>(
            "--duration",
            [&options](const std::string& text) {
                options.duration = std::chrono::milliseconds(parse_duration(text).value_or(0));
            },
            "how long the shop is open, such as 20s or 5m")
        ->check([](const std::string& text) {
            const bool is_good = parse_duration(text).value_or(0) >= 1000;
            return std::string(is_good ? "" : "wants a duration of at least 1s, such as 20s or 5m");
        });
    verb->add_flag("--keep", options.runs_until_stopped,
                   "until Ctrl-C, which closes the shop; the proof follows");
    verb->add_option("--rate", options.orders_per_second, "orders a second")
        ->check(CLI::Range(1, 100'000))
        ->capture_default_str();
    verb->add_flag("--chaos", options.has_chaos,
                   "two relays, two workers, one of them killed with -9 every two seconds; the "
                   "broker must allow group.min.session.timeout.ms of 1000");
}

}  // namespace millrace
