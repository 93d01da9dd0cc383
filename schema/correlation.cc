#include "schema/correlation.h"

#include <algorithm>

namespace millrace {

namespace {

constexpr size_t kTraceIdAt = 3;
constexpr size_t kTraceIdSize = 32;

bool is_hex(char letter) {
    return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'f');
}

}  // namespace

std::string_view trace_id_of(std::string_view traceparent) {
    const size_t end = kTraceIdAt + kTraceIdSize;
    const bool has_dashes = traceparent.size() > end && traceparent[kTraceIdAt - 1] == '-' &&
                            traceparent[end] == '-';
    if (!has_dashes) return {};
    const std::string_view id = traceparent.substr(kTraceIdAt, kTraceIdSize);
    return std::all_of(id.begin(), id.end(), is_hex) ? id : std::string_view();
}

std::string correlation_id(const Event& event) {
    for (const Header& header : event.headers) {
        if (header.name != "traceparent" || !header.value) continue;
        const std::string_view id = trace_id_of(*header.value);
        if (!id.empty()) return std::string(id);
    }
    return std::string(event.event_id);
}

}  // namespace millrace
