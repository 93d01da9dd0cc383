#include "core/kafka/producer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "core/failure.h"
#include "relay/producer_pair.h"
#include "tests/support/broker.h"
#include "tests/support/failures.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

class ProducerTest : public testing::Test {
  protected:
    ProducerTest() {
        installation_.prefix = topic_;
        create_topic(topic_, 1);
    }

    // The next owner of the one transactional id that these tests have.
    std::unique_ptr<kafka::Producer> start() {
        auto producer = std::make_unique<kafka::Producer>(kafka_options(), topic_ + ".id", reaper_);
        producer->init(20s);
        return producer;
    }

    // All that comes before the commit.
    void leave_open(kafka::Producer& producer, const std::string& value) const {
        producer.begin();
        producer.produce({.topic = topic_, .partition = 0, .key = "k", .value = value});
        producer.flush();
    }

    void publish(kafka::Producer& producer, const std::string& value) const {
        leave_open(producer, value);
        producer.commit();
    }

    // Above what the topic takes from now on, however well it is compressed.
    std::string too_large() const {
        set_topic_config(topic_, "max.message.bytes", "1000");
        std::string value;
        for (int i = 0; i < 500; ++i) value += Uuid::random().text();
        return value;
    }

    kafka::Reaper reaper_;
    const std::string topic_ = fresh_name("producer");
    Installation installation_;
};

TEST_F(ProducerTest, CommittedRecordIsSeen) {
    const auto producer = start();

    publish(*producer, "v");

    const std::vector<SeenRecord> seen = read_topic(topic_);
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_EQ(seen[0].key, "k");
    EXPECT_EQ(seen[0].value, "v");
}

TEST_F(ProducerTest, EmptyValueIsNoTombstoneAndAMissingOneIs) {
    const auto producer = start();
    producer->begin();
    producer->produce({.topic = topic_, .partition = 0, .key = "", .value = ""});
    producer->produce({.topic = topic_, .partition = 0, .key = "k", .value = std::nullopt});
    producer->flush();
    producer->commit();

    const std::vector<SeenRecord> seen = read_topic(topic_);

    ASSERT_EQ(seen.size(), 2U);
    EXPECT_EQ(seen[0].key, "");
    EXPECT_EQ(seen[0].value, "");
    EXPECT_EQ(seen[1].value, std::nullopt);
}

// PROTOCOL 4.2: the new owner's init fences the old one and ends what it had open.
TEST_F(ProducerTest, OldOneIsFencedByTheInitOfANewOne) {
    const auto old = start();
    leave_open(*old, "of the old one");
    const auto fresh = start();

    const Failure failure = failure_of([&] { old->commit(); });

    EXPECT_EQ(failure.kind(), FailureKind::kLost);
    EXPECT_EQ(failure.reason(), "kafka_fenced");
    publish(*fresh, "of the new one");
    const std::vector<SeenRecord> seen = read_topic(topic_);
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_EQ(seen[0].value, "of the new one");
}

TEST_F(ProducerTest, RecordThatTheTopicRefusesForItsSizeIsPoison) {
    const std::string large = too_large();
    const auto producer = start();

    const Failure failure = failure_of([&] { publish(*producer, large); });

    EXPECT_EQ(failure.kind(), FailureKind::kPoison);
    EXPECT_EQ(failure.reason(), "task_too_large");
    EXPECT_NE(std::string(failure.what()).find(topic_), std::string::npos);
}

// In a large claim the refusal comes while the rest is still being produced. Without its name the
// batch would not be halved, and be tried for ever.
TEST_F(ProducerTest, RefusalIsNamedByTheProduceThatComesAfterIt) {
    const std::string large = too_large();
    const auto producer = start();
    producer->begin();
    producer->produce({.topic = topic_, .partition = 0, .key = "k", .value = large});

    const Failure failure = failure_of([&] {
        for (;;) {
            producer->produce({.topic = topic_, .partition = 0, .key = "k", .value = "small"});
        }
    });

    EXPECT_EQ(failure.kind(), FailureKind::kPoison) << failure.what();
    EXPECT_EQ(failure.reason(), "task_too_large");
}

// PROTOCOL 3.7.
TEST_F(ProducerTest, CleanTransactionsLeaveItUntainted) {
    const auto producer = start();

    for (int i = 0; i < 20; ++i) {
        publish(*producer, "v");
        ASSERT_FALSE(producer->is_tainted()) << "after transaction " << i;
    }
}

// PROTOCOL 3.7: an answer that carries an error is one of the requests that librdkafka repeats
// unseen.
TEST_F(ProducerTest, RefusedRecordTaintsIt) {
    const std::string large = too_large();
    const auto producer = start();
    failure_of([&] { publish(*producer, large); });

    EXPECT_TRUE(producer->is_tainted());
}

// A publisher that has written to many topics must not stand still for them.
TEST_F(ProducerTest, LimitOfTheWarmUpLeavesTheOtherTopics) {
    const std::vector<std::string> topics(20'000, topic_);
    kafka::Producer producer(kafka_options(), topic_ + ".id", reaper_);

    producer.warm_up(topics, 1s);

    producer.init(20s);
    publish(producer, "1");
    EXPECT_EQ(read_topic(topic_).size(), 1U);
}

// PROTOCOL 3.5.
TEST_F(ProducerTest, PairIsUsedInTurn) {
    ProducerPair pair(kafka_options(), installation_, reaper_);
    pair.init(0, {topic_}, 20s);

    const auto [first, was_replaced] = pair.next();
    publish(first, "1");
    EXPECT_FALSE(was_replaced);
    kafka::Producer& second = pair.next().producer;
    publish(second, "2");
    kafka::Producer& third = pair.next().producer;
    publish(third, "3");

    EXPECT_NE(&first, &second);
    EXPECT_EQ(&first, &third);
    EXPECT_EQ(read_topic(topic_).size(), 3U);
}

// PROTOCOL 3.7.
TEST_F(ProducerTest, PairReplacesATaintedOneBeforeItsNextTurn) {
    const std::string large = too_large();
    ProducerPair pair(kafka_options(), installation_, reaper_);
    pair.init(0, {topic_}, 20s);
    kafka::Producer& tainted = pair.next().producer;
    failure_of([&] { publish(tainted, large); });
    ASSERT_TRUE(tainted.is_tainted());

    const auto other = pair.next();
    publish(other.producer, "1");
    EXPECT_FALSE(other.was_replaced);
    const auto replacement = pair.next();
    publish(replacement.producer, "2");
    EXPECT_TRUE(replacement.was_replaced);

    EXPECT_EQ(read_topic(topic_).size(), 2U);
}

// PROTOCOL 4.2: whichever of the two the predecessor was using.
TEST_F(ProducerTest, PairFencesBothOfItsPredecessor) {
    ProducerPair old(kafka_options(), installation_, reaper_);
    old.init(0, {topic_}, 20s);
    kafka::Producer& a = old.next().producer;
    leave_open(a, "a");
    kafka::Producer& b = old.next().producer;
    leave_open(b, "b");

    ProducerPair fresh(kafka_options(), installation_, reaper_);
    fresh.init(0, {topic_}, 20s);

    EXPECT_EQ(failure_of([&] { a.commit(); }).reason(), "kafka_fenced");
    EXPECT_EQ(failure_of([&] { b.commit(); }).reason(), "kafka_fenced");
    EXPECT_EQ(count_records(topic_), 0U);
}

}  // namespace
}  // namespace millrace::test
