#include "app/config.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>

#include "app/config_file.h"
#include "consumers/failure_policy.h"
#include "core/check.h"
#include "core/failure.h"
#include "core/nearest_name.h"
#include "relay/unpublishable.h"
#include "schema/topic_name.h"

extern char** environ;

namespace millrace {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTopicPolicy = "relay.topics.*.on_unpublishable";
constexpr std::string_view kHidden = "***";
constexpr std::string_view kFileVariable = "MILLRACE_CONFIG";
// Read by others: the crash points, the tests, the build.
constexpr std::array<std::string_view, 3> kForeign{"MILLRACE_CRASH_AT", "MILLRACE_TEST_",
                                                   "MILLRACE_DEPS"};

// --config, then $MILLRACE_CONFIG: these must exist. Then the two places where a file may lie.
std::optional<fs::path> find_file(const std::optional<std::string>& named,
                                  const Environment& environment) {
    if (named) return fs::path(*named);
    if (const auto found = environment.find(std::string(kFileVariable));
        found != environment.end() && !found->second.empty()) {
        return fs::path(found->second);
    }
    for (const char* usual : {"millrace.yaml", "/etc/millrace/millrace.yaml"}) {
        std::error_code ignored;
        if (fs::exists(usual, ignored)) return fs::path(usual);
    }
    return std::nullopt;
}

bool names_a_secret(std::string_view name) {
    for (const std::string_view word : {"password", "secret", "jaas", "oauthbearer", ".pem"}) {
        if (name.find(word) != std::string_view::npos) return true;
    }
    return false;
}

// `raw` is the text before its references were expanded: it is shown in their place.
std::string shown_as(const ConfigEntry& entry, const std::string& raw) {
    if (has_reference(raw)) return mask_passwords(raw);
    if (!entry.text.empty() && (entry.key->is_secret || names_a_secret(entry.name))) {
        return std::string(kHidden);
    }
    return mask_passwords(entry.text);
}

// What stands for the `*` of the pattern; it may hold dots. Nothing if the name does not fit.
std::optional<std::string> star_of(const ConfigEntry& entry, std::string_view pattern) {
    const size_t star = pattern.find('*');
    const std::string_view end = pattern.substr(star + 1);
    const bool fits = entry.key->is_map() && entry.name.size() > star + end.size() &&
                      entry.name.starts_with(pattern.substr(0, star)) && entry.name.ends_with(end);
    if (!fits) return std::nullopt;
    return entry.name.substr(star, entry.name.size() - star - end.size());
}

std::string as_list(const std::vector<std::string>& items) {
    std::string list;
    for (const std::string& item : items) list += (list.empty() ? "" : ", ") + item;
    return "[" + list + "]";
}

// Expands and checks; false, and a mistake, if the value is no good.
bool set_text(ConfigEntry& entry, const std::string& raw, const Environment& environment,
              std::vector<std::string>& mistakes) {
    try {
        entry.text = expand(raw, environment);
    } catch (const Failure& failure) {
        mistakes.push_back(entry.origin + ": " + entry.name + ": " + failure.detail());
        return false;
    }
    entry.shown = shown_as(entry, raw);
    const std::optional<std::string> fault = fault_of(*entry.key, entry.text);
    if (!fault) return true;
    mistakes.push_back(entry.origin + ": " + entry.name + ": '" + entry.shown + "' " + *fault);
    return false;
}

ConfigEntry default_of(const ConfigKey& key) {
    ConfigEntry entry{.key = &key,
                      .name = std::string(key.name),
                      .text = std::string(key.fallback),
                      .items = {},
                      .shown = std::string(key.fallback),
                      .origin = "default"};
    if (key.type == KeyType::kNames) entry.text.clear();
    return entry;
}

ConfigEntry entry_of(const FileValue& value, const Environment& environment,
                     std::vector<std::string>& mistakes) {
    ConfigEntry entry{.key = value.key,
                      .name = value.name,
                      .text = {},
                      .items = value.items,
                      .shown = as_list(value.items),
                      .origin = value.position};
    if (value.key->type != KeyType::kNames) set_text(entry, value.text, environment, mistakes);
    return entry;
}

void check_variables(const Environment& environment, std::vector<std::string>& warnings) {
    std::vector<std::string> variables{std::string(kFileVariable)};
    for (const ConfigKey& key : config_keys()) {
        if (key.has_variable()) variables.push_back(key.variable());
    }
    const std::vector<std::string_view> known(variables.begin(), variables.end());
    for (const auto& [name, value] : environment) {
        if (!name.starts_with("MILLRACE_")) continue;
        if (std::find(known.begin(), known.end(), name) != known.end()) continue;
        const bool is_foreign =
            std::any_of(kForeign.begin(), kForeign.end(),
                        [&name](std::string_view prefix) { return name.starts_with(prefix); });
        // A cluster injects variables of its own, so this can't be an error.
        if (!is_foreign) {
            warnings.push_back("environment variable " + name + " is no key of the configuration" +
                               suggestion_for(name, known));
        }
    }
}

}  // namespace

