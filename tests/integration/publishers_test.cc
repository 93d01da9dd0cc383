#include "relay/publishers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "tests/support/database.h"
#include "tests/support/eventually.h"
#include "tests/support/failures.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

constexpr int kLaneCount = 12;

class PublishersTest : public testing::Test {
  protected:
    // A member whose lease connection is `session`.
    Uuid add_member(pg::Session& session, const std::string& lease = "1 hour") {
        const Uuid instance = Uuid::random();
        session.execute(
            "INSERT INTO millrace.relay_members (instance, pid, backend_start, lease_until) "
            "SELECT $1, pid, backend_start, clock_timestamp() + $2::text::interval "
            "FROM pg_stat_activity WHERE pid = pg_backend_pid()",
            pg::Params().uuid(instance).text(lease));
        return instance;
    }

    void set_owner(int16_t number, const Uuid& owner) {
        session_.execute(
            "UPDATE millrace.relay_publishers SET owner = $2, running = true WHERE number = $1",
            pg::Params().int2(number).uuid(owner));
    }

    // Publishers 0 to count - 1 run, each with a live owner.
    void run_publishers(int count) {
        const Uuid owner = add_member(other_);
        for (int16_t number = 0; number < count; ++number) set_owner(number, owner);
    }

    void give_lanes(int16_t number, int first, int last) {
        session_.execute(
            "UPDATE millrace.relay_lanes SET publisher = $1 WHERE lane BETWEEN $2 AND $3",
            pg::Params().int2(number).int4(first).int4(last));
    }

    std::vector<int16_t> free_numbers(const std::optional<PublisherState>& mine = std::nullopt) {
        std::vector<int16_t> numbers;
        for (const FreePublisher& free : publishers_.find_free(mine)) {
            numbers.push_back(free.number);
        }
        return numbers;
    }

    FreePublisher judged(int16_t number) {
        for (const FreePublisher& free : publishers_.find_free(std::nullopt)) {
            if (free.number == number) return free;
        }
        throw std::runtime_error("not free");
    }

    std::optional<PublisherState> take(Publishers& publishers, const FreePublisher& free) {
        return publishers.take(free, Uuid::random(), session_.backend_pid(),
                               session_.backend_started());
    }

    // What the publisher should change if it owns so many lanes from the first.
    LaneShare share(int16_t number, int owned_count) {
        PublisherState state{.number = number, .lanes = {}};
        for (int16_t lane = 0; lane < owned_count; ++lane) state.lanes.push_back(lane);
        return publishers_.share_of(state);
    }

    bool waits_for_a_lock(int pid) {
        return session_
                   .execute("SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted",
                            pg::Params().int4(pid))
                   .integer(0, 0) > 0;
    }

    Database database_{kLaneCount};
    pg::Session session_ = database_.connect();
    pg::Session other_ = database_.connect();
    Publishers publishers_{session_};
};

// PROTOCOL 2.1.
TEST_F(PublishersTest, WithoutAnOwnerAreFree) {
    EXPECT_EQ(free_numbers().size(), static_cast<size_t>(kPublisherCount));
}

// PROTOCOL 2.1.
TEST_F(PublishersTest, OfALiveMemberAreNotFree) {
    set_owner(3, add_member(other_));

    EXPECT_THAT(free_numbers(), Not(Contains(3)));
}

// PROTOCOL 2.1.
TEST_F(PublishersTest, OfAnExpiredMemberAreFree) {
    set_owner(3, add_member(other_, "-1 millisecond"));

    EXPECT_THAT(free_numbers(), Contains(3));
}

// PROTOCOL 2.1, 2.2: no need to wait for the lease.
TEST_F(PublishersTest, OfAMemberWhoseBackendIsGoneAreFree) {
    {
        pg::Session leaving = database_.connect();
        set_owner(3, add_member(leaving));
    }

    EXPECT_TRUE(eventually(5s, [&] {
        const std::vector<int16_t> free = free_numbers();
        return std::find(free.begin(), free.end(), 3) != free.end();
    }));
}

