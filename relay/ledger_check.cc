#include "relay/ledger_check.h"

#include "relay/ledger_rules.h"

namespace millrace {

namespace {

// `before` was read before the ledger and `after` later. A publisher's record is committed before
// its row, so a healthy one shows before <= q <= after + 1.
LedgerFinding finding_of(const PublisherReport& before, const PublisherReport& after,
                         const LedgerRecord* newest, const std::string& ledger_topic_id) {
    if (is_ledger_behind(newest, before.seq, before.ledger_topic_id, ledger_topic_id)) {
        return LedgerFinding::kLedgerBehind;
    }
    if (is_database_behind(newest, after.seq, after.epoch)) return LedgerFinding::kDatabaseBehind;
    const bool is_ahead = newest != nullptr && newest->seq == after.seq + 1;
    return is_ahead ? LedgerFinding::kInDoubt : LedgerFinding::kAgrees;
}

}  // namespace

std::string_view name_of(LedgerFinding finding) {
    switch (finding) {
        case LedgerFinding::kAgrees: return "agrees";
        case LedgerFinding::kInDoubt: return "in_doubt";
        case LedgerFinding::kDatabaseBehind: return "database_behind_ledger";
        case LedgerFinding::kLedgerBehind: return "ledger_behind_database";
        case LedgerFinding::kUnread: return "unread";
    }
    return {};
}

bool is_contradiction(LedgerFinding finding) {
    return finding == LedgerFinding::kDatabaseBehind || finding == LedgerFinding::kLedgerBehind;
}

std::vector<LedgerComparison> compare_ledger(Operator& db, LedgerReader& ledger,
                                             const std::string& ledger_topic_id,
                                             std::chrono::milliseconds limit) {
    const std::vector<PublisherReport> before = db.publishers();
    const LedgerReader::Others ledger_now = ledger.others(/*except=*/-1, limit);
    const std::vector<PublisherReport> after = db.publishers();

    std::vector<LedgerComparison> comparisons;
    for (size_t i = 0; i < after.size(); ++i) {
        LedgerComparison& comparison = comparisons.emplace_back();
        comparison.publisher = after[i];
        const int16_t number = after[i].number;
        if (const auto unread = ledger_now.unread.find(number); unread != ledger_now.unread.end()) {
            comparison.finding = LedgerFinding::kUnread;
            comparison.unread = unread->second;
            continue;
        }
        const auto found = ledger_now.newest.find(number);
        const LedgerRecord* record = found == ledger_now.newest.end() ? nullptr : &found->second;
        comparison.finding = finding_of(before[i], after[i], record, ledger_topic_id);
        if (record != nullptr) comparison.ledger_seq = record->seq;
    }
    return comparisons;
}

}  // namespace millrace
