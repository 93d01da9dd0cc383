#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/installer.h"

namespace millrace {

// What the command line says; each verb reads its part.
struct Arguments {
    std::optional<std::string> config_path;
    std::string output = "table";
    InstallOptions install;
    bool migrate_first = false;  // Of `run`.

    bool as_json() const { return output == "json"; }
};

// A verb: reads what it needs, prints to standard output, returns the exit code or throws Failure.
using Verb = std::function<int(const Arguments&, const Config&)>;

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

// Each adds a word with its verbs; one file each in commands/.
void add_run(CLI::App& root, Choice& choice);
void add_migrate(CLI::App& root, Choice& choice);

}  // namespace millrace