// PROTOCOL 2.1.
TEST_F(PublishersTest, OfAMemberWithoutARowAreFree) {
    set_owner(3, Uuid::random());

    EXPECT_THAT(free_numbers(), Contains(3));
}

// PROTOCOL 2.2: backend_start is hidden from other roles, and hidden means alive.
TEST_F(PublishersTest, OfALiveMemberAreNotFreeForARoleThatMayNotSeeItsBackend) {
    set_owner(3, add_member(other_));
    const std::string role = "r" + Uuid::random().text().substr(0, 8);
    session_.execute("CREATE ROLE " + role);
    session_.execute("GRANT USAGE ON SCHEMA millrace TO " + role);
    session_.execute("GRANT SELECT ON ALL TABLES IN SCHEMA millrace TO " + role);
    session_.execute("SET ROLE " + role);

    const bool is_hidden =
        session_
            .execute("SELECT backend_start IS NULL FROM pg_stat_activity WHERE pid = $1",
                     pg::Params().int4(other_.backend_pid()))
            .boolean(0, 0);
    const std::vector<int16_t> free = free_numbers();
    session_.execute("RESET ROLE");
    session_.execute("DROP OWNED BY " + role);
    session_.execute("DROP ROLE " + role);

    EXPECT_TRUE(is_hidden);
    EXPECT_THAT(free, Not(Contains(3)));
}

// PROTOCOL 2.1: else it would idle for ever after an error.
TEST_F(PublishersTest, OfThisVeryThreadAreFreeAtTheEpochItRemembers) {
    set_owner(3, add_member(other_));

    EXPECT_EQ(free_numbers(PublisherState{.number = 3, .epoch = 0, .lanes = {}}).front(), 3);
    EXPECT_THAT(free_numbers(PublisherState{.number = 3, .epoch = 1, .lanes = {}}),
                Not(Contains(3)));
}

// PROTOCOL 2.3, 2.10.
TEST_F(PublishersTest, WhoseLanesWaitComeFirst) {
    give_lanes(7, 0, 1);

    EXPECT_EQ(free_numbers().front(), 7);
}

// PROTOCOL 2.3.
TEST_F(PublishersTest, ThatAreHaltedAreNotFree) {
    session_.execute("UPDATE millrace.relay_publishers SET halted = 'x' WHERE number = 3");

    EXPECT_THAT(free_numbers(), Not(Contains(3)));
}

// PROTOCOL 4.1: this program may be able to read what another could not.
TEST_F(PublishersTest, ThatAreHaltedForAnUnreadRecordAreFreeToBeTriedAgain) {
    session_.execute(
        "UPDATE millrace.relay_publishers SET halted = 'ledger_format' WHERE number = 3");

    EXPECT_TRUE(take(publishers_, judged(3)));
    EXPECT_TRUE(session_.execute("SELECT halted FROM millrace.relay_publishers WHERE number = 3")
                    .is_null(0, 0));
}

// PROTOCOL 4.3: meanwhile another settler may have found that ledger and database disagree.
TEST_F(PublishersTest, LeavingARecordUnreadLiftsNoHaltOfTheFleet) {
    const std::optional<PublisherState> taken = take(publishers_, judged(3));
    ASSERT_TRUE(taken);
    publishers_.halt_all("ledger_behind_database");

    publishers_.leave_unread(*taken, "ledger_format", Uuid::random());

    EXPECT_EQ(session_.execute("SELECT halted FROM millrace.relay_publishers WHERE number = 3")
                  .text(0, 0),
              "ledger_behind_database");
}

