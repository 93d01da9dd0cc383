// Why relays share the outbox by publishers and lanes, and never row by row (PROTOCOL 9.5).

#include <gtest/gtest.h>

#include <string>

#include "tests/support/database.h"
#include "tests/support/outbox_run.h"

namespace millrace::test {
namespace {

// What a textbook relay runs: the oldest row that nobody else holds.
constexpr std::string_view kTakeRow = R"(
    DELETE FROM millrace.pending_tasks
    WHERE (lane, id) IN (SELECT lane, id FROM millrace.pending_tasks
                         ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING event_id::text)";

// A relay that locks rows: takes one, publishes it, commits.
class RowLocker {
  public:
    RowLocker(OutboxRun& run, Database& database) : run_(run), session_(database.connect()) {}

    void take() {
        session_.execute("BEGIN");
        const pg::Result row = session_.execute(kTakeRow);
        ASSERT_EQ(row.row_count(), 1);
        event_id_ = row.text(0, 0);
    }
    void publish() {
        run_.publish({{run_.name(), event_id_}});
        session_.execute("COMMIT");
    }

  private:
    OutboxRun& run_;
    pg::Session session_;
    std::string event_id_;
};

class SkipLocked : public testing::Test {
  protected:
    SkipLocked() {
        pg::Session writer = database_.connect();
        const std::string& key = run_.keys(0).front();
        for (int i = 0; i < 2; ++i) {
            writer.execute("BEGIN");
            lock_key(writer, key);
            write_tasks(run_, writer, key, 1, Shape::kSingleRows);
            writer.execute("COMMIT");
        }
    }

    Database database_;
    OutboxRun run_{database_};
};

// One key, two tasks, two relays. The second relay skips what the first one holds, and is quicker.
TEST_F(SkipLocked, OnRowsLetsALaterTaskOvertakeAnEarlierOne) {
    RowLocker slow(run_, database_);
    RowLocker quick(run_, database_);

    slow.take();
    quick.take();
    quick.publish();
    slow.publish();

    const Verdict verdict = run_.verdict();
    EXPECT_EQ(verdict.reordered_count, 1) << verdict.text();
    EXPECT_EQ(verdict.lost_count + verdict.doubled_count + verdict.phantom_count, 0);
}

// The control: what reorders is the second relay, not the statement.
TEST_F(SkipLocked, OnRowsByOneRelayKeepsTheOrder) {
    RowLocker relay(run_, database_);

    for (int i = 0; i < 2; ++i) {
        relay.take();
        relay.publish();
    }

    const Verdict verdict = run_.verdict();
    EXPECT_TRUE(verdict.is_clean()) << verdict.text();
    EXPECT_EQ(verdict.task_count, 2);
}

}  // namespace
}  // namespace millrace::test
