#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/kafka/admin.h"
#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/uuid.h"
#include "schema/ledger_record.h"

namespace millrace {

// The process's one warm consumer of the ledger topic, read_committed, that never joins a group.
// Thread-safe: a call waits for another thread's, its own limit at most.
// Throws kTransient when the broker does not answer, kHalt for a record it can't read and
// `prefix_taken` for a record of another installation.
class LedgerReader {
  public:
    LedgerReader(const kafka::ClientOptions& options, std::string topic, Uuid installation,
                 kafka::Reaper& reaper);

    // The newest committed record of a publisher's partition, none if it has none. Reads until it
    // has seen all below the partition's uncommitted high watermark: if somebody's transaction is
    // open there it waits, and says so by kTransient `ledger_open_transaction` (PROTOCOL 4.2).
    std::optional<LedgerRecord> newest(int16_t publisher, std::chrono::milliseconds limit);

    // The newest committed record of each partition but one, as far as it can be read within
    // `limit`, and why others could not: for want of time, or because only a later program can
    // read their record (PROTOCOL 4.4).
    struct Others {
        std::map<int16_t, LedgerRecord> newest;
        std::map<int16_t, Failure> unread;
    };
    Others others(int16_t except, std::chrono::milliseconds limit);

    // All committed records of a partition with a seq above `seq`, in order.
    std::vector<LedgerRecord> after(int16_t publisher, int64_t seq,
                                    std::chrono::milliseconds limit);

    // The claim by which an installation holds the prefix, if there is one.
    std::optional<ClaimRecord> claim(std::chrono::milliseconds limit);

    // One cheap round trip to the broker; throws if there is none.
    void ping();
    rd_kafka_t* raw() const { return client_.get(); }

  private:
    using Deadline = std::chrono::steady_clock::time_point;
    // What was read of one partition from some offset to another.
    struct Tail {
        std::vector<std::pair<std::string, std::string>> records;  // Key and value.
        bool is_complete = false;
    };

    // Waits for another thread's call, no longer than the deadline.
    std::unique_lock<std::timed_mutex> lock_until(Deadline deadline);
    Tail read(int32_t partition, int64_t from, int64_t end, Deadline deadline);
    std::optional<LedgerRecord> newest_below(int16_t publisher, int64_t end, Deadline deadline);
    std::optional<LedgerRecord> last_in(const Tail& tail, int16_t publisher) const;
    LedgerRecord checked(const std::string& value) const;
    int64_t high_watermark(int32_t partition, Deadline deadline);
    int64_t low_watermark(int32_t partition, Deadline deadline);
    kafka::Admin admin(Deadline deadline) const;

    std::timed_mutex mutex_;
    std::string topic_;
    Uuid installation_;
    kafka::Client client_;
};

}  // namespace millrace
