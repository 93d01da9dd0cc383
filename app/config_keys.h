#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace millrace {

enum class KeyType { kText, kBoolean, kCount, kDuration, kSize, kShare, kChoice, kNames };

// One key of the configuration. The file's parser, the environment, `config show`, the help and the
// documentation's test all read this one list.
struct ConfigKey {
    std::string_view name;      // `*` stands for any name: a map, which comes from the file only.
    KeyType type;
    std::string_view fallback;  // The default, as the file would have it.
    std::string_view help;
    int64_t least = 0;          // Of a count, of milliseconds, of bytes.
    int64_t most = 0;
    std::string_view choices = "";  // Of kChoice, divided by `|`.
    bool is_secret = false;

    bool is_map() const { return name.find('*') != std::string_view::npos; }
    // Lists and maps have none.
    bool has_variable() const { return !is_map() && type != KeyType::kNames; }
    // `relay.batch.tasks` is MILLRACE_RELAY_BATCH_TASKS.
    std::string variable() const;
};

// In the order of the documentation.
std::span<const ConfigKey> config_keys();

}  // namespace millrace
