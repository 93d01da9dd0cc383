#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "consumers/letter_store.h"

namespace millrace {

// Dead letters as commands show them.

// Without what a terminal would obey, on one line.
std::string shown_text(const std::string& text);
// As text, or as base64 with that word before it.
std::string shown_bytes(const std::optional<std::string>& bytes);
// The same in JSON: a string, or {"base64": "..."}, or null.
nlohmann::ordered_json bytes_json(const std::optional<std::string>& bytes);
// As Cause::text has it.
std::string cause_text(const LetterLine& letter);
// What an operator can do about such a letter.
std::string advice_for(const LetterLine& letter);
// All of it as one object; bytes that are no text as {"base64": "..."}.
nlohmann::ordered_json letter_json(const LetterLine& letter, const StoredRecord& record);

}  // namespace millrace
