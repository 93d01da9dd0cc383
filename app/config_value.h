#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "app/config_keys.h"

namespace millrace {

using Environment = std::map<std::string, std::string>;

// A number and its unit without a space between: ms, s, m or h, as milliseconds.
std::optional<int64_t> parse_duration(std::string_view text);
// B, KiB, MiB or GiB, as bytes.
std::optional<int64_t> parse_size(std::string_view text);
std::optional<int64_t> parse_count(std::string_view text);
// A decimal number from 0 to 1.
std::optional<double> parse_share(std::string_view text);

// What is wrong with `text` as a value of `key`; nothing if it is right.
std::optional<std::string> fault_of(const ConfigKey& key, std::string_view text);

// Replaces `${env:NAME}` and `${file:/path}`; a file's last line break does not count. Throws
// kFatal `config_reference` if one leads nowhere.
std::string expand(const std::string& text, const Environment& environment);
bool has_reference(std::string_view text);

// The text with every password in it replaced by `***`: inside URLs and keyword strings.
std::string mask_passwords(const std::string& text);

}  // namespace millrace
