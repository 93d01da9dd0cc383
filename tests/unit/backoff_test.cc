#include "core/backoff.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace millrace {
namespace {

using std::chrono::milliseconds;

constexpr int kSampleCount = 400;

// The longest of many waits before try `try_number`, from 0.
milliseconds longest_wait(int try_number, milliseconds first, milliseconds longest) {
    milliseconds found{0};
    for (int i = 0; i < kSampleCount; ++i) {
        Backoff backoff(first, longest);
        for (int before = 0; before < try_number; ++before) backoff.next();
        found = std::max(found, backoff.next());
    }
    return found;
}

TEST(Backoff, DoublesTheLimitOfItsWaits) {
    const milliseconds first = longest_wait(0, milliseconds(100), milliseconds(100'000));
    const milliseconds third = longest_wait(2, milliseconds(100), milliseconds(100'000));

    EXPECT_LE(first, milliseconds(100));
    EXPECT_LE(third, milliseconds(400));
    // All of 400 uniform draws below half: once in 2^400 runs.
    EXPECT_GT(first, milliseconds(50));
    EXPECT_GT(third, milliseconds(200));
}

TEST(Backoff, NeverWaitsLongerThanItsLongest) {
    Backoff backoff(milliseconds(100), milliseconds(250));

    for (int i = 0; i < 1000; ++i) EXPECT_LE(backoff.next(), milliseconds(250));
}

// A wait of zero would turn an outage into a busy loop.
TEST(Backoff, NeverWaitsForNothing) {
    Backoff backoff(milliseconds(1), milliseconds(2));

    for (int i = 0; i < 1000; ++i) EXPECT_GE(backoff.next(), milliseconds(1));
}

TEST(Backoff, SpreadsTheWaitsOfTheSameTry) {
    milliseconds shortest = milliseconds::max();
    for (int i = 0; i < kSampleCount; ++i) {
        shortest = std::min(shortest, Backoff(milliseconds(1000), milliseconds(9999)).next());
    }

    EXPECT_LT(shortest, milliseconds(500));
}

TEST(Backoff, BeginsAgainAfterReset) {
    milliseconds found{0};
    for (int i = 0; i < kSampleCount; ++i) {
        Backoff backoff(milliseconds(100), milliseconds(100'000));
        for (int before = 0; before < 9; ++before) backoff.next();
        backoff.reset();
        found = std::max(found, backoff.next());
    }

    EXPECT_LE(found, milliseconds(100));
}

TEST(Backoff, CountsItsTries) {
    Backoff backoff(milliseconds(1), milliseconds(1));
    backoff.next();
    backoff.next();

    EXPECT_EQ(backoff.try_count(), 2);
}

}  // namespace
}  // namespace millrace
