#include "core/crash_point.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace millrace {

std::atomic<bool> crash_points_armed{false};

namespace {

// Written by arm_crash_points before any thread exists, then only counted down.
std::string armed_name;
std::atomic<int> passages_left{0};

}  // namespace

void arm_crash_points() {
    const char* wish = std::getenv("MILLRACE_CRASH_AT");
    if (wish == nullptr || *wish == '\0') return;

    std::string name = wish;
    int nth = 1;
    if (const size_t colon = name.rfind(':'); colon != std::string::npos) {
        nth = std::atoi(name.c_str() + colon + 1);
        name.resize(colon);
    }
    armed_name = name;
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
    kill(getpid(), SIGKILL);
    pause();
}

}  // namespace millrace
