#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/config_keys.h"

namespace millrace {

// A value as it stands in the file.
struct FileValue {
    const ConfigKey* key = nullptr;
    std::string name;  // The key's, with real names for `*`.
    std::string text;
    std::vector<std::string> items;  // Of kNames.
    std::string position;            // `file:line`
};

// All values of a YAML file, in its order. What is wrong is added to `mistakes`, one line each that
// begins with `file:line:column`: bad YAML, unknown keys with the nearest known one, keys given
// twice, values of the wrong shape.
std::vector<FileValue> read_config_file(const std::filesystem::path& file,
                                        std::vector<std::string>& mistakes);

}  // namespace millrace
