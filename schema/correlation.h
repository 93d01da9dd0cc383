#pragma once

#include <string>
#include <string_view>

#include "schema/event.h"

namespace millrace {

// The trace id of a `traceparent` (W3C Trace Context: version, 32 hex digits, parent, flags, with
// dashes between); empty for anything else.
std::string_view trace_id_of(std::string_view traceparent);

// By which a log line about one event is found beside those of the services it passed: the trace id
// of its header `traceparent`, else the event id.
std::string correlation_id(const Event& event);

}  // namespace millrace
