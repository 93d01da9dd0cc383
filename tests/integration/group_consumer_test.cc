#include "consumers/group_consumer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <set>
#include <string>

#include "tests/support/broker.h"
#include "tests/support/eventually.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

// One member, and the partitions that it has.
class Member {
  public:
    Member(const std::string& topic, std::chrono::milliseconds session_timeout,
           kafka::Reaper& reaper)
        : consumer_({.kafka = kafka_options(),
                     .group = topic,
                     .topics = {topic},
                     .session_timeout = session_timeout},
                    reaper) {}

    void poll() {
        consumer_.poll(10ms);
        for (const AssignmentChange& change : consumer_.take_changes()) {
            if (change.is_gained) {
                partitions_.insert(change.where.partition);
            } else {
                partitions_.erase(change.where.partition);
            }
        }
    }
    size_t partition_count() const { return partitions_.size(); }
    GroupConsumer& consumer() { return consumer_; }

  private:
    GroupConsumer consumer_;
    std::set<int32_t> partitions_;
};

// PROTOCOL 7.2b: a member that stops in the middle of a rebalance, as each does in turn when a
// fleet is deployed anew, must not keep the others waiting until its session ends.
TEST(GroupConsumer, LeavesAGroupThatRebalances) {
    const std::string topic = fresh_name("group");
    create_topic(topic, 1);
    kafka::Reaper reaper;
    // It dies, and the rebalance that the third one brings waits until it is given up.
    std::optional<Member> dying(std::in_place, topic, 8s, reaper);
    ASSERT_TRUE(eventually(30s, [&] {
        dying->poll();
        return dying->partition_count() == 1;
    }));
    // It has no partition, and librdkafka lets such a member go without a word to the group.
    Member stopping(topic, 30s, reaper);
    for (const bool is_joining : {true, false}) {
        ASSERT_TRUE(eventually(30s, [&] {
            dying->poll();
            stopping.poll();
            return stopping.consumer().is_joining() == is_joining;
        }));
    }
    dying.reset();
    Member staying(topic, 30s, reaper);
    ASSERT_TRUE(eventually(30s, [&] {
        stopping.poll();
        return stopping.consumer().is_joining();
    }));

    stopping.consumer().close(20s);

    EXPECT_TRUE(eventually(15s, [&] {
        staying.poll();
        return staying.partition_count() == 1;
    }));
}

}  // namespace
}  // namespace millrace::test
