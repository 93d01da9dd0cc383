#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/config_keys.h"
#include "app/config_value.h"

namespace millrace {

// One key's value and where it comes from.
struct ConfigEntry {
    const ConfigKey* key = nullptr;
    std::string name;                // The key's, with real names for `*`.
    std::string text;                // References expanded.
    std::vector<std::string> items;  // Of kNames.
    std::string shown;               // For people: without secrets.
    std::string origin;              // `default`, `file:line`, or the environment variable's name.
};

// The effective configuration: environment over file over defaults. Values are checked when it is
// made, so the typed getters can't fail; asking for a name that is no key ends the process.
class Config {
  public:
    // `path` is what --config says. Throws kFatal `config` with one line for each mistake.
    static Config load(const std::optional<std::string>& path, const Environment& environment);

    const std::string& text(std::string_view name) const { return entry(name).text; }
    bool boolean(std::string_view name) const { return text(name) == "true"; }
    int count(std::string_view name) const;
    int64_t bytes(std::string_view name) const;
    std::chrono::milliseconds duration(std::string_view name) const;
    const std::vector<std::string>& names(std::string_view name) const { return entry(name).items; }
    double share(std::string_view name) const;
    // Entries of a map: what stands for the `*`, with its value; `kafka.properties.*`. Of a key
    // with two, the first is to be filled in: `projections.overrides.orders.sqlstates.*`.
    std::map<std::string, std::string> map(std::string_view name) const;
    // A path of the file's, relative to the file's folder.
    std::filesystem::path path(std::string_view name) const;

    // In the order of the keys.
    const std::vector<ConfigEntry>& entries() const { return entries_; }
    // The file it was read from; none if there was none.
    const std::optional<std::filesystem::path>& file() const { return file_; }
    // What is odd but not wrong.
    const std::vector<std::string>& warnings() const { return warnings_; }

  private:
    const ConfigEntry& entry(std::string_view name) const;
    void check_together(const Environment& environment, std::vector<std::string>& mistakes) const;

    std::vector<ConfigEntry> entries_;
    std::optional<std::filesystem::path> file_;
    std::vector<std::string> warnings_;
};

// The process's environment.
Environment read_environment();

}  // namespace millrace