Config Config::load(const std::optional<std::string>& path, const Environment& environment) {
    Config config;
    std::vector<std::string> mistakes;
    std::vector<FileValue> values;
    config.file_ = find_file(path, environment);
    if (config.file_) values = read_config_file(*config.file_, mistakes);

    for (const ConfigKey& key : config_keys()) {
        const auto variable =
            key.has_variable() ? environment.find(key.variable()) : environment.end();
        if (variable != environment.end()) {
            ConfigEntry entry = default_of(key);
            entry.origin = variable->first;
            set_text(entry, variable->second, environment, mistakes);
            config.entries_.push_back(std::move(entry));
            continue;
        }
        bool is_given = false;
        for (const FileValue& value : values) {
            if (value.key != &key) continue;
            config.entries_.push_back(entry_of(value, environment, mistakes));
            is_given = true;
        }
        if (!is_given && !key.is_map()) config.entries_.push_back(default_of(key));
    }
    check_variables(environment, config.warnings_);
    if (mistakes.empty()) config.check_together(environment, mistakes);
    if (mistakes.empty()) return config;

    std::string all;
    for (const std::string& mistake : mistakes) all += (all.empty() ? "" : "\n") + mistake;
    throw misconfigured("config", all);
}

// What no single key shows.
void Config::check_together(const Environment& environment,
                            std::vector<std::string>& mistakes) const {
    const std::string where =
        file_ ? file_->string() + ": "
              : "no configuration file (--config, MILLRACE_CONFIG, ./millrace.yaml, "
                "/etc/millrace/millrace.yaml): ";
    const bool has_libpq_variables =
        std::any_of(environment.begin(), environment.end(), [](const auto& variable) {
            const std::string& name = variable.first;
            return name == "PGHOST" || name == "PGHOSTADDR" || name == "PGSERVICE" ||
                   name == "PGDATABASE";
        });
    if (text("postgres.url").empty() && !has_libpq_variables) {
        mistakes.push_back(where + "postgres.url is missing");
    }
    if (text("kafka.brokers").empty()) mistakes.push_back(where + "kafka.brokers is missing");
    for (const ConfigEntry& entry : entries_) {
        if (entry.key->name != "projections.overrides.*.sqlstates.*") continue;
        const std::string code = entry.name.substr(entry.name.rfind('.') + 1);
        try {
            parse_override(code, entry.text);
        } catch (const std::invalid_argument& fault) {
            mistakes.push_back(entry.origin + ": " + entry.name + ": '" + code + "' " +
                               fault.what());
        }
    }
    if (duration("relay.poll.min") > duration("relay.poll.max")) {
        mistakes.push_back(entry("relay.poll.min").origin +
                           ": relay.poll.min is above relay.poll.max");
    }
    for (const ConfigEntry& entry : entries_) {
        if (entry.key->name != kTopicPolicy) continue;
        const std::string topic = star_of(entry, kTopicPolicy).value_or("");
        if (!is_topic_name(topic)) {
            mistakes.push_back(entry.origin + ": " + entry.name + ": '" + topic +
                               "' can't be the name of a topic");
        } else if (is_dead_letter_topic(topic) && entry.text != "dead_letter") {
            mistakes.push_back(entry.origin + ": " + entry.name +
                               ": copies of dead letters hold up nothing: a topic that ends in " +
                               std::string(kDeadLetterTopicEnd) + " can only be dead_letter");
        }
    }
}

int Config::count(std::string_view name) const {
    return static_cast<int>(parse_count(text(name)).value_or(0));
}

double Config::share(std::string_view name) const {
    return parse_share(text(name)).value_or(0);
}

int64_t Config::bytes(std::string_view name) const { return parse_size(text(name)).value_or(0); }

std::chrono::milliseconds Config::duration(std::string_view name) const {
    return std::chrono::milliseconds(parse_duration(text(name)).value_or(0));
}

std::map<std::string, std::string> Config::map(std::string_view name) const {
    std::map<std::string, std::string> found;
    for (const ConfigEntry& entry : entries_) {
        if (const auto star = star_of(entry, name)) found[*star] = entry.text;
    }
    return found;
}

fs::path Config::path(std::string_view name) const {
    const fs::path found = text(name);
    return file_ ? file_->parent_path() / found : found;
}

const ConfigEntry& Config::entry(std::string_view name) const {
    for (const ConfigEntry& entry : entries_) {
        if (entry.key->name == name && !entry.key->is_map()) return entry;
    }
    MILLRACE_CHECK(false, "the configuration has the key " + std::string(name));
    std::abort();
}

Environment read_environment() {
    Environment environment;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const size_t equals = text.find('=');
        if (equals != std::string_view::npos) {
            environment.emplace(text.substr(0, equals), text.substr(equals + 1));
        }
    }
    return environment;
}

}  // namespace millrace
