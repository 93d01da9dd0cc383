#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace millrace {

// RFC 4648, section 4: with padding, without line breaks.
std::string encode_base64(std::string_view bytes);
// Nothing if `text` is no base64.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace millrace
