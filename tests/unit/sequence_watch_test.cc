#include "consumers/sequence_watch.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(SequenceWatch, TakesTheFirstOfASeriesAsItIs) {
    SequenceWatch watch;

    EXPECT_EQ(watch.look(10, "0123abcd.0.1.500"), SequenceJump::kNone);
}

TEST(SequenceWatch, FindsWhatDoesNotFollow) {
    SequenceWatch watch;
    watch.note(10, "0123abcd.0.1.500");

    EXPECT_EQ(watch.look(11, "0123abcd.0.1.501"), SequenceJump::kNone);
    EXPECT_EQ(watch.look(11, "0123abcd.0.1.502"), SequenceJump::kGap);
    EXPECT_EQ(watch.look(11, "0123abcd.0.1.500"), SequenceJump::kDuplicate);
    EXPECT_EQ(watch.look(11, "0123abcd.0.1.499"), SequenceJump::kReorder);
    EXPECT_EQ(watch.last_of("0123abcd.0.1.502"), 500);
}

TEST(SequenceWatch, CountsEachSeriesByItself) {
    SequenceWatch watch;
    watch.note(10, "0123abcd.0.1.500");
    watch.note(11, "0123abcd.1.1.7");

    EXPECT_EQ(watch.look(12, "0123abcd.0.1.501"), SequenceJump::kNone);
    EXPECT_EQ(watch.look(12, "0123abcd.1.1.8"), SequenceJump::kNone);
    EXPECT_EQ(watch.look(12, "0123abcd.0.2.1"), SequenceJump::kNone);
    EXPECT_EQ(watch.look(12, "0123abcd.1.1.9"), SequenceJump::kGap);
}

TEST(SequenceWatch, JudgesARecordOnce) {
    SequenceWatch watch;
    watch.note(10, "0123abcd.0.1.500");
    watch.note(11, "0123abcd.0.1.501");

    EXPECT_EQ(watch.look(10, "0123abcd.0.1.500"), SequenceJump::kNone);
    EXPECT_EQ(watch.look(11, "0123abcd.0.1.501"), SequenceJump::kNone);
}

TEST(SequenceWatch, TellsAGapOnce) {
    SequenceWatch watch;
    watch.note(10, "0123abcd.0.1.500");
    watch.note(11, "0123abcd.0.1.510");

    EXPECT_EQ(watch.look(12, "0123abcd.0.1.511"), SequenceJump::kNone);
}

TEST(SequenceWatch, LetsOtherFormsPass) {
    SequenceWatch watch;
    watch.note(10, "0123abcd.0.1.500");

    for (const char* header : {"", "7", ".7", "0123abcd.0.1.", "0123abcd.0.1.x", "0123abcd.0.1.5x",
                               "0123abcd.0.1.-1", "0123abcd.0.1.99999999999999999999"}) {
        EXPECT_EQ(watch.look(11, header), SequenceJump::kNone) << header;
    }
}

}  // namespace
}  // namespace millrace
