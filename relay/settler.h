#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "core/pg/session.h"
#include "relay/ledger_reader.h"
#include "relay/outbox.h"
#include "relay/publishers.h"
#include "relay/relay_metrics.h"
#include "schema/installation.h"

namespace millrace {

// How long a settle may take: below idle_in_transaction_session_timeout (PROTOCOL 4.2).
inline constexpr std::chrono::seconds kSettleLimit{8};
// A publisher that could not be settled is left alone for so long by who tried.
inline constexpr std::chrono::seconds kSettleAgainAfter{10};

// Finds out, and puts right, what a publisher's last transaction did (PROTOCOL 4.2 to 4.4). The
// predecessor is fenced in PostgreSQL by the take and in Kafka by init_transactions before `settle`
// is called; the ledger then decides. Not thread-safe: one per session.
class Settler {
  public:
    // `ledger_topic_id` as it is now: the topic may have been made again while this process ran.
    Settler(pg::Session& session, const Installation& installation, LedgerReader& ledger,
            std::string ledger_topic_id, RelayMetrics& metrics);

    // One transaction: redo if the ledger is one ahead, look at the other publishers, `finish`
    // (which may change rows of this publisher), COMMIT. Updates seq, version and generation of
    // `publisher`. Blocks at most `limit` plus 5 s. Throws kLost if it was taken meanwhile,
    // kHalt after it has halted all publishers because ledger and database contradict each other,
    // kTransient or kUnknown when a server did not answer: take and settle again.
    void settle(PublisherState& publisher, std::chrono::milliseconds limit,
                const std::function<void(Publishers&)>& finish);

  private:
    // `newest` is null if the publisher's partition has no record.
    void compare(const PublisherState& publisher, LockedPublisher& row,
                 const LedgerRecord* newest);
    void redo(const LedgerRecord& record, int32_t generation);
    void look_at_others(const PublisherState& publisher);
    // Halts every publisher, unless the finding no longer holds under all rows' locks, and throws.
    [[noreturn]] void halt_everything(const PublisherState& publisher, const std::string& reason,
                                      const std::string& detail, int16_t about,
                                      const std::function<bool(const PublisherSeq&)>& still_so);

    pg::Session& session_;
    const Installation& installation_;
    LedgerReader& ledger_;
    std::string ledger_topic_id_;
    RelayMetrics& metrics_;
    Publishers publishers_;
};

}  // namespace millrace
