#include "relay/floor.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/pg/params.h"

namespace millrace {
namespace {

using Late = std::map<uint64_t, int64_t>;

Snapshot all_finished_below(uint64_t xmax) { return {.xmin = xmax, .xmax = xmax, .xip = {}}; }

Snapshot with_running(uint64_t xmax, std::vector<uint64_t> xip) {
    return {.xmin = xip.front(), .xmax = xmax, .xip = std::move(xip)};
}

// A floor whose one mark says: ids up to `sequence_value` come from transactions below 101.
Floor floor_with_mark(int64_t sequence_value) {
    Floor floor;
    floor.claimed(all_finished_below(100), 100, sequence_value, std::nullopt);
    floor.claimed(all_finished_below(101), 101, sequence_value, std::nullopt);
    return floor;
}

// Ids up to 50 come from transactions below 101, ids up to 70 from transactions below 111.
Floor floor_with_two_marks() {
    Floor floor = floor_with_mark(50);
    floor.claimed(all_finished_below(100), 110, 70, std::nullopt);
    floor.claimed(all_finished_below(100), 111, 70, std::nullopt);
    return floor;
}

// A floor at 50 that passed transaction 90 while it ran, when the floor was still 0.
Floor floor_with_late_entry() {
    Floor floor = floor_with_mark(50);
    floor.found_nothing(with_running(102, {90}));
    return floor;
}

void append_uint64(std::string& bytes, uint64_t value) {
    pg::append_int64(bytes, static_cast<int64_t>(value));
}

TEST(Floor, StartsAtZeroWithNothingLate) {
    const Floor floor;

    EXPECT_EQ(floor.floor(), 0);
    EXPECT_EQ(floor.late(), Late{});
}

// PROTOCOL 6.3: the value goes with the xid of the claim after the one that read it.
TEST(Floor, FirstClaimMakesNoMark) {
    Floor floor;

    floor.claimed(all_finished_below(100), 100, 50, std::nullopt);
    floor.found_nothing(all_finished_below(200));

    EXPECT_EQ(floor.floor(), 0);
}

// PROTOCOL 6.3.
TEST(Floor, MarkPairsItsXidWithTheValueOfThePreviousClaim) {
    Floor floor;

    floor.claimed(all_finished_below(100), 100, 50, std::nullopt);
    floor.claimed(all_finished_below(101), 101, 70, std::nullopt);
    floor.found_nothing(all_finished_below(200));

    EXPECT_EQ(floor.floor(), 50);
}

// PROTOCOL 6.3: the mark comes after the claim it belongs to.
TEST(Floor, ClaimDoesNotUseItsOwnMark) {
    Floor floor;

    floor.claimed(all_finished_below(100), 100, 50, std::nullopt);
    floor.claimed(all_finished_below(300), 101, 70, std::nullopt);

    EXPECT_EQ(floor.floor(), 0);
}

// PROTOCOL 6.3: a sequence that nobody used has no value.
TEST(Floor, NoSequenceValueMakesNoMark) {
    Floor floor;

    floor.claimed(all_finished_below(100), 100, std::nullopt, std::nullopt);
    floor.claimed(all_finished_below(101), 101, 50, std::nullopt);
    floor.found_nothing(all_finished_below(200));

    EXPECT_EQ(floor.floor(), 0);
    EXPECT_EQ(floor.sequence_reset_count(), 0);
}

// PROTOCOL 6.3: of two marks with the same value the older is ripe earlier and passes fewer.
TEST(Floor, EqualSequenceValueKeepsTheOlderMark) {
    Floor floor = floor_with_mark(50);

    floor.claimed(all_finished_below(100), 150, 50, std::nullopt);
    floor.found_nothing(with_running(120, {110}));

    EXPECT_EQ(floor.floor(), 50);
    EXPECT_EQ(floor.late(), Late{});
}

// PROTOCOL 6.3: so claims while nobody writes take up no room.
TEST(Floor, EqualSequenceValuesMakeOneMark) {
    Floor floor = floor_with_mark(50);
    for (uint64_t xid = 102; xid < 5000; ++xid) {
        floor.claimed(all_finished_below(100), xid, 50, std::nullopt);
    }

    floor.claimed(all_finished_below(100), 5000, 70, std::nullopt);
    floor.claimed(all_finished_below(100), 5001, 70, std::nullopt);
    floor.found_nothing(all_finished_below(6000));

    EXPECT_EQ(floor.floor(), 70);
}

// PROTOCOL 6.3: setval.
TEST(Floor, SmallerSequenceValueClearsEverythingAndCounts) {
    Floor floor = floor_with_late_entry();

    floor.claimed(all_finished_below(200), 200, 49, std::nullopt);

    EXPECT_EQ(floor.floor(), 0);
    EXPECT_EQ(floor.late(), Late{});
    EXPECT_EQ(floor.sequence_reset_count(), 1);
}

// PROTOCOL 6.3: TRUNCATE RESTART IDENTITY leaves no value until the next id is drawn.
TEST(Floor, VanishedSequenceValueClearsEverythingAndCounts) {
    Floor floor = floor_with_late_entry();

    floor.claimed(all_finished_below(200), 200, std::nullopt, std::nullopt);

    EXPECT_EQ(floor.floor(), 0);
    EXPECT_EQ(floor.late(), Late{});
    EXPECT_EQ(floor.sequence_reset_count(), 1);
}

// PROTOCOL 6.3: marks from before the reset would pass ids that are drawn a second time.
TEST(Floor, SmallerSequenceValueDropsTheMarksToo) {
    Floor floor = floor_with_mark(50);

    floor.claimed(all_finished_below(101), 102, 10, std::nullopt);
    floor.found_nothing(all_finished_below(200));

    EXPECT_EQ(floor.floor(), 0);
}

// PROTOCOL 6.3.
TEST(Floor, RisesAgainAfterTheSequenceWentBackwards) {
    Floor floor = floor_with_mark(50);
    floor.claimed(all_finished_below(110), 110, 10, std::nullopt);

    floor.claimed(all_finished_below(111), 111, 12, std::nullopt);
    floor.found_nothing(all_finished_below(200));

    EXPECT_EQ(floor.floor(), 10);
}

// PROTOCOL 6.2: xmax is the newest ended xid + 1, so a running one may be above it and unlisted.
TEST(Floor, MarkAboveTheSnapshotsXmaxIsNotUsed) {
    Floor floor = floor_with_mark(50);

    floor.found_nothing(all_finished_below(100));

    EXPECT_EQ(floor.floor(), 0);
}

// PROTOCOL 6.2: a mark that is not ripe stays for a later look.
TEST(Floor, MarkIsUsedOnceTheSnapshotHasReachedIt) {
    Floor floor = floor_with_mark(50);
    floor.found_nothing(all_finished_below(100));

    floor.found_nothing(all_finished_below(101));

    EXPECT_EQ(floor.floor(), 50);
}

// PROTOCOL 6.2: min(L, C).
TEST(Floor, PromotionStopsAtTheLastClaimedId) {
    Floor floor = floor_with_mark(50);

    floor.claimed(all_finished_below(102), 102, 50, 30);

    EXPECT_EQ(floor.floor(), 30);
}

// PROTOCOL 6.2: min(L, C).
TEST(Floor, PromotionStopsAtTheMarkedValue) {
    Floor floor = floor_with_mark(50);

    floor.claimed(all_finished_below(102), 102, 90, 80);

    EXPECT_EQ(floor.floor(), 50);
}

// PROTOCOL 6.2: a mark with L > C stays. The claims' own marks are not ripe here.
TEST(Floor, MarkThatAClaimDidNotReachServesTheNextClaims) {
    Floor floor = floor_with_mark(50);
    floor.claimed(all_finished_below(102), 900, 50, 30);

    floor.claimed(all_finished_below(103), 901, 50, 45);
    EXPECT_EQ(floor.floor(), 45);

    floor.found_nothing(all_finished_below(104));
    EXPECT_EQ(floor.floor(), 50);
}

// PROTOCOL 6.2: a mark with L > C ends the loop, so that the next one stays as well.
TEST(Floor, MarkThatAClaimDidNotReachKeepsTheLaterOnes) {
    Floor floor = floor_with_two_marks();
    floor.claimed(with_running(112, {105}), 900, 70, 40);
    EXPECT_EQ(floor.floor(), 40);
    EXPECT_EQ(floor.late(), Late{});

    floor.found_nothing(with_running(113, {105}));

    EXPECT_EQ(floor.floor(), 70);
    EXPECT_EQ(floor.late(), (Late{{105, 50}}));
}

// PROTOCOL 6.2: each mark is ripe by itself.
TEST(Floor, RipeMarkDoesNotWaitForALaterOne) {
    Floor floor = floor_with_two_marks();

    floor.found_nothing(all_finished_below(105));

    EXPECT_EQ(floor.floor(), 50);
}

// PROTOCOL 6.2: who runs below the mark's xid may commit ids below the new floor.
TEST(Floor, RunningTransactionBelowTheMarkBecomesLateAtTheOldFloor) {
    Floor floor = floor_with_mark(50);

    floor.found_nothing(with_running(102, {90, 95}));

    EXPECT_EQ(floor.floor(), 50);
    EXPECT_EQ(floor.late(), (Late{{90, 0}, {95, 0}}));
}

// PROTOCOL 6.2: an id of a younger transaction is above the mark's value.
TEST(Floor, RunningTransactionAtOrAboveTheMarkIsNotLate) {
    Floor floor = floor_with_mark(50);

    floor.found_nothing(with_running(110, {101, 105}));

    EXPECT_EQ(floor.floor(), 50);
    EXPECT_EQ(floor.late(), Late{});
}

// PROTOCOL 6.2: the first floor that passed a transaction is the one to go back to.
TEST(Floor, LateTransactionKeepsItsFirstFloor) {
    Floor floor = floor_with_late_entry();
    floor.claimed(with_running(103, {90}), 110, 70, std::nullopt);
    floor.claimed(with_running(111, {90}), 111, 70, std::nullopt);

    floor.found_nothing(with_running(112, {90}));

    EXPECT_EQ(floor.floor(), 70);
    EXPECT_EQ(floor.late(), (Late{{90, 0}}));
}

// PROTOCOL 6.2, oldest first: a transaction between two marks goes back to the first one's value.
TEST(Floor, EachMarkPassesTheTransactionsBelowIt) {
    Floor floor = floor_with_two_marks();

    floor.found_nothing(with_running(112, {90, 105}));

    EXPECT_EQ(floor.floor(), 70);
    EXPECT_EQ(floor.late(), (Late{{90, 0}, {105, 50}}));
}

// PROTOCOL 6.2: the floor never falls but by clear().
TEST(Floor, ClaimBelowTheFloorLeavesItWhereItIs) {
    Floor floor = floor_with_two_marks();
    floor.found_nothing(with_running(105, {90}));

    floor.claimed(all_finished_below(112), 112, 70, 20);

    EXPECT_EQ(floor.floor(), 50);
}

// PROTOCOL 6.1.
TEST(Floor, LateEntryStaysWhileItsTransactionRuns) {
    Floor floor = floor_with_late_entry();

    floor.found_nothing(with_running(200, {90}));

    EXPECT_EQ(floor.late(), (Late{{90, 0}}));
}

// PROTOCOL 6.1: C >= floor.
TEST(Floor, LateEntryGoesOnceItEndedAndAClaimReachedTheFloor) {
    Floor floor = floor_with_late_entry();

    floor.claimed(all_finished_below(103), 103, 50, 50);

    EXPECT_EQ(floor.late(), Late{});
}

// PROTOCOL 6.1: else late[y] = C.
TEST(Floor, LateEntryMovesUpWithAClaimThatDidNotReachTheFloor) {
    Floor floor = floor_with_late_entry();

    floor.claimed(all_finished_below(103), 103, 50, 49);

    EXPECT_EQ(floor.late(), (Late{{90, 49}}));
}

// PROTOCOL 6: a look that found nothing has looked everywhere.
TEST(Floor, EmptyLookEndsLateEntriesOfEndedTransactions) {
    Floor floor = floor_with_late_entry();

    floor.found_nothing(all_finished_below(103));

    EXPECT_EQ(floor.late(), Late{});
}

// PROTOCOL 6.4: an empty probe makes no mark, and keeps the value the last claim read.
TEST(Floor, EmptyLookMakesNoMark) {
    Floor floor;
    floor.claimed(all_finished_below(100), 100, 50, std::nullopt);

    floor.found_nothing(all_finished_below(101));
    floor.found_nothing(all_finished_below(200));
    EXPECT_EQ(floor.floor(), 0);

    floor.claimed(all_finished_below(201), 201, 60, std::nullopt);
    floor.found_nothing(all_finished_below(202));
    EXPECT_EQ(floor.floor(), 50);
}

// PROTOCOL 4.5: after a settle or a gained lane.
TEST(Floor, ClearForgetsFloorAndLateEntries) {
    Floor floor = floor_with_late_entry();

    floor.clear();

    EXPECT_EQ(floor.floor(), 0);
    EXPECT_EQ(floor.late(), Late{});
}

// PROTOCOL 4.5.
TEST(Floor, ClearForgetsTheMarks) {
    Floor floor = floor_with_mark(50);

    floor.clear();
    floor.found_nothing(all_finished_below(200));

    EXPECT_EQ(floor.floor(), 0);
}

// PROTOCOL 4.5: a value read before a crash of the server may be handed out again after it.
TEST(Floor, ClearForgetsTheLastSequenceValue) {
    Floor floor;
    floor.claimed(all_finished_below(100), 100, 50, std::nullopt);

    floor.clear();
    floor.claimed(all_finished_below(101), 101, 20, std::nullopt);
    floor.found_nothing(all_finished_below(200));

    EXPECT_EQ(floor.floor(), 0);
    EXPECT_EQ(floor.sequence_reset_count(), 0);
}

// A long backlog leaves each claim's mark unused: they must not pile up, and the floor must follow.
TEST(Floor, FollowsALongBacklogWithBoundedMarks) {
    constexpr int64_t kMarkCountMax = 1024;
    Floor floor;
    for (int64_t n = 1; n <= 5000; ++n) {
        const auto xid = static_cast<uint64_t>(100 + n);
        floor.claimed(all_finished_below(xid), xid, 1'000'000 + n, 2 * n);
    }
    EXPECT_EQ(floor.floor(), 10'000);

    floor.found_nothing(all_finished_below(10'000));
    EXPECT_EQ(floor.floor(), 1'000'000 + kMarkCountMax);

    floor.claimed(all_finished_below(10'000), 10'000, 2'000'000, std::nullopt);
    floor.claimed(all_finished_below(10'001), 10'001, 2'000'000, std::nullopt);
    floor.found_nothing(all_finished_below(10'002));
    EXPECT_EQ(floor.floor(), 2'000'000);
}

TEST(Floor, BindsLateEntriesAndFloorAsThreeParameters) {
    const Floor floor = floor_with_late_entry();
    pg::ArrayBuilder xids(pg::Type::kInt8);
    xids.add_int8(90);
    pg::ArrayBuilder floors(pg::Type::kInt8);
    floors.add_int8(0);
    std::string number;
    pg::append_int64(number, 50);

    pg::Params params;
    floor.bind(params);
    const pg::Params::Wire wire = params.wire();

    const auto bytes = [&wire](size_t i) {
        return std::string(wire.values[i], static_cast<size_t>(wire.lengths[i]));
    };
    ASSERT_EQ(wire.values.size(), 3U);
    EXPECT_EQ(bytes(0), xids.take());
    EXPECT_EQ(bytes(1), floors.take());
    EXPECT_EQ(bytes(2), number);
}

TEST(Snapshot, FinishedIsBelowXminOrBelowXmaxAndNotListed) {
    const Snapshot snapshot{.xmin = 10, .xmax = 20, .xip = {10, 15}};

    EXPECT_TRUE(snapshot.is_finished(9));
    EXPECT_FALSE(snapshot.is_finished(10));
    EXPECT_TRUE(snapshot.is_finished(11));
    EXPECT_FALSE(snapshot.is_finished(15));
    EXPECT_TRUE(snapshot.is_finished(19));
    EXPECT_FALSE(snapshot.is_finished(20));
}

TEST(Snapshot, ReadsTheBinaryFormat) {
    std::string bytes;
    pg::append_int32(bytes, 2);
    append_uint64(bytes, 0x0102030405060708);
    append_uint64(bytes, 0x0102030405060790);
    append_uint64(bytes, 0x0102030405060708);
    append_uint64(bytes, 0x010203040506078F);

    const Snapshot snapshot = Snapshot::from_binary(bytes);

    EXPECT_EQ(snapshot.xmin, 0x0102030405060708U);
    EXPECT_EQ(snapshot.xmax, 0x0102030405060790U);
    EXPECT_EQ(snapshot.xip, (std::vector<uint64_t>{0x0102030405060708, 0x010203040506078F}));
}

TEST(SnapshotDeathTest, RefusesTruncatedBytes) {
    EXPECT_DEATH(Snapshot::from_binary("\0\0\0\1"), "a pg_snapshot has 20 bytes");
}

}  // namespace
}  // namespace millrace
