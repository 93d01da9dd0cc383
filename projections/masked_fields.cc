#include "projections/masked_fields.h"

#include <nlohmann/json.hpp>

namespace millrace {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kMask = "***";

Json* find(Json& root, const JsonPath& path) {
    Json* at = &root;
    for (const JsonStep& step : path) {
        if (const auto* name = std::get_if<std::string>(&step)) {
            if (!at->is_object() || !at->contains(*name)) return nullptr;
            at = &(*at)[*name];
        } else {
            const size_t index = std::get<size_t>(step);
            if (!at->is_array() || index >= at->size()) return nullptr;
            at = &(*at)[index];
        }
    }
    return at;
}

void mask(Json& root, const std::vector<JsonPath>& paths) {
    for (const JsonPath& path : paths) {
        Json* found = find(root, path);
        if (found != nullptr && !found->is_null()) *found = kMask;
    }
}

}  // namespace

std::optional<std::string> mask_fields(std::string_view payload,
                                       const std::vector<JsonPath>& paths) {
    Json root = Json::parse(payload, nullptr, /*allow_exceptions=*/false);
    if (root.is_discarded()) return std::nullopt;
    if (root.is_object() && root.contains("event_id") && root.contains("payload")) {
        mask(root["payload"], paths);
    }
    mask(root, paths);
    return root.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace millrace
