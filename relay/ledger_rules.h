#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "schema/ledger_record.h"

namespace millrace {

// What a publisher's row says beside the newest committed record of its ledger partition (PROTOCOL
// 4.3, 4.4); `newest` is null if there is none. Pure; the settler acts on it, `ledger status` shows
// it.

// PostgreSQL lost commits that it had acknowledged.
inline bool is_database_behind(const LedgerRecord* newest, int64_t seq, int64_t epoch) {
    return newest != nullptr && (newest->seq > seq + 1 || newest->epoch > epoch);
}

// The ledger topic lost records, or was made again. In one that was made again only a record of
// this very seq, as `ledger resume` writes it, says that nothing is in doubt: with seq 0 the record
// of the first transaction may have gone.
inline bool is_ledger_behind(const LedgerRecord* newest, int64_t seq,
                             const std::optional<std::string>& known_topic_id,
                             const std::string& topic_id) {
    const int64_t newest_seq = newest != nullptr ? newest->seq : 0;
    if (newest_seq < seq) return true;
    const bool was_made_again = known_topic_id && *known_topic_id != topic_id;
    return was_made_again && (newest == nullptr || newest_seq != seq);
}

}  // namespace millrace
