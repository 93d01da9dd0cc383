#include "relay/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "schema/ledger_record.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"
#include "tests/support/failures.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr ClaimLimits kNoLimit{.task_count = 1000, .byte_count = 1 << 30};

std::vector<int64_t> ids_of(const Claim& claim) {
    std::vector<int64_t> ids;
    for (const Task& task : claim.tasks) ids.push_back(task.id);
    return ids;
}

std::vector<int64_t> ascending(int64_t first, int64_t last) {
    std::vector<int64_t> ids;
    for (int64_t id = first; id <= last; ++id) ids.push_back(id);
    return ids;
}

// Publisher 0 owns all four lanes, as far as its claims are concerned.
class OutboxTest : public testing::Test {
  protected:
    // Tasks with ids that go on from the last, each key in a lane of its own choosing.
    void insert(int count) {
        writer_.execute(
            "INSERT INTO millrace.pending_tasks (topic, key, task_type, payload) "
            "SELECT 't', 'k' || i, 'T', '{}' FROM generate_series(1, $1::int) AS i ORDER BY i",
            pg::Params().int4(count));
    }

    Claim claim(ClaimLimits limits = kNoLimit) { return outbox_.claim(state_, floor_, limits); }

    // The failure of a claim, whose transaction stays open.
    Failure refused_claim() {
        return failure_of([&] { claim(); });
    }

    // Ends the claim as a publisher does once Kafka has it.
    void confirm(const Claim& claim) {
        session_.commit();
        state_.seq = claim.seq;
        floor_.claimed(claim.snapshot, claim.xid, claim.sequence_value, claim.tasks.back().id);
    }

    // Claims until the floor stands right below the newest id.
    void raise_floor() {
        for (int i = 0; i < 3; ++i) {
            insert(1);
            confirm(claim());
        }
        floor_.found_nothing(outbox_.probe(state_.lanes, floor_).snapshot);
    }

    int64_t pending_count() {
        return writer_.execute("SELECT count(*) FROM millrace.pending_tasks").integer(0, 0);
    }

    Database database_{4};
    pg::Session writer_ = database_.connect();
    pg::Session session_{{.url = database_.url(),
                          .password = "",
                          .application_name = "millrace relay",
                          .settings = Outbox::session_settings()}};
    Outbox outbox_{session_};
    Floor floor_;
    PublisherState state_{.number = 0,
                          .epoch = 0,
                          .version = 0,
                          .seq = 0,
                          .generation = 1,
                          .lanes = {0, 1, 2, 3}};
};

// PROTOCOL 3.3: one stream over all lanes.
TEST_F(OutboxTest, ClaimTakesTheOldestOfAllLanesInIdOrder) {
    insert(100);

    const Claim claimed = claim({.task_count = 30, .byte_count = 1 << 30});

    EXPECT_EQ(ids_of(claimed), ascending(1, 30));
    std::set<int16_t> lanes;
    for (const Task& task : claimed.tasks) lanes.insert(task.lane);
    EXPECT_EQ(lanes.size(), 4U);
}

// PROTOCOL 3.3.
TEST_F(OutboxTest, ClaimTakesNothingFromALaneOfAnother) {
    insert(100);
    state_.lanes = {0, 2};

    const Claim claimed = claim();

    for (const Task& task : claimed.tasks) EXPECT_TRUE(task.lane == 0 || task.lane == 2);
    EXPECT_EQ(static_cast<int64_t>(claimed.tasks.size()),
              writer_
                  .execute("SELECT count(*) FROM millrace.pending_tasks WHERE lane IN (0, 2)")
                  .integer(0, 0));
}

// PROTOCOL 3.3: prepared anew when the number of lanes changes.
TEST_F(OutboxTest, ClaimFollowsAChangedNumberOfLanes) {
    insert(100);
    state_.lanes = {0};
    claim();
    session_.rollback();
    state_.lanes = {0, 1, 2, 3};

    EXPECT_EQ(ids_of(claim()), ascending(1, 100));
}

TEST_F(OutboxTest, ClaimIsCutByBytes) {
    for (int i = 0; i < 10; ++i) {
        writer_.execute("INSERT INTO millrace.pending_tasks (topic, key, task_type, payload_bytes) "
                        "VALUES ('t', 'k', 'T', convert_to(repeat('x', 1000), 'UTF8'))");
    }

    // The fourth begins below the limit, the fifth does not.
    EXPECT_EQ(ids_of(claim({.task_count = 1000, .byte_count = 3500})), ascending(1, 4));
}

