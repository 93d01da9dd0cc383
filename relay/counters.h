#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/pg/session.h"
#include "schema/ledger_record.h"

namespace millrace {

// The source of millrace-seq: n of each (topic, partition) a publisher wrote to, contiguous from 1
// within a generation. Not thread-safe: one per publisher thread. All SQL on relay_counters.
class Counters {
  public:
    // Reads what is stored; after each settle, which has stored what the ledger had.
    void load(pg::Session& session, int16_t publisher, int32_t generation);
    // The next n, for the transaction in progress.
    int64_t next(std::string_view topic, int32_t partition);
    // Those that moved since they were last stored, with their newest n: for the ledger record.
    std::vector<SequenceCounter> unstored() const;
    // Stored with each transaction, their rows would leave a dead version each time, and behind a
    // held snapshot every update walks over all of them (PROTOCOL 4.1).
    bool is_due() const;
    // Stores them, in the claim's own transaction.
    void store(pg::Session& session);
    // The transaction committed; otherwise it is settled, and load() comes again.
    void committed();

    // Stores what a publisher's newest ledger record says, in the caller's transaction.
    static void restore(pg::Session& session, int16_t publisher, int32_t generation,
                        const std::vector<SequenceCounter>& counters);

    // Names of the topics this publisher wrote to.
    std::vector<std::string> topics() const;

  private:
    using Partition = std::pair<std::string, int32_t>;
    struct Less {
        using is_transparent = void;
        template <typename A, typename B>
        bool operator()(const A& a, const B& b) const {
            if (a.second != b.second) return a.second < b.second;
            return std::string_view(a.first) < std::string_view(b.first);
        }
    };

    int16_t publisher_ = -1;
    int32_t generation_ = 1;
    std::map<Partition, int64_t, Less> counters_;
    std::map<Partition, int64_t, Less> unstored_;
    int transaction_count_ = 0;  // Committed since they were last stored.
    bool is_stored_ = false;     // In the transaction in progress.
};

}  // namespace millrace
