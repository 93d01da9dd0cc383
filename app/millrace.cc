#include "app/millrace.h"

#include <sys/resource.h>

#include <iostream>

#include "app/command.h"
#include "app/options.h"
#include "core/crash_point.h"
#include "core/failure.h"
#include "core/log.h"
#include "core/nearest_name.h"

namespace millrace {

namespace {

constexpr const char* kIntroduction =
    "millrace publishes a PostgreSQL outbox to Kafka exactly once.\n"
    "\n"
    "  millrace demo                      a shop, live, for 20 seconds\n"
    "  millrace run --config FILE         the worker\n";

constexpr const char* kEnd =
    "\n"
    "Every command: --config FILE, --help with an example; --output table|json where it lists.\n"
    "Exit: 0 ok, 1 failed, 2 usage, 3 checked and found wrong, 69 server down, 78 configuration.\n";

constexpr size_t kSectionWidth = 14;
constexpr size_t kWordWidth = 12;

// The help of the program by sections; that of a verb as CLI11 has it.
class Help : public CLI::Formatter {
  public:
    std::string make_help(const CLI::App* app, std::string name,
                          CLI::AppFormatMode mode) const override {
        if (app->get_parent() != nullptr) return Formatter::make_help(app, std::move(name), mode);
        std::string text = kIntroduction;
        for (const std::string section : {"Set up", "Operate", "Understand"}) {
            std::string title = section;
            for (const CLI::App* word : app->get_subcommands([&section](const CLI::App* candidate) {
                     return candidate->get_group() == section;
                 })) {
                text += title == section ? "\n" : "";
                text += padded(title, kSectionWidth) + padded(word->get_name(), kWordWidth) +
                        word->get_description() + "\n";
                title.clear();
            }
        }
        return text + kEnd;
    }

  private:
    static std::string padded(std::string text, size_t width) {
        text.resize(std::max(width, text.size()), ' ');
        return text;
    }
};

// Each Kafka client has connections to all brokers and pipes to its threads, and a resume has one
// for each publisher: more than the usual soft limit of 1,024.
void raise_file_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

void build(CLI::App& root, Choice& choice) {
    root.formatter(std::make_shared<Help>());
    root.set_version_flag("--version", "millrace " MILLRACE_VERSION);
    root.require_subcommand(1);
    root.name("millrace");
    add_demo(root, choice);
    add_run(root, choice);
    add_migrate(root, choice);
    add_validate(root, choice);
    add_outbox(root, choice);
    add_projection(root, choice);
    add_dlq(root, choice);
    add_lanes(root, choice);
    add_ledger(root, choice);
    add_bench(root, choice);
    add_config(root, choice);
}

// A server that does not answer is told from a failure of the verb itself.
int exit_code_of(const Failure& failure) {
    const bool is_silent = failure.kind() == FailureKind::kTransient && failure.sqlstate().empty();
    const bool is_outage = is_silent || failure.reason() == "pg_timeout";
    return is_outage && failure.exit_code() == kExitFailed ? kExitServerDown : failure.exit_code();
}

// Of the words below the last one that was understood.
std::string suggestion_among_commands(const CLI::App& root, const std::string& word) {
    const CLI::App* noun = &root;
    while (!noun->get_subcommands().empty()) noun = noun->get_subcommands().front();
    std::vector<std::string> names;
    for (const CLI::App* candidate : noun->get_subcommands({})) {
        names.push_back(candidate->get_name());
    }
    const std::vector<std::string_view> known(names.begin(), names.end());
    return suggestion_for(word, known);
}

int run_verb(const Choice& choice) {
    try {
        const Config config = Config::load(choice.arguments.config_path, read_environment());
        return choice.verb(choice.arguments, config);
    } catch (const Failure& failure) {
        // Mistakes in files name their places, one a line.
        const bool has_places =
            failure.reason() == "config" || failure.reason() == "projection_file";
        if (!has_places) std::cerr << "millrace: " << failure.reason() << ": ";
        std::cerr << failure.detail() << "\n";
        return exit_code_of(failure);
    }
}

}  // namespace

int main(int argc, char** argv) {
    arm_crash_points();
    raise_file_limit();
    CLI::App root;
    Choice choice;
    build(root, choice);
    try {
        root.parse(argc, argv);
    } catch (const CLI::RequiredError& error) {
        // CLI11 misses the word that should be there before it minds the one that is.
        const std::vector<std::string> unknown = root.remaining(/*recurse=*/true);
        if (unknown.empty()) {
            root.exit(error);
        } else {
            std::cerr << "millrace: '" << unknown.front() << "' is no command here"
                      << suggestion_among_commands(root, unknown.front()) << "; see --help\n";
        }
        return kExitUsage;
    } catch (const CLI::ParseError& error) {
        // Help and version are asked for; anything else is a mistake on the command line.
        return root.exit(error) == 0 ? 0 : kExitUsage;
    }
    return run_verb(choice);
}

CLI::App* add_noun(CLI::App& root, const std::string& section, const std::string& name,
                   const std::string& summary) {
    CLI::App* noun = root.add_subcommand(name, summary)->group(section);
    noun->require_subcommand(1);
    return noun;
}

CLI::App* add_verb(CLI::App& parent, const VerbText& text, Choice& choice, Verb verb) {
    CLI::App* added = parent.add_subcommand(text.name, text.summary)->group("Verbs");
    added->footer("Example: " + text.example);
    added->add_option("--config", choice.arguments.config_path,
                      "configuration file (else MILLRACE_CONFIG, ./millrace.yaml, "
                      "/etc/millrace/millrace.yaml)");
    added->callback([&choice, verb = std::move(verb)] { choice.verb = verb; });
    return added;
}

CLI::Option* add_reason(CLI::App& verb, Choice& choice) {
    const CLI::Validator says_something(
        [](const std::string& text) {
            return text.find_first_not_of(" \t") == std::string::npos ? "is empty: say why" : "";
        },
        "TEXT");
    return verb
        .add_option("--reason", choice.arguments.reason,
                    "why, for those who look later; kept in millrace.operator_acts")
        ->check(says_something);
}

Connection::Connection(const Config& config)
    : session(session_options(config)), installation(require_installation(session)) {}

void prepare_verb(const Config& config) {
    LogOptions options = log_options(config, "");
    if (options.level == "info") options.level = "warn";
    options.format = "text";
    set_up_log(options);
    check_options(config);
    for (const std::string& warning : config.warnings()) log(LogLevel::kWarn, "config", warning);
}

void add_output(CLI::App& verb, Choice& choice) {
    verb.add_option("--output", choice.arguments.output, "table or json")
        ->check(CLI::IsMember({"table", "json"}))
        ->capture_default_str();
}

}  // namespace millrace
