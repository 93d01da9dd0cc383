// Which waiting task a published record was (PROTOCOL 4.6).

#include "relay/waiting_tasks.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

using namespace std::chrono_literals;

const Uuid kEvent = *Uuid::parse("0190b2f0-0000-7000-8000-000000000001");
const Uuid kOther = *Uuid::parse("0190b2f0-0000-7000-8000-000000000002");

WaitingTask task(int64_t id, const std::string& topic, std::chrono::milliseconds created_at,
                 const Uuid& event = kEvent) {
    return {.id = {.lane = 3, .id = id, .event_id = event},
            .topic = topic,
            .created_at = created_at};
}

std::optional<int64_t> taken(WaitingTasks& waiting, const std::string& topic,
                             std::optional<std::chrono::milliseconds> time,
                             const Uuid& event = kEvent) {
    const auto found = waiting.take({.topic = topic, .event_id = event, .created_at = time});
    return found ? std::optional(found->id) : std::nullopt;
}

TEST(WaitingTasks, AreFoundByTopicEventAndTime) {
    WaitingTasks waiting;
    waiting.add(task(7, "orders", 1000ms));

    EXPECT_EQ(taken(waiting, "payments", 1000ms), std::nullopt);
    EXPECT_EQ(taken(waiting, "orders", 1000ms, kOther), std::nullopt);
    EXPECT_EQ(taken(waiting, "orders", 1001ms), std::nullopt);
    EXPECT_EQ(waiting.size(), 1U);
    EXPECT_EQ(taken(waiting, "orders", 1000ms), 7);
    EXPECT_EQ(waiting.size(), 0U);
}

// An application publishes one event to two topics, and only one of them was written.
TEST(WaitingTasks, OfOneEventOnTwoTopicsAreTwo) {
    WaitingTasks waiting;
    waiting.add(task(7, "orders", 1000ms));
    waiting.add(task(8, "payments", 1000ms));

    EXPECT_EQ(taken(waiting, "payments", 1000ms), 8);
    EXPECT_EQ(waiting.size(), 1U);
}

// An id that is used again on purpose: the earlier one's record is not the later task.
TEST(WaitingTasks, ThatUseAnIdAgainAreToldApartByTheirTime) {
    WaitingTasks waiting;
    waiting.add(task(9, "orders", 5000ms));

    EXPECT_EQ(taken(waiting, "orders", 1000ms), std::nullopt);
    EXPECT_EQ(taken(waiting, "orders", 5000ms), 9);
}

TEST(WaitingTasks, AreOneForEachRecordTheOldestFirst) {
    WaitingTasks waiting;
    waiting.add(task(9, "orders", 1000ms));
    waiting.add(task(7, "orders", 1000ms));

    EXPECT_EQ(taken(waiting, "orders", 1000ms), 7);
    EXPECT_EQ(taken(waiting, "orders", 1000ms), 9);
    EXPECT_EQ(taken(waiting, "orders", 1000ms), std::nullopt);
}

// A broker that sets the times, and a task whose time the producer sets.
TEST(WaitingTasks, WhoseTimeIsNotOnTheRecordAreFoundWithoutIt) {
    WaitingTasks waiting;
    waiting.add(task(7, "orders", 1000ms));
    waiting.add(task(8, "orders", 0ms, kOther));

    EXPECT_EQ(taken(waiting, "orders", std::nullopt), 7);
    EXPECT_EQ(taken(waiting, "orders", 123ms, kOther), 8);
}

TEST(WaitingTasks, NameTheirTopicsAndTheOldestTime) {
    WaitingTasks waiting;
    EXPECT_EQ(waiting.oldest(), std::chrono::milliseconds::max());
    waiting.add(task(7, "orders", 2000ms));
    waiting.add(task(8, "payments", 1000ms));

    EXPECT_EQ(waiting.topics(), (std::vector<std::string>{"orders", "payments"}));
    EXPECT_EQ(waiting.oldest(), 1000ms);
}

}  // namespace
}  // namespace millrace
