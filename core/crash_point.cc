#include "core/crash_point.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <string>

namespace millrace {

std::atomic<bool> crash_points_armed{false};

namespace {

// Written by arm_crash_points before any thread exists, then only counted down.
std::string armed_name;
bool stops_only = false;
std::atomic<int> passages_left{0};

}  // namespace

void arm_crash_points() {
    const char* wish = std::getenv("MILLRACE_CRASH_AT");
    if (wish == nullptr || *wish == '\0') return;

    std::istringstream parts(wish);
    std::string nth_text = "1";
    std::string end;
    std::getline(parts, armed_name, ':');
    std::getline(parts, nth_text, ':');
    std::getline(parts, end);
    stops_only = end == "stop";
    const int nth = std::atoi(nth_text.c_str());
    passages_left = nth < 1 ? 1 : nth;
    crash_points_armed = true;
}

bool crash_is_due(const char* name) {
    return crash_points_armed.load(std::memory_order_relaxed) && armed_name == name &&
           passages_left.load() == 1;
}

void pass_crash_point(const char* name) {
    if (armed_name != name) return;
    if (passages_left.fetch_sub(1) != 1) return;
    // The marker tells the test that the point fired; write() because nothing may be buffered.
    const std::string marker = "crash point " + armed_name + " fired\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, marker.data(), marker.size());
    // Sent to this thread: one sent to the process may reach another thread first, and this one
    // would run on for a moment, past the point.
    raise(stops_only ? SIGSTOP : SIGKILL);
}

}  // namespace millrace
