#include "relay/known_topics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

class KnownTopicsTest : public testing::Test {
  protected:
    TopicState look(std::chrono::milliseconds at, const std::string& topic = "orders") {
        return watch_.look(topic, start_ + at);
    }

    KnownTopics::Clock::time_point start_{};
    TopicAnswer answer_;
    int asked_count_ = 0;
    KnownTopics watch_{10s, [this](const std::string&) {
                          ++asked_count_;
                          return answer_;
                      }};
};

TEST_F(KnownTopicsTest, ATopicThatIsThereIsAskedForOnce) {
    answer_.partition_count = 4;

    EXPECT_EQ(look(0ms), TopicState::kThere);
    EXPECT_EQ(look(1h), TopicState::kThere);
    EXPECT_EQ(watch_.partition_count("orders"), 4);
    EXPECT_EQ(asked_count_, 1);
}

TEST_F(KnownTopicsTest, AMissingTopicIsAwaitedForItsGraceAndAskedForFiveTimesASecond) {
    for (int i = 0; i < 100; ++i) EXPECT_EQ(look(i * 100ms), TopicState::kAwaited) << i;
    EXPECT_EQ(asked_count_, 50);

    EXPECT_EQ(look(10s), TopicState::kMissing);
}

TEST_F(KnownTopicsTest, ATopicThatIsMadeLaterIsFound) {
    for (auto at = 0s; at < 10s; at += 1s) EXPECT_EQ(look(at), TopicState::kAwaited);
    EXPECT_EQ(look(10s), TopicState::kMissing);
    answer_.partition_count = 1;

    EXPECT_EQ(look(11s), TopicState::kThere);
}

// One broker may not have heard of a topic that was made a moment ago; nor may the first one that
// answers after an outage.
TEST_F(KnownTopicsTest, OneAnswerAfterASilenceIsNotBelieved) {
    look(0ms);

    EXPECT_EQ(look(40s), TopicState::kAwaited);
    EXPECT_EQ(look(41s), TopicState::kAwaited);
    EXPECT_EQ(look(42s), TopicState::kMissing);
}

// A publisher whose transactions are slow, or begin seldom.
TEST_F(KnownTopicsTest, ATopicThatIsSeldomLookedAtIsGivenUpAllTheSame) {
    for (auto at = 0s; at < 10s; at += 3s) EXPECT_EQ(look(at), TopicState::kAwaited);

    EXPECT_EQ(look(12s), TopicState::kMissing);
}

// An operator makes the topic and retries, within the fifth of a second for which an answer holds.
TEST_F(KnownTopicsTest, AnAnswerFromBeforeAnOrderIsNotBelieved) {
    for (auto at = 0s; at <= 10s; at += 1s) look(at);
    answer_.partition_count = 4;
    EXPECT_EQ(look(10100ms), TopicState::kMissing);

    watch_.ask_anew(start_ + 10100ms);

    EXPECT_EQ(look(10100ms), TopicState::kThere);
}

// PROTOCOL 5.1: each copy of a dead letter that is refused costs its publisher a settle.
TEST_F(KnownTopicsTest, ATopicThatRefusedUsIsNotTriedAtOnce) {
    answer_.partition_count = 4;
    look(0ms);
    watch_.note_refused("orders", start_);
    watch_.forget_known();

    EXPECT_EQ(look(9s), TopicState::kRefused);
    EXPECT_EQ(look(10s), TopicState::kThere);
}

TEST_F(KnownTopicsTest, AwaitedAreThoseThatAreNeitherFoundNorGivenUp) {
    look(0ms, "a");
    look(5s, "b");

    EXPECT_THAT(watch_.awaited(start_ + 6s), ElementsAre("a", "b"));
    EXPECT_THAT(watch_.awaited(start_ + 11s), ElementsAre("b"));
    answer_.partition_count = 1;
    EXPECT_THAT(watch_.awaited(start_ + 12s), IsEmpty());
}

TEST_F(KnownTopicsTest, ARefusedTopicIsToldFromAMissingOne) {
    answer_.is_refused = true;

    for (auto at = 0s; at < 10s; at += 1s) EXPECT_EQ(look(at), TopicState::kAwaited);
    EXPECT_EQ(look(10s), TopicState::kRefused);
}

TEST_F(KnownTopicsTest, ANameThatNoTopicCanHaveIsNotAskedFor) {
    EXPECT_EQ(look(0ms, "no topic"), TopicState::kInvalid);
    EXPECT_EQ(asked_count_, 0);
}

// PROTOCOL 5.1: lanes that change hands do not wait for it in turn; a retry later on does.
TEST_F(KnownTopicsTest, OnlyAnOldMissGetsItsGraceAnew) {
    for (auto at = 0s; at <= 10s; at += 1s) look(at);
    watch_.forget_old_misses(start_ + 11s);
    EXPECT_EQ(look(11s), TopicState::kMissing);

    watch_.forget_old_misses(start_ + 13s);

    EXPECT_EQ(look(13s), TopicState::kAwaited);
}

TEST_F(KnownTopicsTest, WhatWasKnownIsAskedForAgainOnceForgotten) {
    answer_.partition_count = 4;
    look(0ms);
    answer_.partition_count = 6;
    watch_.forget_known();

    look(1s);

    EXPECT_EQ(watch_.partition_count("orders"), 6);
}

}  // namespace
}  // namespace millrace::test
