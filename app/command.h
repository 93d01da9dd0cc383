#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/bench/bench.h"
#include "app/config.h"
#include "app/demo/demo.h"
#include "app/installer.h"
#include "app/redriver.h"
#include "core/pg/session.h"
#include "relay/dead_task_verbs.h"
#include "relay/ledger_resume.h"
#include "schema/installation.h"

namespace millrace {

// What the command line says; each verb reads its part.
struct Arguments {
    std::optional<std::string> config_path;
    std::string output = "table";
    InstallOptions install;           // Of `migrate up`.
    bool migrate_first = false;       // Of `run`.
    std::vector<int16_t> lanes;       // Of `lanes pause` and its like.
    bool all_lanes = false;
    std::string reason;
    std::optional<Trust> trust;       // Of `ledger resume`.
    int task_count_max = 100'000;     // Of `outbox status`.
    DeadFilter dead;                  // Of `outbox list` and its like.
    bool all_dead = false;            // Only has to be typed: an empty filter means every one.
    std::string projection;           // Of `projection resume`.
    RedriverOptions redrive;          // Of the verbs of `dlq`.
    int64_t letter_id = 0;            // Of `dlq show`.
    bool shows_masked = false;        // `--raw` of the verbs of `dlq`.
    DemoOptions demo;
    BenchOptions bench;

    bool as_json() const { return output == "json"; }
};

// For a verb that ends by itself: warnings and errors of libraries go to standard error, and what
// is odd about the configuration. `run` sets up the log that is configured instead.
void prepare_verb(const Config& config);

// A verb: reads what it needs, prints to standard output, returns the exit code or throws Failure.
using Verb = std::function<int(const Arguments&, const Config&)>;

// A session and the installation it leads to, for verbs that need the schema to be there.
struct Connection {
    explicit Connection(const Config& config);

    pg::Session session;
    Installation installation;
};

// What was chosen on the command line.
struct Choice {
    Arguments arguments;
    Verb verb;
};

struct VerbText {
    std::string name;
    std::string summary;
    std::string example;
};

// A word that has verbs below it, in a section of `millrace --help`.
CLI::App* add_noun(CLI::App& root, const std::string& section, const std::string& name,
                   const std::string& summary);
// A verb with --config; choosing it sets `choice.verb`.
CLI::App* add_verb(CLI::App& parent, const VerbText& text, Choice& choice, Verb verb);
// --output table|json, for a verb that lists.
void add_output(CLI::App& verb, Choice& choice);

// --reason TEXT, kept in operator_acts.
CLI::Option* add_reason(CLI::App& verb, Choice& choice);

// Each adds a word with its verbs; one file each in commands/.
void add_bench(CLI::App& root, Choice& choice);
void add_demo(CLI::App& root, Choice& choice);
void add_run(CLI::App& root, Choice& choice);
void add_migrate(CLI::App& root, Choice& choice);
void add_validate(CLI::App& root, Choice& choice);
void add_projection(CLI::App& root, Choice& choice);
void add_outbox(CLI::App& root, Choice& choice);
void add_dlq(CLI::App& root, Choice& choice);
// The verbs of `outbox` on tasks that were set aside.
void add_dead_tasks(CLI::App& outbox, Choice& choice);
void add_lanes(CLI::App& root, Choice& choice);
void add_ledger(CLI::App& root, Choice& choice);
void add_config(CLI::App& root, Choice& choice);

}  // namespace millrace
