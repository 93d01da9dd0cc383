#pragma once

#include <optional>
#include <string>

#include "core/kafka/producer.h"
#include "core/kafka/reaper.h"
#include "core/pg/session.h"
#include "relay/outbox.h"
#include "schema/ledger_record.h"
#include "tests/support/installed.h"

namespace millrace::test {

// A publisher whose transaction a test takes through its steps by hand, with the relay's own parts,
// so that it can stop between any two of them as a relay does that dies there. One thread.
class PublisherByHand {
  public:
    // Takes the publisher's row: epoch + 1, no owner, so that it is anybody's to settle.
    PublisherByHand(const Installed& installed, int16_t number);

    // Gives it free lanes, all of them by default.
    void take_lanes(int count = 64);
    // Opens the PostgreSQL transaction; how many tasks it deleted.
    size_t claim(int task_count = 1000, const ClaimScope& scope = {});
    // Commits the claimed tasks and their ledger record in Kafka, under the publisher's own
    // transactional id.
    void commit_kafka();
    void commit_database();
    // What PostgreSQL does when the relay's session ends in the middle.
    void roll_back();

    const PublisherState& state() const { return state_; }

  private:
    const Installed& installed_;
    kafka::Reaper reaper_;
    pg::Session session_;
    Outbox outbox_;
    PublisherState state_;
    std::optional<Claim> claim_;
};

// A session with the settings that a publisher's has.
pg::Session relay_session(const Installed& installed);

// Commits one record to a publisher's partition of the ledger as that publisher would.
void write_ledger(const Installed& installed, int publisher, const std::string& value);

// A record that says: the publisher's transaction `seq` of `epoch` contained no task.
LedgerRecord empty_record(const Installed& installed, int16_t publisher, int64_t epoch,
                          int64_t seq);

// A transaction that stands open with records in a partition of a topic, until it is dropped.
class OpenTransaction {
  public:
    OpenTransaction(const std::string& topic, int32_t partition, int record_count = 1);
    void abort();

  private:
    kafka::Reaper reaper_;
    kafka::Producer producer_;
};

}  // namespace millrace::test
