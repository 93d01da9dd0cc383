#include "consumers/storm_breaker.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

constexpr StormLimits kLimits{.share = 0.05, .event_count_window = 100, .in_a_row = 4};

TEST(StormBreaker, LetsAShareOfPoisonPass) {
    StormBreaker storm(kLimits);
    for (int i = 0; i < 1000; ++i) {
        storm.note_good(19);
        storm.note_letter();
        EXPECT_FALSE(storm.is_tripped()) << i;
    }
}

TEST(StormBreaker, TripsOnALargerShareOfItsWindow) {
    StormBreaker storm(kLimits);
    storm.note_good(1000);
    for (int i = 0; i < 5; ++i) {
        storm.note_letter();
        storm.note_good();
    }
    EXPECT_FALSE(storm.is_tripped());

    storm.note_letter();

    EXPECT_TRUE(storm.is_tripped());
    EXPECT_EQ(storm.text(), "6 of the last 100 events are poisoned");
}

TEST(StormBreaker, TripsOnARowOfThem) {
    StormBreaker storm(kLimits);
    storm.note_good(1000);
    for (int i = 0; i < 3; ++i) storm.note_letter();
    EXPECT_FALSE(storm.is_tripped());

    storm.note_letter();

    EXPECT_TRUE(storm.is_tripped());
    EXPECT_EQ(storm.text(), "4 events in a row are poisoned");
}

TEST(StormBreaker, ForgetsWhatLeftItsWindow) {
    StormBreaker storm(kLimits);
    for (int i = 0; i < 3; ++i) storm.note_letter();
    storm.note_good(1);
    for (int i = 0; i < 2; ++i) storm.note_letter();
    storm.note_good(100);
    storm.note_letter();

    EXPECT_FALSE(storm.is_tripped());
}

}  // namespace
}  // namespace millrace
