#include "relay/ledger_rules.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

LedgerRecord record_of(int64_t seq, int64_t epoch) {
    LedgerRecord record;
    record.seq = seq;
    record.epoch = epoch;
    return record;
}

// PROTOCOL 4.3: one ahead is in doubt, and a settle's to redo; two ahead was acknowledged.
TEST(LedgerRules, DatabaseIsBehindARecordThatIsTwoAheadOrOfALaterEpoch) {
    const LedgerRecord next = record_of(8, 3);

    EXPECT_FALSE(is_database_behind(&next, 7, 3));
    EXPECT_FALSE(is_database_behind(&next, 8, 4));
    EXPECT_TRUE(is_database_behind(&next, 6, 3));
    EXPECT_TRUE(is_database_behind(&next, 8, 2));
    EXPECT_FALSE(is_database_behind(nullptr, 7, 3));
}

TEST(LedgerRules, LedgerIsBehindARowOfALaterTransaction) {
    const LedgerRecord newest = record_of(8, 3);

    EXPECT_FALSE(is_ledger_behind(&newest, 8, "same", "same"));
    EXPECT_FALSE(is_ledger_behind(&newest, 7, std::nullopt, "same"));
    EXPECT_TRUE(is_ledger_behind(&newest, 9, "same", "same"));
    EXPECT_TRUE(is_ledger_behind(nullptr, 1, "same", "same"));
    EXPECT_FALSE(is_ledger_behind(nullptr, 0, "same", "same"));
}

// PROTOCOL 4.3: the record of the only transaction may have gone with the topic.
TEST(LedgerRules, LedgerThatWasMadeAgainIsBehindUnlessItHasARecordOfThisVerySeq) {
    const LedgerRecord newest = record_of(8, 3);
    const LedgerRecord of_resume = record_of(0, 3);

    EXPECT_FALSE(is_ledger_behind(&newest, 8, "gone", "made again"));
    EXPECT_TRUE(is_ledger_behind(&newest, 7, "gone", "made again"));
    EXPECT_TRUE(is_ledger_behind(nullptr, 0, "gone", "made again"));
    EXPECT_FALSE(is_ledger_behind(&of_resume, 0, "gone", "made again"));
}

}  // namespace
}  // namespace millrace
