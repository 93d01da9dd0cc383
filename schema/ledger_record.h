#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/uuid.h"

namespace millrace {

// The newest n of millrace-seq in one partition of a topic.
struct SequenceCounter {
    std::string topic;
    int32_t partition = 0;
    int64_t n = 0;

    friend bool operator==(const SequenceCounter&, const SequenceCounter&) = default;
};

// A task by lane, id and digest of its event id. Ids alone do not do: after a crash PostgreSQL
// hands out ids again that a lost transaction had used.
struct LedgerTask {
    int16_t lane = 0;
    int64_t id = 0;
    uint32_t digest = 0;

    friend auto operator<=>(const LedgerTask&, const LedgerTask&) = default;
};

// What one Kafka transaction of a publisher contained (PROTOCOL 4.1).
struct LedgerRecord {
    Uuid installation;
    int16_t publisher = 0;
    int64_t epoch = 0;
    int64_t seq = 0;
    std::vector<LedgerTask> tasks;  // Sorted by lane, then id.
    std::vector<SequenceCounter> counters;

    friend bool operator==(const LedgerRecord&, const LedgerRecord&) = default;
};

constexpr int kLedgerFormat = 1;

// CRC-32C (Castagnoli) of the whole event id: the first bytes of a UUIDv7 are only a clock.
uint32_t digest_of(const Uuid& event_id);
uint32_t crc32c(std::string_view bytes);

std::string encode(const LedgerRecord& record);
// Throws kHalt `ledger_format` for another format, `ledger_corrupt` for damaged bytes.
LedgerRecord decode_ledger_record(std::string_view bytes);
// Whether a failure's reason is one of these two: another program may be able to read the record.
bool is_unreadable(std::string_view reason);

// Key and partition of a publisher's records.
std::string ledger_key(int publisher);

// The record by which an installation claims its prefix: partition 0, key `installation`.
struct ClaimRecord {
    Uuid installation;
    int64_t system_identifier = 0;
    int64_t database_oid = 0;
};
constexpr std::string_view kClaimKey = "installation";
std::string encode(const ClaimRecord& record);
ClaimRecord decode_claim_record(std::string_view bytes);

}  // namespace millrace
