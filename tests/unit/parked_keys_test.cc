#include "relay/parked_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A task of lane 3; a key that is empty: none.
Task task(int64_t id, std::string_view topic, std::string_view key) {
    Task made;
    made.lane = 3;
    made.id = id;
    made.topic = topic;
    if (!key.empty()) made.key = key;
    return made;
}

Task dead(int64_t id, std::string_view topic, std::string_view key, int64_t queue) {
    Task made = task(id, topic, key);
    made.was_dead = true;
    made.queue = queue;
    return made;
}

std::vector<int64_t> ids(const std::vector<Task>& tasks) {
    std::vector<int64_t> found;
    for (const Task& each : tasks) found.push_back(each.id);
    return found;
}

// "id reason queue" of each.
std::vector<std::string> shown(const Parking& parking) {
    std::vector<std::string> all;
    for (const DeadEntry& entry : parking.entries) {
        all.push_back(std::to_string(entry.task.id) + " " + entry.reason + " " +
                      (entry.queue ? std::to_string(*entry.queue) : "-"));
    }
    return all;
}

const TopicFaults kGone{{"gone", {"topic_missing", "'gone' does not exist"}}};

class ParkTest : public testing::Test {
  protected:
    Parking park(const TopicFaults& faults = {}, std::set<QueueName> emptied = {}) {
        return millrace::park(tasks_, parked_, std::move(emptied), options_, faults);
    }

    std::vector<Task> tasks_;
    ParkedKeys parked_;
    UnpublishableOptions options_;
};

// PROTOCOL 5.1: the scope is topic and key.
TEST_F(ParkTest, LaterTasksOfAParkedKeyQueueBehindItAndNoOthers) {
    parked_.add("a", "k", {3, 1});
    tasks_ = {task(2, "a", "k"), task(3, "b", "k"), task(4, "a", "l"), task(5, "a", "k"),
              task(6, "a", "")};

    EXPECT_THAT(shown(park()), ElementsAre("2 queued_behind 1", "5 queued_behind 1"));
    EXPECT_THAT(ids(tasks_), ElementsAre(3, 4, 6));
}

TEST_F(ParkTest, TheFirstTaskOfAMissingTopicBeginsTheQueueOfItsKey) {
    tasks_ = {task(1, "gone", "k"), task(2, "gone", "l"), task(3, "gone", "k"), task(4, "a", "k"),
              task(5, "gone", "")};

    EXPECT_THAT(shown(park(kGone)),
                ElementsAre("1 topic_missing 1", "2 topic_missing 2", "3 queued_behind 1",
                            "5 topic_missing -"));
    EXPECT_THAT(ids(tasks_), ElementsAre(4));
}

TEST_F(ParkTest, PolicyDeadLetterSetsEachTaskAsideByItself) {
    options_.by_topic.emplace("gone", OnUnpublishable::kDeadLetter);
    tasks_ = {task(1, "gone", "k"), task(2, "gone", "k")};

    EXPECT_THAT(shown(park(kGone)), ElementsAre("1 topic_missing -", "2 topic_missing -"));
}

// PROTOCOL 5.2: a key is free in the transaction that empties its queue, and not before.
TEST_F(ParkTest, AKeyIsFreeInTheTransactionThatEmptiesItsQueue) {
    parked_.add("a", "k", {3, 1});
    parked_.add("a", "l", {3, 2});
    tasks_ = {dead(1, "a", "k", 1), dead(2, "a", "l", 2), task(7, "a", "k"), task(8, "a", "l")};

    const Parking parking = park({}, {{3, 1}});
    EXPECT_THAT(shown(parking), ElementsAre("8 queued_behind 2"));
    EXPECT_THAT(ids(tasks_), ElementsAre(1, 2, 7));

    parking.apply_to(parked_);
    EXPECT_FALSE(parked_.find("a", "k"));
    EXPECT_EQ(parked_.find("a", "l"), (QueueName{3, 2}));
}

// Else the tasks that follow would overtake the one that begins the new queue.
TEST_F(ParkTest, AQueueThatIsEmptiedMayBeFollowedByANewOne) {
    parked_.add("gone", "k", {3, 1});
    tasks_ = {dead(1, "gone", "k", 1), task(7, "gone", "k"), task(8, "gone", "k")};

    const Parking parking = park(kGone, {{3, 1}});
    EXPECT_THAT(shown(parking), ElementsAre("7 topic_missing 7", "8 queued_behind 7"));

    parking.apply_to(parked_);
    EXPECT_EQ(parked_.find("gone", "k"), (QueueName{3, 7}));
}

TEST_F(ParkTest, NothingIsParkedBeforeItsTransactionIsCommitted) {
    tasks_ = {task(1, "gone", "k")};

    park(kGone);

    EXPECT_TRUE(parked_.is_empty());
}

TEST_F(ParkTest, ATaskWithoutAKeyParksNothing) {
    tasks_ = {task(1, "gone", "")};

    const Parking parking = park(kGone);
    parking.apply_to(parked_);

    EXPECT_THAT(tasks_, IsEmpty());
    EXPECT_TRUE(parked_.is_empty());
}

TEST(Unpublishable, ATopicsOwnPolicyWins) {
    UnpublishableOptions options{.policy = OnUnpublishable::kHaltLane};
    options.by_topic.emplace("shop.orders", OnUnpublishable::kParkKey);

    EXPECT_EQ(options.policy_of("shop.orders"), OnUnpublishable::kParkKey);
    EXPECT_EQ(options.policy_of("shop"), OnUnpublishable::kHaltLane);
}

// PROTOCOL 5.1.
TEST(Unpublishable, CopiesOfDeadLettersHoldUpNothing) {
    UnpublishableOptions options{.policy = OnUnpublishable::kHaltLane};
    options.by_topic.emplace("a.b.dlq", OnUnpublishable::kHaltLane);

    EXPECT_EQ(options.policy_of("a.b.dlq"), OnUnpublishable::kDeadLetter);
    EXPECT_EQ(options.policy_of("a.dlq.b"), OnUnpublishable::kHaltLane);
}

}  // namespace
}  // namespace millrace::test
