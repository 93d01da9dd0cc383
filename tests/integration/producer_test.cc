#include "core/kafka/producer.h"

#include <gtest/gtest.h>

#include <chrono>
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
    ProducerTest() { create_topic(topic_, 1); }

    void publish(kafka::Producer& producer, const std::string& value) const {
        producer.begin();
        producer.produce({.topic = topic_, .partition = 0, .key = "k", .value = value});
        producer.flush();
        producer.commit();
    }

    std::string id() const { return topic_ + ".id"; }

    kafka::Reaper reaper_;
    const std::string topic_ = fresh_name("producer");
};

TEST_F(ProducerTest, CommittedRecordIsSeen) {
    kafka::Producer producer(kafka_options(), id(), reaper_);
    producer.init(20s);

    publish(producer, "v");

    const std::vector<SeenRecord> seen = read_topic(topic_);
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_EQ(seen[0].key, "k");
    EXPECT_EQ(seen[0].value, "v");
}

TEST_F(ProducerTest, EmptyValueIsNoTombstoneAndAMissingOneIs) {
    kafka::Producer producer(kafka_options(), id(), reaper_);
    producer.init(20s);
    producer.begin();
    producer.produce({.topic = topic_, .partition = 0, .key = "", .value = ""});
    producer.produce({.topic = topic_, .partition = 0, .key = "k", .value = std::nullopt});
    producer.flush();
    producer.commit();

    const std::vector<SeenRecord> seen = read_topic(topic_);

    ASSERT_EQ(seen.size(), 2U);
    EXPECT_EQ(seen[0].key, "");
    EXPECT_EQ(seen[0].value, "");
    EXPECT_EQ(seen[1].value, std::nullopt);
}

// PROTOCOL 4.2: the new owner's init fences the old one and ends what it had open.
TEST_F(ProducerTest, OldOneIsFencedByTheInitOfANewOne) {
    kafka::Producer old(kafka_options(), id(), reaper_);
    old.init(20s);
    old.begin();
    old.produce({.topic = topic_, .partition = 0, .key = "k", .value = "of the old one"});
    old.flush();
    kafka::Producer fresh(kafka_options(), id(), reaper_);
    fresh.init(20s);

    const Failure failure = failure_of([&] { old.commit(); });

    EXPECT_EQ(failure.kind(), FailureKind::kLost);
    EXPECT_EQ(failure.reason(), "kafka_fenced");
    publish(fresh, "of the new one");
    const std::vector<SeenRecord> seen = read_topic(topic_);
    ASSERT_EQ(seen.size(), 1U);
    EXPECT_EQ(seen[0].value, "of the new one");
}

TEST_F(ProducerTest, RecordThatTheTopicRefusesForItsSizeIsPoison) {
    set_topic_config(topic_, "max.message.bytes", "1000");
    kafka::Producer producer(kafka_options(), id(), reaper_);
    producer.init(20s);
    std::string large;
    for (int i = 0; i < 500; ++i) large += Uuid::random().text();

    const Failure failure = failure_of([&] { publish(producer, large); });

    EXPECT_EQ(failure.kind(), FailureKind::kPoison);
    EXPECT_EQ(failure.reason(), "task_too_large");
    ASSERT_TRUE(producer.delivery_error());
    EXPECT_EQ(producer.delivery_error()->topic, topic_);
}

// PROTOCOL 3.7.
TEST_F(ProducerTest, CleanTransactionsLeaveItUntainted) {
    kafka::Producer producer(kafka_options(), id(), reaper_);
    producer.init(20s);

    for (int i = 0; i < 20; ++i) {
        publish(producer, "v");
        ASSERT_FALSE(producer.is_tainted()) << "after transaction " << i;
    }
}

// PROTOCOL 3.7: an answer that carries an error is one of the requests that librdkafka repeats
// unseen.
TEST_F(ProducerTest, RefusedRecordTaintsIt) {
    set_topic_config(topic_, "max.message.bytes", "1000");
    kafka::Producer producer(kafka_options(), id(), reaper_);
    producer.init(20s);
    std::string large;
    for (int i = 0; i < 500; ++i) large += Uuid::random().text();
    failure_of([&] { publish(producer, large); });

    EXPECT_TRUE(producer.is_tainted());
}

// PROTOCOL 3.5.
TEST_F(ProducerTest, PairIsUsedInTurn) {
    Installation installation;
    installation.prefix = topic_;
    ProducerPair pair(kafka_options(), installation, reaper_);
    pair.init(0, {topic_}, 20s);
    bool was_replaced = true;

    kafka::Producer& first = pair.next(was_replaced);
    publish(first, "1");
    EXPECT_FALSE(was_replaced);
    kafka::Producer& second = pair.next(was_replaced);
    publish(second, "2");
    kafka::Producer& third = pair.next(was_replaced);
    publish(third, "3");

    EXPECT_NE(&first, &second);
    EXPECT_EQ(&first, &third);
    EXPECT_EQ(read_topic(topic_).size(), 3U);
}

// PROTOCOL 4.2: whichever of the two the predecessor was using.
TEST_F(ProducerTest, PairFencesBothOfItsPredecessor) {
    Installation installation;
    installation.prefix = topic_;
    ProducerPair old(kafka_options(), installation, reaper_);
    old.init(0, {topic_}, 20s);
    bool was_replaced = false;
    kafka::Producer& a = old.next(was_replaced);
    a.begin();
    a.produce({.topic = topic_, .partition = 0, .key = "k", .value = "a"});
    a.flush();
    kafka::Producer& b = old.next(was_replaced);
    b.begin();
    b.produce({.topic = topic_, .partition = 0, .key = "k", .value = "b"});
    b.flush();

    ProducerPair fresh(kafka_options(), installation, reaper_);
    fresh.init(0, {topic_}, 20s);

    EXPECT_EQ(failure_of([&] { a.commit(); }).reason(), "kafka_fenced");
    EXPECT_EQ(failure_of([&] { b.commit(); }).reason(), "kafka_fenced");
    EXPECT_EQ(count_records(topic_), 0U);
}

}  // namespace
}  // namespace millrace::test
