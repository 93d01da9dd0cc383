#include "relay/backlog.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/database.h"

namespace millrace::test {
namespace {

class BacklogTest : public testing::Test {
  protected:
    void insert(int count) {
        session_.execute(
            "INSERT INTO millrace.pending_tasks (topic, task_type, created_at) "
            "SELECT 't', 'Waits', clock_timestamp() - interval '100 s' "
            "FROM generate_series(1, $1::int)",
            pg::Params().int4(count));
    }
    int64_t count(BacklogLook& look) { return look.look(session_).task_count; }

    Database database_{4};
    pg::Session session_ = database_.connect();
};

// So that only its first look is at everything.
constexpr int kNeverAgain = std::numeric_limits<int>::max();

TEST_F(BacklogTest, CountsAllLanesAndTellsTheOldest) {
    BacklogLook look;
    EXPECT_EQ(look.look(session_).oldest_age_seconds, 0);
    insert(50);

    const Backlog backlog = look.look(session_);

    EXPECT_EQ(backlog.task_count, 50);
    EXPECT_GE(backlog.oldest_age_seconds, 99);
}

TEST_F(BacklogTest, LaterLooksBeginAtTheOldestThatWaits) {
    BacklogLook look(kNeverAgain);
    insert(50);
    EXPECT_EQ(count(look), 50);
    EXPECT_EQ(count(look), 50);

    session_.execute("DELETE FROM millrace.pending_tasks WHERE id <= 20");
    EXPECT_EQ(count(look), 30);
    insert(5);
    EXPECT_EQ(count(look), 35);
    EXPECT_GE(look.look(session_).oldest_age_seconds, 99);
    session_.execute("DELETE FROM millrace.pending_tasks");
    EXPECT_EQ(count(look), 0);
    insert(7);
    EXPECT_EQ(count(look), 7);
}

// What makes them cheap behind a held snapshot, and its price.
TEST_F(BacklogTest, LaterLooksPassWhatStandsBelow) {
    BacklogLook look(kNeverAgain);
    pg::Session late = database_.connect();
    pg::Transaction open(late);
    late.execute("INSERT INTO millrace.pending_tasks (topic, task_type) VALUES ('t', 'Late')");
    insert(50);
    EXPECT_EQ(count(look), 50);
    EXPECT_EQ(count(look), 50);  // By now it knows that no id below these is given out any more.
    open.commit();

    EXPECT_EQ(count(look), 50);
    BacklogLook at_everything(0);
    EXPECT_EQ(count(at_everything), 51);
    EXPECT_EQ(count(at_everything), 51);
}

}  // namespace
}  // namespace millrace::test
