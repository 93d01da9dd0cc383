#pragma once

#include <atomic>

namespace millrace {

// Places where a test lets the shipped program die, or stop. Armed by
// MILLRACE_CRASH_AT=name[:nth[:stop]], read once by `arm_crash_points`; the process then kills
// itself with SIGKILL, or stops itself with SIGSTOP, at the nth passage of that name. Unarmed, a
// point is one predicted branch.
void arm_crash_points();

extern std::atomic<bool> crash_points_armed;

// True if the next passage of `name` will kill the process: a pipeline flushes what it queued
// before it passes the point, so that the server has seen it (PROTOCOL 7.1).
bool crash_is_due(const char* name);
void pass_crash_point(const char* name);

}  // namespace millrace

#define MILLRACE_CRASH_POINT(name)                                                       \
    do {                                                                                 \
        if (::millrace::crash_points_armed.load(std::memory_order_relaxed)) [[unlikely]] \
            ::millrace::pass_crash_point(name);                                          \
    } while (false)
