// The floor on the real PostgreSQL, and the wrong floors that PROTOCOL 6 lists as controls: each
// fails by the verdict meant for it, while the right one is clean on the very same script.

#include "relay/floor.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/database.h"
#include "tests/support/eventually.h"
#include "tests/support/floor_rules.h"
#include "tests/support/floor_script.h"

namespace millrace::test {
namespace {

using namespace std::chrono_literals;

constexpr int kRunCount = 3;
constexpr int kDisturbedCountMax = 50;
constexpr int16_t kLane = 1;  // Of the tasks at stake.

using Script = void (*)(FloorScript&, bool is_right);

void expect_passed(const FloorScript& script, int64_t id, bool is_right) {
    if (!is_right) return;
    EXPECT_GE(script.rule().floor(), id) << "the script proves nothing";
}

// Plays again what somebody else's transaction may have saved.
Verdict play_wrong(Database& database, const MakeRule& wrong, Script script,
                   int64_t Verdict::* fault_count) {
    for (int i = 0; i < kDisturbedCountMax; ++i) {
        FloorScript sessions(database, wrong);
        script(sessions, false);
        const Verdict verdict = sessions.finish();
        if (verdict.*fault_count > 0 || !sessions.was_disturbed()) return verdict;
    }
    ADD_FAILURE() << "somebody else's transactions end all the time";
    return {};
}

Verdict play_right(Database& database, const MakeRule& right, Script script) {
    FloorScript sessions(database, right);
    script(sessions, true);
    return sessions.finish();
}

void expect_clean_only_if_right(const MakeRule& wrong, Script script,
                                int64_t Verdict::* fault_count) {
    Database database;
    for (int i = 0; i < kRunCount; ++i) {
        for (const MakeRule& right_rule : {compared_floor(), model_floor()}) {
            const Verdict right = play_right(database, right_rule, script);
            EXPECT_TRUE(right.is_clean()) << right.text();
            EXPECT_GT(right.task_count, 0);
        }

        Verdict verdict = play_wrong(database, wrong, script, fault_count);
        EXPECT_GT(verdict.*fault_count, 0) << verdict.text();
        const std::string text = verdict.text();
        verdict.*fault_count = 0;
        EXPECT_TRUE(verdict.is_clean()) << text;
    }
}

void commit_late(FloorScript& script, bool is_right) {
    script.pass_traffic(3);
    FloorScript::Writer late = script.open_writer(kLane);
    const int64_t id = late.insert();
    script.pass_traffic(5);  // The third passes the id, the next two look again.
    expect_passed(script, id, is_right);

    late.commit();
    script.pass_traffic(1);
}

void commit_late_before_a_successor(FloorScript& script, bool is_right) {
    script.pass_traffic(3);
    FloorScript::Writer late = script.open_writer(kLane);
    const int64_t id = late.insert();
    script.pass_traffic(3);
    expect_passed(script, id, is_right);

    late.commit();
    script.commit_tasks(kLane);
    script.claim();
}

// The claim comes while the newest xid of all is running: its snapshot's xmax does not pass it.
void commit_late_as_the_newest_transaction(FloorScript& script, bool is_right) {
    script.pass_traffic(3);
    script.commit_tasks(kBusyLane);
    FloorScript::Writer late = script.open_writer(kLane);
    const int64_t id = late.insert();
    script.claim();
    script.probe();
    script.pass_traffic(2);
    expect_passed(script, id, is_right);

    late.commit();
}

void claim_less_than_there_is(FloorScript& script, const ClaimOptions& options, bool is_right) {
    script.pass_traffic(3);
    script.commit_tasks(kLane, 9);
    for (int i = 0; i < 3; ++i) {
        const ClaimResult claim = script.claim(options);
        if (i == 2) expect_passed(script, claim.ids.back(), is_right);
    }
}

void cut_by_count(FloorScript& script, bool is_right) {
    claim_less_than_there_is(script, {.count_max = 2}, is_right);
}

void cut_by_bytes(FloorScript& script, bool is_right) {
    claim_less_than_there_is(script, {.bytes_max = 1}, is_right);
}

void roll_back_a_claim(FloorScript& script, bool is_right) {
    script.pass_traffic(3);
    const int64_t last_id = script.commit_tasks(kLane, 3);
    script.claim({.count_max = 1});
    script.claim({.count_max = 1});  // From here on a mark covers all three.
    expect_passed(script, last_id - 3, is_right);

    script.claim({.is_rolled_back = true});
}

void roll_back_a_claim_that_only_locked(FloorScript& script, bool is_right) {
    script.pass_traffic(3);
    const int64_t last_id = script.commit_tasks(kLane, 3);
    script.claim({.count_max = 1});
    script.claim({.count_max = 1});  // From here on a mark covers all three.
    expect_passed(script, last_id - 3, is_right);

    EXPECT_TRUE(script.claim_behind_an_update().ids.empty());
}

void commit_between_probe_and_claim(FloorScript& script, bool is_right) {
    script.pass_traffic(3);
    FloorScript::Writer late = script.open_writer(kLane);
    const int64_t id = late.insert();
    script.pass_traffic(3);
    expect_passed(script, id, is_right);
    script.commit_tasks(kBusyLane);
    script.probe();
    late.commit();
    script.claim();

    script.commit_tasks(kLane);
    script.probe();
    script.claim();
    script.settle();
}

void gain_a_lane(FloorScript& script, bool is_right) {
    script.move_to_second(kLane);
    script.pass_traffic(3);
    const int64_t id = script.commit_tasks(kLane);
    script.pass_traffic(3);
    expect_passed(script, id, is_right);

    script.move_back(kLane);
}

// PROTOCOL 6: a floor must not rise above what a running transaction may still commit.
TEST(FloorControl, LastIdClaimedLoses) {
    expect_clean_only_if_right(last_id_claimed(), commit_late, &Verdict::lost_count);
}

// PROTOCOL 6: a sweep finds what was passed, too late.
TEST(FloorControl, LastIdClaimedWithASweepReorders) {
    expect_clean_only_if_right(last_id_claimed_with_sweep(), commit_late_before_a_successor,
                               &Verdict::reordered_count);
}

// PROTOCOL 6.3: the mark's xid is the next claim's own.
TEST(FloorControl, MarkOfTheSnapshotsXmaxLoses) {
    expect_clean_only_if_right(mark_of_snapshot_xmax(), commit_late_as_the_newest_transaction,
                               &Verdict::lost_count);
}

// PROTOCOL 6.2: min(L, C).
TEST(FloorControl, PromotionBeyondWhatWasClaimedLoses) {
    expect_clean_only_if_right(promotion_beyond_the_claim(), cut_by_count, &Verdict::lost_count);
}

// PROTOCOL 6.1: only once it is finished in S.
TEST(FloorControl, LateEntryDroppedWhileItsTransactionRunsLoses) {
    expect_clean_only_if_right(late_entry_dropped_while_running(), commit_late,
                               &Verdict::lost_count);
}

// PROTOCOL 6: state changes only after the COMMIT of a claim, or when it returned no row.
TEST(FloorControl, PromotionByARolledBackClaimLoses) {
    expect_clean_only_if_right(promotion_by_rolled_back_claim(), roll_back_a_claim,
                               &Verdict::lost_count);
}

// PROTOCOL 6: nor after one that returned no row but locked some.
TEST(FloorControl, PromotionByARolledBackClaimThatOnlyLockedLoses) {
    expect_clean_only_if_right(promotion_by_rolled_back_claim(),
                               roll_back_a_claim_that_only_locked, &Verdict::lost_count);
}

// PROTOCOL 6: C is the last id whether LIMIT or bytes cut the claim.
TEST(FloorControl, ByteCutTakenForExhaustiveLoses) {
    expect_clean_only_if_right(byte_cut_taken_for_exhaustive(), cut_by_bytes,
                               &Verdict::lost_count);
}

// PROTOCOL 3.3: every lane that the publisher owns, whatever a probe saw.
TEST(FloorControl, LaneLeftOutReorders) {
    expect_clean_only_if_right(empty_lane_left_out(), commit_between_probe_and_claim,
                               &Verdict::reordered_count);
}

// PROTOCOL 4.5: the floor of other lanes says nothing about a gained one.
TEST(FloorControl, FloorKeptForAGainedLaneLoses) {
    expect_clean_only_if_right(not_cleared_for_gained_lane(), gain_a_lane, &Verdict::lost_count);
}

// PROTOCOL 6.4: on the bare floor a probe would see nothing until newer traffic comes.
TEST(Floor, ProbeSeesALateCommitterWithoutNewerTraffic) {
    Database database;
    FloorScript script(database, right_floor());
    script.pass_traffic(3);
    FloorScript::Writer late = script.open_writer(kLane);
    const int64_t id = late.insert();
    script.pass_traffic(3);
    ASSERT_GE(script.rule().floor(), id);
    EXPECT_FALSE(script.probe());

    late.commit();

    EXPECT_TRUE(script.probe());
    EXPECT_EQ(script.claim().ids, std::vector<int64_t>{id});
}

// MEASURED: a writer that stays open must not hold the floor down for the others.
TEST(Floor, RisesPastAWriterThatStaysOpen) {
    Database database;
    FloorScript script(database, right_floor());
    FloorScript::Writer open = script.open_writer(kLane);
    const int64_t id = open.insert();

    script.pass_traffic(5);

    EXPECT_GT(script.rule().floor(), id);
    EXPECT_GE(script.rule().late_count(), 1U);
}

// PROTOCOL 6.1: entries do not pile up.
TEST(Floor, ForgetsALateCommitterOnceItIsClaimed) {
    Database database;
    FloorScript script(database, right_floor());
    script.pass_traffic(3);
    FloorScript::Writer late = script.open_writer(kLane);
    late.insert();
    script.pass_traffic(3);
    ASSERT_GT(script.rule().late_count(), 0U);

    late.commit();

    EXPECT_TRUE(eventually(20s, [&script] {
        script.pass_traffic(1);
        return script.rule().late_count() == 0;
    }));
}

}  // namespace
}  // namespace millrace::test
