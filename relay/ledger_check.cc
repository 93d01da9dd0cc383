#include "relay/ledger_check.h"

namespace millrace {

namespace {

// `before` was read before the ledger and `after` later. A publisher's record is committed before
// its row, so a healthy one shows before <= q <= after + 1.
LedgerFinding finding_of(const PublisherReport& before, const PublisherReport& after,
                         const LedgerRecord* record, const std::string& ledger_topic_id) {
    const int64_t q = record != nullptr ? record->seq : 0;
    const bool was_made_again =
        before.ledger_topic_id && *before.ledger_topic_id != ledger_topic_id && before.seq > 0;
    if (q < before.seq || (was_made_again && q != before.seq)) return LedgerFinding::kLedgerBehind;
    if (q > after.seq + 1 || (record != nullptr && record->epoch > after.epoch)) {
        return LedgerFinding::kDatabaseBehind;
    }
    return q == after.seq + 1 ? LedgerFinding::kInDoubt : LedgerFinding::kAgrees;
}

}  // namespace

std::string_view name_of(LedgerFinding finding) {
    switch (finding) {
        case LedgerFinding::kAgrees: return "agrees";
        case LedgerFinding::kInDoubt: return "in_doubt";
        case LedgerFinding::kDatabaseBehind: return "database_behind_ledger";
        case LedgerFinding::kLedgerBehind: return "ledger_behind_database";
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
    if (ledger_now.unread > 0) {
        throw transient("ledger_unread", std::to_string(ledger_now.unread) +
                                             " partitions of the ledger could not be read in time");
    }
    const std::map<int16_t, LedgerRecord>& newest = ledger_now.newest;
    const std::vector<PublisherReport> after = db.publishers();

    std::vector<LedgerComparison> comparisons;
    for (size_t i = 0; i < after.size(); ++i) {
        const auto found = newest.find(after[i].number);
        const LedgerRecord* record = found == newest.end() ? nullptr : &found->second;
        LedgerComparison comparison{.publisher = after[i],
                                    .ledger_seq = {},
                                    .finding = finding_of(before[i], after[i], record,
                                                          ledger_topic_id)};
        if (record != nullptr) comparison.ledger_seq = record->seq;
        comparisons.push_back(std::move(comparison));
    }
    return comparisons;
}

}  // namespace millrace
