#include "consumers/patience.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

using std::chrono::milliseconds;

TEST(Patience, CountsEachTroubleByItself) {
    Patience patience;
    for (int i = 1; i <= 20; ++i) EXPECT_EQ(patience.next("connection").count, i);

    const Patience::Try other = patience.next("unclassified");

    EXPECT_EQ(other.count, 1);
    EXPECT_LE(other.wait, milliseconds(250));
}

TEST(Patience, WaitsAHalfMinuteAtMost) {
    Patience patience;
    for (int i = 0; i < 100; ++i) EXPECT_LE(patience.next("kafka").wait, milliseconds(30000));
}

TEST(Patience, BeginsAnewWhenTheTroubleIsOver) {
    Patience patience;
    patience.next("connection");
    patience.next("kafka");

    patience.forget("connection");

    EXPECT_EQ(patience.next("connection").count, 1);
    EXPECT_EQ(patience.next("kafka").count, 2);
}

TEST(Patience, DoesNotForgetWhatFailedJustNow) {
    Patience patience;
    patience.next("kafka");

    patience.forget_old();

    EXPECT_EQ(patience.next("kafka").count, 2);
}

}  // namespace
}  // namespace millrace
