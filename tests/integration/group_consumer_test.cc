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
    // As the group knows it; empty before it is a member.
    std::string id() const {
        char* id = rd_kafka_memberid(consumer_.raw());
        const std::string copy = id == nullptr ? "" : id;
        if (id != nullptr) rd_kafka_mem_free(consumer_.raw(), id);
        return copy;
    }
    GroupConsumer& consumer() { return consumer_; }
    const GroupConsumer& consumer() const { return consumer_; }

  private:
    GroupConsumer consumer_;
    std::set<int32_t> partitions_;
};

struct SeenGroup {
    std::string state;
    std::set<std::string> members;
};

SeenGroup look_at(const std::string& group, const Member& by) {
    const rd_kafka_group_list* list = nullptr;
    SeenGroup seen;
    if (rd_kafka_list_groups(by.consumer().raw(), group.c_str(), &list, 5000) !=
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return seen;
    }
    for (int i = 0; i < list->group_cnt; ++i) {
        seen.state = list->groups[i].state;
        for (int member = 0; member < list->groups[i].member_cnt; ++member) {
            seen.members.insert(list->groups[i].members[member].member_id);
        }
    }
    rd_kafka_group_list_destroy(list);
    return seen;
}

// A group with one partition: the first member has it, the second one none.
class GroupConsumerTest : public testing::Test {
  protected:
    GroupConsumerTest() {
        create_topic(topic_, 1);
        first_.emplace(topic_, 8s, reaper_);
        EXPECT_TRUE(eventually(30s, [&] {
            first_->poll();
            return first_->partition_count() == 1;
        }));
        idle_.emplace(topic_, 20s, reaper_);
        EXPECT_TRUE(eventually(30s, [&] {
            first_->poll();
            idle_->poll();
            const SeenGroup group = look_at(topic_, *first_);
            return group.state == "Stable" && group.members.size() == 2;
        }));
        // librdkafka never ends a client that is destroyed with a rebalance unanswered.
        for (int i = 0; i < 50; ++i) {
            first_->poll();
            idle_->poll();
        }
    }

    const std::string topic_ = fresh_name("group");
    kafka::Reaper reaper_;
    std::optional<Member> first_;
    std::optional<Member> idle_;
};

// PROTOCOL 7.2b: nobody waits for the session of a member that has stopped.
TEST_F(GroupConsumerTest, MemberWithoutPartitionsLeaves) {
    const std::string id = idle_->id();
    ASSERT_TRUE(look_at(topic_, *first_).members.contains(id));

    idle_->consumer().close(10s);

    EXPECT_FALSE(look_at(topic_, *first_).members.contains(id));
    first_->consumer().close(10s);
}

// PROTOCOL 7.2b: nor in the middle of a rebalance, as each member stops in turn when a fleet is
// deployed anew.
TEST_F(GroupConsumerTest, MemberWithoutPartitionsLeavesAGroupThatRebalances) {
    const std::string id = idle_->id();
    // It dies, and the rebalance that another one brings waits until it is given up.
    first_.reset();
    Member staying(topic_, 20s, reaper_);
    ASSERT_TRUE(eventually(30s, [&] {
        staying.poll();
        idle_->poll();
        return look_at(topic_, staying).state == "PreparingRebalance";
    }));
    // Its heartbeat, every two seconds, tells it so.
    for (int i = 0; i < 250; ++i) idle_->poll();
    ASSERT_TRUE(look_at(topic_, staying).members.contains(id));

    idle_->consumer().close(20s);

    EXPECT_FALSE(look_at(topic_, staying).members.contains(id));
    EXPECT_TRUE(eventually(10s, [&] {
        staying.poll();
        return staying.partition_count() == 1;
    }));
    staying.consumer().close(10s);
}

}  // namespace
}  // namespace millrace::test
