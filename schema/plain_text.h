#pragma once

#include <string>
#include <string_view>

namespace millrace {

// True for what a text column of PostgreSQL takes: UTF-8 without U+0000.
bool is_plain_text(std::string_view bytes);
// The same bytes, or, where they are no such text, with a question mark for each byte that is not
// ASCII, and for each NUL: to be looked at, not to be compared.
std::string as_plain_text(std::string_view bytes);

}  // namespace millrace