// PROTOCOL 2.3.
TEST_F(PublishersTest, TakeMovesTheEpochAndClearsRunning) {
    session_.execute("UPDATE millrace.relay_publishers SET running = true, epoch = 8, seq = 5, "
                     "version = 2, generation = 4 WHERE number = 3");

    const std::optional<PublisherState> taken = take(publishers_, judged(3));

    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->epoch, 9);
    EXPECT_EQ(taken->seq, 5);
    EXPECT_EQ(taken->version, 2);
    EXPECT_EQ(taken->generation, 4);
    const pg::Result row = session_.execute(
        "SELECT epoch, running, pid, owner IS NOT NULL FROM millrace.relay_publishers "
        "WHERE number = 3");
    EXPECT_EQ(row.integer(0, 0), 9);
    EXPECT_FALSE(row.boolean(0, 1));
    EXPECT_EQ(row.integer(0, 2), session_.backend_pid());
    EXPECT_TRUE(row.boolean(0, 3));
}

// PROTOCOL 2.3: judged inside the locking statement, an owner that came alive meanwhile was taken
// from.
TEST_F(PublishersTest, TakeOfOneThatMovedSinceItWasJudgedFails) {
    const FreePublisher free = judged(3);
    Publishers rival(other_);
    ASSERT_TRUE(take(rival, free));

    EXPECT_FALSE(take(publishers_, free));
}

// PROTOCOL 2.3.
TEST_F(PublishersTest, TakeOfOneThatWasHaltedSinceItWasJudgedFails) {
    const FreePublisher free = judged(3);
    session_.execute("UPDATE millrace.relay_publishers SET halted = 'x' WHERE number = 3");

    EXPECT_FALSE(take(publishers_, free));
}

// PROTOCOL 2.3: SKIP LOCKED. A take that waited would be a convoy of keepers behind one dead row.
TEST_F(PublishersTest, TakeOfALockedOneDoesNotWait) {
    const FreePublisher free = judged(3);
    pg::Transaction holder(other_);
    holder.execute("SELECT FROM millrace.relay_publishers WHERE number = 3 FOR UPDATE");
    session_.execute("SET lock_timeout = '1ms'");

    EXPECT_FALSE(take(publishers_, free));
}

// PROTOCOL 2.4.
TEST_F(PublishersTest, TerminateEndsExactlyTheSessionItIsGiven) {
    const int pid = other_.backend_pid();

    EXPECT_FALSE(publishers_.terminate(pid, other_.backend_started() + 1));
    EXPECT_NO_THROW(other_.execute("SELECT 1"));
    EXPECT_TRUE(publishers_.terminate(pid, other_.backend_started()));

    EXPECT_TRUE(eventually(5s, [&] {
        return session_
                   .execute("SELECT count(*) FROM pg_stat_activity WHERE pid = $1",
                            pg::Params().int4(pid))
                   .integer(0, 0) == 0;
    }));
}

// PROTOCOL 2.6.
TEST_F(PublishersTest, CheckTellsALostPublisherFromAChangedOne) {
    session_.execute(
        "UPDATE millrace.relay_publishers SET epoch = 5, version = 6 WHERE number = 3");
    const auto check = [&](int64_t epoch, int64_t version) {
        return sqlstate_of([&] {
            publishers_.check({.number = 3, .epoch = epoch, .version = version, .lanes = {}});
        });
    };

    EXPECT_EQ(check(5, 6), "none");
    EXPECT_EQ(check(4, 6), "MR002");
    EXPECT_EQ(check(5, 5), "MR003");
}

// PROTOCOL 2.6: held to the end of the transaction.
TEST_F(PublishersTest, CheckLocksTheRow) {
    pg::Transaction transaction(session_);
    publishers_.check({.number = 3, .epoch = 0, .version = 0, .lanes = {}});

    EXPECT_EQ(other_
                  .execute("SELECT number FROM millrace.relay_publishers WHERE number = 3 "
                           "FOR UPDATE SKIP LOCKED")
                  .row_count(),
              0);
}

