#pragma once

#include <chrono>
#include <stop_token>

namespace millrace {

// Sleeps for `duration` unless stop is requested first. True if the whole time has passed. Any
// thread; returns within a millisecond of the request.
bool wait_for(std::stop_token stop, std::chrono::nanoseconds duration);

}  // namespace millrace
