#include "core/crash_point.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

namespace millrace {
namespace {

// Passes the point so often, and another one in between; ends by itself if nothing kills it.
[[noreturn]] void live_through(const char* armed, int passages) {
    setenv("MILLRACE_CRASH_AT", armed, 1);
    arm_crash_points();
    for (int i = 0; i < passages; ++i) {
        MILLRACE_CRASH_POINT("test.other");
        MILLRACE_CRASH_POINT("test.point");
    }
    std::_Exit(0);
}

TEST(CrashPoint, KillsTheProcessAtItsFirstPassage) {
    EXPECT_EXIT(live_through("test.point", 1), testing::KilledBySignal(SIGKILL),
                "crash point test.point fired");
}

TEST(CrashPoint, KillsTheProcessAtTheNamedPassage) {
    EXPECT_EXIT(live_through("test.point:3", 3), testing::KilledBySignal(SIGKILL),
                "crash point test.point fired");
}

TEST(CrashPoint, LetsEarlierPassagesLive) {
    EXPECT_EXIT(live_through("test.point:3", 2), testing::ExitedWithCode(0), "");
}

TEST(CrashPoint, OfAnotherNameLetsTheProcessLive) {
    EXPECT_EXIT(live_through("test.absent", 5), testing::ExitedWithCode(0), "");
}

TEST(CrashPoint, UnarmedLetsTheProcessLive) {
    EXPECT_EXIT(live_through("", 5), testing::ExitedWithCode(0), "");
}

// PROTOCOL 7.1: what was queued is flushed only when the next passage kills.
TEST(CrashPoint, IsDueRightBeforeThePassageThatKills) {
    const auto watch = [] {
        setenv("MILLRACE_CRASH_AT", "test.point:2", 1);
        arm_crash_points();
        const bool too_early = crash_is_due("test.point");
        MILLRACE_CRASH_POINT("test.point");
        const bool due = crash_is_due("test.point");
        const bool other = crash_is_due("test.other");
        std::_Exit(!too_early && due && !other ? 0 : 1);
    };

    EXPECT_EXIT(watch(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace millrace