TEST_F(OutboxTest, ClaimTakesOneTaskThatIsLargerThanTheLimit) {
    insert(1);
    writer_.execute("INSERT INTO millrace.pending_tasks (topic, key, task_type, payload_bytes) "
                    "VALUES ('t', 'k', 'T', convert_to(repeat('x', 1000), 'UTF8'))");

    EXPECT_EQ(ids_of(claim({.task_count = 1000, .byte_count = 1})), ascending(1, 1));
}

TEST_F(OutboxTest, ClaimReturnsWhatTheWriterGave) {
    writer_.execute(R"(
        INSERT INTO millrace.pending_tasks (event_id, topic, key, task_type, tenant_id, actor_id,
            payload, headers, created_at)
        VALUES ('0190b2f0-7a3c-7def-8123-456789abcdef', 'shop.orders', 'o-1', 'OrderPlaced', 'acme',
            'jo', '{"b":  1.10}', '{"traceparent": "00-ab"}', '2024-07-15 12:34:56.000789+00'))");
    writer_.execute("INSERT INTO millrace.pending_tasks (topic, task_type, payload_bytes) "
                    "VALUES ('shop.orders', 'Blob', '\\x00ff')");
    writer_.execute("INSERT INTO millrace.pending_tasks (topic, task_type) VALUES ('t', 'Gone')");

    const Claim claimed = claim();

    ASSERT_EQ(claimed.tasks.size(), 3U);
    const Task& whole = claimed.tasks[0];
    EXPECT_EQ(whole.event_id.text(), "0190b2f0-7a3c-7def-8123-456789abcdef");
    EXPECT_EQ(whole.topic, "shop.orders");
    EXPECT_EQ(whole.key, "o-1");
    EXPECT_EQ(whole.task_type, "OrderPlaced");
    EXPECT_EQ(whole.tenant_id, "acme");
    EXPECT_EQ(whole.actor_id, "jo");
    EXPECT_EQ(whole.payload, R"({"b":  1.10})");
    EXPECT_FALSE(whole.payload_is_bytes);
    EXPECT_EQ(whole.headers, R"({"traceparent": "00-ab"})");
    EXPECT_EQ(whole.created_at_us, 1'721'046'896'000'789);
    EXPECT_EQ(claimed.tasks[1].payload, std::string_view("\x00\xff", 2));
    EXPECT_TRUE(claimed.tasks[1].payload_is_bytes);
    EXPECT_EQ(claimed.tasks[1].key, std::nullopt);
    EXPECT_EQ(claimed.tasks[2].payload, std::nullopt);
}

// PROTOCOL 3.3: a row that changes while the claim waits for it is skipped, and a later one of its
// key would overtake it.
TEST_F(OutboxTest, ClaimIsTornByARivalThatUpdatesARow) {
    insert(10);
    pg::Transaction rival(writer_);
    rival.execute("UPDATE millrace.pending_tasks SET topic = 'other' WHERE id = 3");
    pg::Session watcher = database_.connect();
    Claim claimed;

    std::jthread claiming([&] { claimed = claim(); });
    ASSERT_TRUE(eventually(2s, [&] {
        return watcher
                   .execute("SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted",
                            pg::Params().int4(session_.backend_pid()))
                   .integer(0, 0) > 0;
    }));
    rival.commit();
    claiming.join();

    EXPECT_TRUE(claimed.is_torn);
    session_.rollback();
    EXPECT_EQ(ids_of(claim()), ascending(1, 10));
}

TEST_F(OutboxTest, ClaimOfAllThatItSelectedIsNotTorn) {
    insert(10);

    EXPECT_FALSE(claim().is_torn);
}

// PROTOCOL 6.4: a writer that commits after the floor has passed its ids.
TEST_F(OutboxTest, LateCommitterIsFoundByTheProbe) {
    pg::Session late = database_.connect();
    pg::Transaction open(late);
    open.execute("INSERT INTO millrace.pending_tasks (topic, task_type) VALUES ('t', 'Late')");
    raise_floor();
    ASSERT_GT(floor_.floor(), 1);
    ASSERT_FALSE(outbox_.probe(state_.lanes, floor_).found);

    open.commit();

    EXPECT_TRUE(outbox_.probe(state_.lanes, floor_).found);
    EXPECT_EQ(ids_of(claim()), ascending(1, 1));
}

// An empty look must not burn a transaction id.
TEST_F(OutboxTest, ProbeAssignsNoTransactionId) {
    insert(1);
    pg::Transaction transaction(session_);

    EXPECT_TRUE(outbox_.probe(state_.lanes, floor_).found);

    EXPECT_TRUE(
        transaction.execute("SELECT pg_current_xact_id_if_assigned()").is_null(0, 0));
}

TEST_F(OutboxTest, ProbeSeesOnlyItsLanes) {
    insert(1);
    const auto lane = static_cast<int16_t>(
        writer_.execute("SELECT lane FROM millrace.pending_tasks").integer(0, 0));
    const auto other = static_cast<int16_t>((lane + 1) % 4);

    EXPECT_TRUE(outbox_.probe({lane}, floor_).found);
    EXPECT_FALSE(outbox_.probe({other}, floor_).found);
}

// PROTOCOL 6.5: the net under the floor.
TEST_F(OutboxTest, RowBelowTheFloorIsSeenByTheSweep) {
    raise_floor();
    ASSERT_GT(floor_.floor(), 1);
    ASSERT_EQ(outbox_.has_row_below(state_.lanes, floor_, 10s), false);

    writer_.execute("INSERT INTO millrace.pending_tasks (id, topic, task_type) "
                    "OVERRIDING SYSTEM VALUE VALUES (1, 't', 'Smuggled')");

    EXPECT_EQ(outbox_.has_row_below(state_.lanes, floor_, 10s), true);
}

// PROTOCOL 6.5: the net must not stop the work. Dead rows that an old snapshot keeps made each look
// take seconds, and nothing was published meanwhile.
TEST_F(OutboxTest, SweepBehindAnOldSnapshotIsCutShort) {
    pg::Session holder = database_.connect();
    pg::Transaction snapshot(holder);
    snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    snapshot.execute("SELECT count(*) FROM millrace.pending_tasks");
    writer_.execute("INSERT INTO millrace.pending_tasks (topic, task_type) "
                    "SELECT 't', 'Gone' FROM generate_series(1, 100000)");
    writer_.execute("DELETE FROM millrace.pending_tasks");
    raise_floor();
    ASSERT_GT(floor_.floor(), 100000);

    EXPECT_EQ(outbox_.has_row_below(state_.lanes, floor_, 1ms), std::nullopt);
    EXPECT_EQ(outbox_.has_row_below(state_.lanes, floor_, 60s), false);
    EXPECT_EQ(session_.execute("SHOW statement_timeout").text(0, 0),
              writer_.execute("SHOW statement_timeout").text(0, 0));
}

// PROTOCOL 3.2.
TEST_F(OutboxTest, ClaimAtAnOldEpochIsRefusedAsLost) {
    insert(1);
    writer_.execute("UPDATE millrace.relay_publishers SET epoch = 1 WHERE number = 0");

    const Failure failure = refused_claim();

    EXPECT_EQ(failure.kind(), FailureKind::kLost);
    EXPECT_EQ(failure.reason(), "publisher_lost");
    EXPECT_EQ(failure.sqlstate(), "MR002");
}

// PROTOCOL 3.2.
TEST_F(OutboxTest, ClaimOfAHaltedPublisherIsRefusedAsLostAndSaysWhy) {
    insert(1);
    writer_.execute("UPDATE millrace.relay_publishers SET halted = 'some_reason' WHERE number = 0");

    const Failure failure = refused_claim();

    EXPECT_EQ(failure.sqlstate(), "MR002");
    EXPECT_THAT(failure.detail(), HasSubstr("some_reason"));
}

// PROTOCOL 3.2.
TEST_F(OutboxTest, ClaimAtAnOldVersionIsRefusedAsChanged) {
    insert(1);
    writer_.execute("UPDATE millrace.relay_publishers SET version = 1 WHERE number = 0");

    const Failure failure = refused_claim();

    EXPECT_EQ(failure.kind(), FailureKind::kLost);
    EXPECT_EQ(failure.reason(), "publisher_changed");
    EXPECT_EQ(failure.sqlstate(), "MR003");
}

// PROTOCOL 3.2: in the pipeline the DELETE would else run and lock the new owner's rows.
TEST_F(OutboxTest, RefusedClaimLocksNoTask) {
    insert(3);
    writer_.execute("UPDATE millrace.relay_publishers SET epoch = 1 WHERE number = 0");
    ASSERT_EQ(refused_claim().reason(), "publisher_lost");
    ASSERT_FALSE(session_.is_idle());

    const pg::Result free =
        writer_.execute("SELECT id FROM millrace.pending_tasks FOR UPDATE SKIP LOCKED");

    EXPECT_EQ(free.row_count(), 3);
}

// PROTOCOL 3.4: seq moves only together with a ledger record.
TEST_F(OutboxTest, ClaimThatIsRolledBackLeavesSeqAndTasks) {
    insert(3);
    EXPECT_EQ(claim().seq, 1);

    session_.rollback();

    EXPECT_EQ(pending_count(), 3);
    EXPECT_EQ(claim().seq, 1);
}

// PROTOCOL 3.1: it does not wait for ever, and can name who it waited for.
TEST_F(OutboxTest, ClaimBehindALockedPublisherRowEndsAndNamesTheHolder) {
    insert(1);
    pg::Transaction holder(writer_);
    holder.execute("SELECT FROM millrace.relay_publishers WHERE number = 0 FOR UPDATE");

    const Failure failure = refused_claim();
    session_.rollback();

    EXPECT_EQ(failure.kind(), FailureKind::kTransient);
    EXPECT_EQ(failure.sqlstate(), "55P03");
    EXPECT_THAT(outbox_.blocker(), HasSubstr("pid " + std::to_string(writer_.backend_pid())));
}

// PROTOCOL 4.3: lane, id and digest of the event id, all three.
TEST_F(OutboxTest, RemoveDeletesExactlyTheTasksItIsGiven) {
    insert(5);
    const pg::Result rows =
        writer_.execute("SELECT lane, id, event_id FROM millrace.pending_tasks ORDER BY lane, id");
    std::vector<LedgerTask> tasks;
    for (int i = 0; i < rows.row_count(); ++i) {
        tasks.push_back({static_cast<int16_t>(rows.integer(i, 0)), rows.integer(i, 1),
                         digest_of(rows.uuid(i, 2))});
    }
    const LedgerTask kept = tasks[0];
    std::vector<LedgerTask> wanted = tasks;
    wanted[0].digest ^= 1;
    wanted[1].lane = static_cast<int16_t>((wanted[1].lane + 1) % 4);
    wanted[2].id += 1000;

    pg::Transaction transaction(session_);
    EXPECT_EQ(outbox_.remove(wanted), 2);
    transaction.commit();

    EXPECT_EQ(writer_
                  .execute("SELECT string_agg(id::text, ' ' ORDER BY lane, id) "
                           "FROM millrace.pending_tasks")
                  .text(0, 0),
              std::to_string(kept.id) + " " + std::to_string(tasks[1].id) + " " +
                  std::to_string(tasks[2].id));
}

TEST_F(OutboxTest, RemoveOfNothingDeletesNothing) {
    insert(5);
    pg::Transaction transaction(session_);

    EXPECT_EQ(outbox_.remove({}), 0);
}

// PROTOCOL 3.3.
TEST_F(OutboxTest, PlanOfTheClaimMergesIndexScans) {
    EXPECT_NO_THROW(outbox_.check_plan(state_.lanes));
    EXPECT_NO_THROW(outbox_.check_plan({2}));
}

// PROTOCOL 3.3: behind a million dead rows such a claim takes 65 ms instead of one.
TEST_F(OutboxTest, PlanByAnotherIndexIsRefused) {
    writer_.execute("ALTER TABLE millrace.pending_tasks DROP CONSTRAINT pending_tasks_pkey");
    writer_.execute("CREATE INDEX foreign_index ON millrace.pending_tasks (id)");

    const Failure failure = failure_of([&] { outbox_.check_plan(state_.lanes); });

    EXPECT_EQ(failure.kind(), FailureKind::kFatal);
    EXPECT_EQ(failure.reason(), "claim_plan");
}

}  // namespace
}  // namespace millrace::test
