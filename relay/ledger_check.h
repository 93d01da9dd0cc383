#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "relay/ledger_reader.h"
#include "relay/operator.h"

namespace millrace {

enum class LedgerFinding {
    kAgrees,
    kInDoubt,         // One ahead: a transaction in progress, or one that a settle will redo.
    kDatabaseBehind,  // PostgreSQL lost commits that it had acknowledged.
    kLedgerBehind,    // The ledger topic lost records, or was made again.
    kUnread,          // Its newest record could not be read.
};

// `agrees`, `in_doubt`, `database_behind_ledger`, `ledger_behind_database`, `unread`.
std::string_view name_of(LedgerFinding finding);
bool is_contradiction(LedgerFinding finding);

struct LedgerComparison {
    PublisherReport publisher;
    std::optional<int64_t> ledger_seq;
    std::optional<Failure> unread;  // Why, for kUnread.
    LedgerFinding finding = LedgerFinding::kAgrees;

    // Publishers that never published and that nobody runs say nothing.
    bool is_used() const {
        return publisher.seq > 0 || ledger_seq || unread || publisher.owner.has_value() ||
               is_contradiction(finding);
    }
};

// Compares each publisher's seq with the ledger's newest committed record, also while relays run: a
// live publisher moves on meanwhile, which is told from a contradiction.
std::vector<LedgerComparison> compare_ledger(Operator& db, LedgerReader& ledger,
                                             const std::string& ledger_topic_id,
                                             std::chrono::milliseconds limit);

}  // namespace millrace
