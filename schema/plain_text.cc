#include "schema/plain_text.h"

#include <simdjson.h>

#include <algorithm>

namespace millrace {

bool is_plain_text(std::string_view bytes) {
    return bytes.find('\0') == std::string_view::npos &&
           simdjson::validate_utf8(bytes.data(), bytes.size());
}

std::string as_plain_text(std::string_view bytes) {
    std::string text(bytes);
    if (is_plain_text(bytes)) return text;
    std::replace_if(
        text.begin(), text.end(),
        [](char byte) { return byte == '\0' || (static_cast<unsigned char>(byte) & 0x80) != 0; },
        '?');
    return text;
}

}  // namespace millrace