// PROTOCOL 2.6, Share.
TEST_F(PublishersTest, ShareIsEvenWithOneMoreForTheFirst) {
    run_publishers(5);
    std::vector<int> shares;

    for (int16_t number = 0; number < 5; ++number) shares.push_back(share(number, 0).to_take);

    EXPECT_THAT(shares, ElementsAre(3, 3, 2, 2, 2));
}

// PROTOCOL 2.6, Share.
TEST_F(PublishersTest, AboveItsShareGivesBackTheLast) {
    run_publishers(3);

    const LaneShare wanted = share(0, 6);

    EXPECT_THAT(wanted.to_give, testing::UnorderedElementsAre(4, 5));
    EXPECT_EQ(wanted.to_take, 0);
}

// PROTOCOL 2.6, Share.
TEST_F(PublishersTest, WithItsShareChangesNothing) {
    run_publishers(3);

    EXPECT_TRUE(share(1, 4).is_settled());
}

// PROTOCOL 2.6: a paused or halted lane is let go by its owner, and is no part of the share.
TEST_F(PublishersTest, LetsHaltedAndPausedLanesGo) {
    run_publishers(2);
    give_lanes(0, 0, 5);
    session_.execute("UPDATE millrace.relay_lanes SET halted = 'x' WHERE lane = 1");
    session_.execute("UPDATE millrace.relay_lanes SET paused = true WHERE lane = 4");

    const LaneShare wanted = share(0, 6);

    EXPECT_THAT(wanted.to_give, ElementsAre(1, 4));
    EXPECT_EQ(wanted.to_take, 1);  // Ten lanes over two.
}

// PROTOCOL 2.6, Share: counting owners alone leaves lanes free that nobody may take.
TEST_F(PublishersTest, ShareCountsOnlyRunningPublishersOfLiveMembersThatAreNotHalted) {
    run_publishers(6);
    session_.execute("UPDATE millrace.relay_publishers SET running = false WHERE number = 2");
    session_.execute("UPDATE millrace.relay_publishers SET halted = 'x' WHERE number = 3");
    set_owner(4, add_member(other_, "-1 second"));
    set_owner(5, Uuid::random());

    EXPECT_EQ(share(0, 0).to_take, 6);
    EXPECT_EQ(share(1, 0).to_take, 6);
}

// PROTOCOL 2.6, Share.
TEST_F(PublishersTest, TakesNoMoreThanAreFree) {
    run_publishers(2);
    give_lanes(1, 0, 9);

    EXPECT_EQ(share(0, 0).to_take, 2);
}

// PROTOCOL 2.6.
TEST_F(PublishersTest, TakeOfFreeLanesLeavesOwnedHaltedPausedAndLockedOnes) {
    give_lanes(9, 0, 1);
    session_.execute("UPDATE millrace.relay_lanes SET halted = 'x' WHERE lane = 2");
    session_.execute("UPDATE millrace.relay_lanes SET paused = true WHERE lane = 3");
    pg::Transaction holder(other_);
    holder.execute("SELECT FROM millrace.relay_lanes WHERE lane = 4 FOR UPDATE");

    EXPECT_THAT(publishers_.take_free_lanes(0, 3), ElementsAre(5, 6, 7));
    EXPECT_THAT(publishers_.lanes_of(0), ElementsAre(5, 6, 7));
}

// PROTOCOL 2.6.
TEST_F(PublishersTest, FreesOnlyLanesOfTheirOwn) {
    give_lanes(0, 0, 3);
    give_lanes(1, 4, 7);

    publishers_.free_lanes(0, {2, 3, 4});

    EXPECT_THAT(publishers_.lanes_of(0), ElementsAre(0, 1));
    EXPECT_THAT(publishers_.lanes_of(1), ElementsAre(4, 5, 6, 7));
}

