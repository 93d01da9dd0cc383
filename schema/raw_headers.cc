#include "schema/raw_headers.h"

#include <nlohmann/json.hpp>

#include "schema/base64.h"
#include "schema/plain_text.h"

namespace millrace {

namespace {

using Json = nlohmann::json;

// Null, or base64.
bool decode_bytes(const Json& json, std::optional<std::string>& bytes) {
    bytes.reset();
    if (json.is_null()) return true;
    if (!json.is_string()) return false;
    bytes = decode_base64(json.get_ref<const std::string&>());
    return bytes.has_value();
}

bool decode_header(const Json& json, RawHeader& header) {
    if (!json.is_array() || json.size() < 2 || json.size() > 3) return false;
    if (!decode_bytes(json[1], header.value)) return false;
    if (json.size() == 2) {
        if (!json[0].is_string()) return false;
        header.name = json[0].get<std::string>();
        return true;
    }
    std::optional<std::string> name;
    if (!json[0].is_null() || !decode_bytes(json[2], name) || !name) return false;
    header.name = *name;
    return true;
}

}  // namespace

std::string encode_headers(const std::vector<Header>& headers) {
    Json list = Json::array();
    for (const Header& header : headers) {
        const Json value = header.value ? Json(encode_base64(*header.value)) : Json(nullptr);
        if (is_plain_text(header.name)) {
            list.push_back(Json::array({std::string(header.name), value}));
        } else {
            list.push_back(Json::array({nullptr, value, encode_base64(header.name)}));
        }
    }
    return list.dump();
}

std::optional<std::vector<RawHeader>> decode_headers(std::string_view json) {
    const Json list = Json::parse(json, nullptr, /*allow_exceptions=*/false);
    if (!list.is_array()) return std::nullopt;
    std::vector<RawHeader> headers;
    for (const Json& entry : list) {
        if (!decode_header(entry, headers.emplace_back())) return std::nullopt;
    }
    return headers;
}

}  // namespace millrace
