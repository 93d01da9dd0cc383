// Measures the pipeline under load, with textbook baselines beside it. See bench/README.md.

#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <optional>
#include <regex>

#include "app/bench/drain.h"
#include "app/bench/latency.h"
#include "app/lifetime.h"
#include "app/options.h"
#include "bench/load/cases.h"
#include "bench/load/textbook_consumer.h"
#include "bench/load/textbook_relay.h"
#include "core/failure.h"
#include "core/log.h"

namespace millrace::bench {

namespace {

constexpr std::chrono::seconds kStopLimit{60};
constexpr std::chrono::seconds kWarmUp{40};

struct Options {
    std::vector<std::string> cases;
    CaseOptions of_cases;
    std::string results;
    pid_t broker = 0;
    bool is_warm = false;
};

std::string first_match(const std::string& path, const std::string& expression) {
    std::ifstream file(path);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    std::smatch found;
    return std::regex_search(text, found, std::regex(expression)) ? found[1].str() : "unknown";
}

std::string machine(const Config& config) {
    utsname system{};
    uname(&system);
    pg::Session session(session_options(config));
    return std::to_string(sysconf(_SC_NPROCESSORS_ONLN)) + " cores " +
           first_match("/proc/cpuinfo", "model name\\s*: ([^\\n]*)") + ", " +
           std::to_string(std::stoll(first_match("/proc/meminfo", "MemTotal:\\s*([0-9]+)")) /
                          1048576) +
           " GiB, Linux " + system.release + ", PostgreSQL " +
           session.execute("SHOW server_version").text(0, 0) + " (fsync " +
           session.execute("SHOW fsync").text(0, 0) + "), librdkafka " + rd_kafka_version_str();
}

// Prints rows as they come, and appends them to the two files of results.
class Results {
  public:
    explicit Results(std::string path) : path_(std::move(path)) {}

    void begin(const std::string& headline) {
        std::cout << headline << "\n" << std::endl;
        append(".md", "\n" + headline + "\n\n");
    }

    void add(const BenchRow& row) {
        // Only the first row of a kind brings its table's head.
        const std::string table = markdown_of({row});
        const size_t head_size = table.find("\n| " + row.measure) + 1;
        const std::string head = table.substr(0, head_size);
        const std::string text = head == head_ ? table.substr(head_size) : "\n" + table;
        head_ = head;
        std::cout << text << std::flush;
        append(".md", text);
        append(".jsonl", json_of(row).dump() + "\n");
    }

  private:
    void append(const std::string& ending, const std::string& text) const {
        if (!path_.empty()) std::ofstream(path_ + ending, std::ios::app) << text;
    }

    const std::string path_;
    std::string head_;
};

// A broker whose compiler has seen nothing yet takes twice the time for everything; large and many
// small transactions are different code.
void warm_up(const BenchGround& ground) {
    say("warming the broker up");
    for (int i = 0; i < 3; ++i) measure_drain(ground, 300'000, {{"relay.publishers", "2"}});
    measure_latency(ground, {.duration = kWarmUp});
}

void run(const Options& options, const Config& config, const std::stop_token& stop) {
    const BenchGround ground{
        .config = config, .stop = stop, .broker = options.broker, .program = MILLRACE_BINARY};
    Results results(options.results);
    results.begin(machine(config));
    if (!options.is_warm) warm_up(ground);
    for (const Case& one : all_cases()) {
        if (std::find(options.cases.begin(), options.cases.end(), one.name) ==
            options.cases.end()) {
            continue;
        }
        say(one.name + ": " + one.summary);
        one.run(ground, options.of_cases, [&results](const BenchRow& row) { results.add(row); });
    }
}

int run_as_textbook_relay(char** argv) {
    TextbookRelayOptions options;
    options.session.url = argv[2];
    options.kafka.brokers = argv[3];
    options.topic = argv[4];
    options.partition_count = std::stoi(argv[5]);
    run_textbook_relay(options);
    return 0;
}

int run_as_textbook_consumer(char** argv) {
    TextbookConsumerOptions options;
    options.session.url = argv[2];
    options.kafka.brokers = argv[3];
    options.topic = argv[4];
    run_textbook_consumer(options);
    return 0;
}

void read(CLI::App& root, Options& options) {
    std::vector<std::string> names;
    std::string list;
    for (const Case& one : all_cases()) {
        names.push_back(one.name);
        list += "  " + one.name + std::string(12 - std::min<size_t>(one.name.size(), 11), ' ') +
                one.summary + "\n";
    }
    root.footer("Cases:\n" + list +
                "Servers come from MILLRACE_POSTGRES_URL and MILLRACE_KAFKA_BROKERS.\n"
                "Example: deploy/dev bench drain latency --rounds 1");
    root.add_option("cases", options.cases, "which cases; none: all")->check(CLI::IsMember(names));
    root.add_option("--rounds", options.of_cases.round_count, "of each measurement");
    root.add_option("--tasks", options.of_cases.task_count, "of a drain");
    root.add_option("--seconds", options.of_cases.seconds, "of an open loop");
    root.add_option("--hold", options.of_cases.hold_seconds,
                    "seconds for which a snapshot or a writer stays open");
    root.add_option("--repeats", options.of_cases.repeat_count, "of each take-over");
    root.add_option("--results", options.results, "path to which .md and .jsonl are appended");
    root.add_option("--broker-pid", options.broker, "of a broker on this machine, for its CPU")
        ->envname("MILLRACE_TEST_BROKER_PID");
    root.add_flag("--warm", options.is_warm, "the broker is warm already");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 6 && std::string_view(argv[1]) == "textbook-relay") {
        return run_as_textbook_relay(argv);
    }
    if (argc == 5 && std::string_view(argv[1]) == "textbook-consumer") {
        return run_as_textbook_consumer(argv);
    }
    CLI::App root("Measures the pipeline under load, with textbook baselines beside it.");
    Options options;
    read(root, options);
    CLI11_PARSE(root, argc, argv);
    if (options.cases.empty()) {
        for (const Case& one : all_cases()) options.cases.push_back(one.name);
    }
    block_stop_signals();
    set_up_log({.level = "error", .format = "text"});
    try {
        return run_command(
            [&options](const std::stop_token& stop) {
                try {
                    run(options, Config::load(std::nullopt, read_environment()), stop);
                } catch (const Stopped&) {
                    return kExitFailed;
                }
                return 0;
            },
            kStopLimit);
    } catch (const Failure& failure) {
        std::cerr << failure.reason() << ": " << failure.detail() << "\n";
        return kExitFailed;
    }
}

const std::vector<Case>& all_cases() {
    static const std::vector<Case> cases{
        {"drain", "a full outbox, by 1, 2 and 3 publishers and by the textbook relay", run_drain},
        {"latency", "commit to visible for a read_committed reader", run_latency},
        {"projection", "Kafka to read model, beside the textbook consumer", run_projection},
        {"poison", "the same with poisoned events among them, and their re-drive", run_poison},
        {"chain", "insert to read model: latency, and 60,000/s sustained", run_chain},
        {"idle", "no traffic, then a lone task every 0.5 s", run_idle},
        {"relay-takeover", "kill -9, SIGTERM, SIGSTOP of a relay", run_relay_takeover},
        {"worker-takeover", "kill -9, SIGTERM, SIGSTOP of a worker", run_worker_takeover},
        {"held", "behind a held snapshot, and behind an open writer", run_held},
    };
    return cases;
}

}  // namespace millrace::bench

int main(int argc, char** argv) {
    return millrace::bench::main(argc, argv);
}
