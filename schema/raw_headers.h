#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "schema/event.h"

namespace millrace {

// Headers of a message as JSON, byte for byte and in their order, repeated names included:
//
//   headers = [ header, ... ]
//   header  = [ name, value ]          name is UTF-8 without U+0000
//           | [ null, value, bytes ]   any other name, as base64
//   value   = base64 | null
//
// So they stand in `dead_letters` and `parked_events`. A task whose only header is called
// `millrace-headers` and holds such a list becomes a message with exactly these headers behind the
// relay's own, whose value is never wrapped into an envelope.
constexpr std::string_view kRawHeaders = "millrace-headers";

std::string encode_headers(const std::vector<Header>& headers);

struct RawHeader {
    std::string name;
    std::optional<std::string> value;
};
// Nothing if `json` is no such list.
std::optional<std::vector<RawHeader>> decode_headers(std::string_view json);

}  // namespace millrace