// PROTOCOL 2.6.
TEST_F(PublishersTest, KeepsTheFlagsOfLanesThatAreFreed) {
    give_lanes(0, 0, 3);
    session_.execute("UPDATE millrace.relay_lanes SET halted = 'x' WHERE lane = 1");

    publishers_.free_all_lanes(0);

    EXPECT_THAT(publishers_.lanes_of(0), IsEmpty());
    EXPECT_EQ(session_.execute("SELECT halted FROM millrace.relay_lanes WHERE lane = 1").text(0, 0),
              "x");
}

// PROTOCOL 2.8, 2.10: a release that comes late must not hit the number's next owner.
TEST_F(PublishersTest, ReleaseAtAnOldEpochChangesNothing) {
    const std::optional<PublisherState> old = take(publishers_, judged(3));
    session_.execute("UPDATE millrace.relay_publishers SET epoch = epoch + 1 WHERE number = 3");

    EXPECT_FALSE(publishers_.release(old.value()));
    EXPECT_EQ(session_.execute("SELECT owner IS NOT NULL FROM millrace.relay_publishers "
                               "WHERE number = 3")
                  .boolean(0, 0),
              true);
}

// PROTOCOL 2.6, lock_lane.
TEST_F(PublishersTest, LockLaneLocksItsOwnerAndTheLane) {
    give_lanes(3, 0, 0);
    pg::Transaction transaction(session_);

    const pg::Result owner = transaction.execute("SELECT millrace.lock_lane(0::smallint)");

    EXPECT_EQ(owner.integer(0, 0), 3);
    EXPECT_EQ(other_
                  .execute("SELECT FROM millrace.relay_publishers WHERE number = 3 "
                           "FOR UPDATE SKIP LOCKED")
                  .row_count(),
              0);
    EXPECT_EQ(other_
                  .execute("SELECT FROM millrace.relay_lanes WHERE lane = 0 "
                           "FOR UPDATE SKIP LOCKED")
                  .row_count(),
              0);
}

// PROTOCOL 2.6, lock_lane.
TEST_F(PublishersTest, LockLaneOfAFreeLaneSaysThatNobodyOwnsIt) {
    EXPECT_TRUE(session_.execute("SELECT millrace.lock_lane(0::smallint)").is_null(0, 0));
}

// PROTOCOL 2.6, lock_lane: the lane moves while it waits for the owner. It must end with the new
// owner locked and the old one free.
TEST_F(PublishersTest, LockLaneFollowsALaneThatMovesMeanwhile) {
    give_lanes(3, 0, 0);
    pg::Session locker = database_.connect();
    int64_t owner = -1;
    {
        pg::Transaction move(other_);
        move.execute("SELECT FROM millrace.relay_publishers WHERE number = 3 FOR UPDATE");
        move.execute("UPDATE millrace.relay_lanes SET publisher = 4 WHERE lane = 0");
        std::jthread locking([&] {
            locker.execute("BEGIN");
            owner = locker.execute("SELECT millrace.lock_lane(0::smallint)").integer(0, 0);
        });
        ASSERT_TRUE(eventually(5s, [&] { return waits_for_a_lock(locker.backend_pid()); }));
        move.commit();
    }

    EXPECT_EQ(owner, 4);
    const pg::Result free = session_.execute(
        "SELECT number FROM millrace.relay_publishers WHERE number IN (3, 4) ORDER BY number "
        "FOR UPDATE SKIP LOCKED");
    ASSERT_EQ(free.row_count(), 1);
    EXPECT_EQ(free.integer(0, 0), 3);
}

// PROTOCOL 4.3: the order in which every halt locks.
TEST_F(PublishersTest, LockAllWaitsForEachRow) {
    pg::Transaction holder(other_);
    holder.execute("SELECT FROM millrace.relay_publishers WHERE number = 31 FOR UPDATE");
    session_.execute("SET lock_timeout = '50ms'");

    EXPECT_EQ(sqlstate_of([&] { publishers_.lock_all(); }), "55P03");
}

}  // namespace
}  // namespace millrace::test
