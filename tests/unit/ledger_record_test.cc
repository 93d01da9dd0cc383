#include "schema/ledger_record.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "core/failure.h"

namespace millrace {
namespace {

Uuid uuid_of(std::string_view text) { return Uuid::parse(text).value(); }

LedgerRecord some_record() {
    return {.installation = uuid_of("00112233-4455-6677-8899-aabbccddeeff"),
            .publisher = 31,
            .epoch = 7,
            .seq = 1'000'000'000'000,
            .tasks = {{0, 1, 0xDEADBEEF},
                      {0, 300, 1},
                      {3, 7, 0},
                      {63, 9'000'000'000'000, 0xFFFFFFFF}},
            .counters = {{"shop.orders", 0, 1}, {"shop.orders", 11, 70'000}, {"", 2, 3}}};
}

// The reason a decoder gives; empty when it took the bytes.
std::string refusal_of(const std::string& bytes) {
    try {
        decode_ledger_record(bytes);
        return "";
    } catch (const Failure& failure) {
        EXPECT_EQ(failure.kind(), FailureKind::kHalt);
        return failure.reason();
    }
}

Uuid any_uuid() {
    Uuid uuid;
    for (unsigned char& byte : uuid.bytes) byte = *rc::gen::arbitrary<unsigned char>();
    return uuid;
}

// Sorted by lane and id, each once, as a publisher writes them.
std::vector<LedgerTask> any_tasks() {
    const auto raw = *rc::gen::arbitrary<std::vector<std::tuple<uint8_t, uint32_t, uint32_t>>>();
    std::vector<LedgerTask> tasks;
    for (const auto& [lane, id, digest] : raw) {
        tasks.push_back({static_cast<int16_t>(lane % 64), int64_t{id} * 1'000'003, digest});
    }
    const auto place = [](const LedgerTask& task) { return std::pair(task.lane, task.id); };
    std::sort(tasks.begin(), tasks.end(),
              [&](const auto& a, const auto& b) { return place(a) < place(b); });
    tasks.erase(std::unique(tasks.begin(), tasks.end(),
                            [&](const auto& a, const auto& b) { return place(a) == place(b); }),
                tasks.end());
    return tasks;
}

LedgerRecord any_record() {
    LedgerRecord record{.installation = any_uuid(),
                        .publisher = *rc::gen::inRange<int16_t>(0, 32),
                        .epoch = *rc::gen::nonNegative<int64_t>(),
                        .seq = *rc::gen::nonNegative<int64_t>(),
                        .tasks = any_tasks(),
                        .counters = {}};
    for (const auto& topic : *rc::gen::arbitrary<std::vector<std::string>>()) {
        record.counters.push_back(
            {topic, *rc::gen::nonNegative<int32_t>(), *rc::gen::nonNegative<int64_t>()});
    }
    return record;
}

// PROTOCOL 4.1.
TEST(LedgerRecord, DecodesWhatWasEncoded) {
    const LedgerRecord record = some_record();

    EXPECT_EQ(decode_ledger_record(encode(record)), record);
}

// PROTOCOL 4.1.
TEST(LedgerRecord, DecodesAnyRecordThatWasEncoded) {
    EXPECT_TRUE(rc::check([] {
        const LedgerRecord record = any_record();
        RC_ASSERT(decode_ledger_record(encode(record)) == record);
    }));
}

TEST(LedgerRecord, OfNoTasksDecodesToNone) {
    LedgerRecord record = some_record();
    record.tasks.clear();
    record.counters.clear();

    EXPECT_EQ(decode_ledger_record(encode(record)), record);
}

// PROTOCOL 4.1: other programs, and our own later ones, read these bytes.
TEST(LedgerRecord, HasTheBytesOfItsGrammar) {
    const LedgerRecord record{.installation = uuid_of("00112233-4455-6677-8899-aabbccddeeff"),
                              .publisher = 5,
                              .epoch = 2,
                              .seq = 258,
                              .tasks = {{1, 300, 0x01020304}},
                              .counters = {{"t", 2, 128}}};

    std::string body("\x01\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF", 17);
    body.append("\x05", 1);
    body.append("\x02\0\0\0\0\0\0\0", 8);
    body.append("\x02\x01\0\0\0\0\0\0", 8);
    body.append("\x01", 1);                          // Tasks.
    body.append("\x01\x01\x01", 3);                  // One lane: number 1, one task.
    body.append("\xAC\x02\x04\x03\x02\x01", 6);      // Id 300, digest.
    body.append("\x01\x01t\x02\x80\x01", 6);         // One counter: "t", 2, 128.
    const std::string bytes = encode(record);

    ASSERT_EQ(bytes.size(), body.size() + 4);
    EXPECT_EQ(bytes.substr(0, body.size()), body);
}

TEST(LedgerRecord, IsRefusedWhenCutAnywhere) {
    const std::string bytes = encode(some_record());

    for (size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_EQ(refusal_of(bytes.substr(0, size)), "ledger_corrupt") << "cut to " << size;
    }
}

TEST(LedgerRecord, IsRefusedWhenBytesFollowIt) {
    EXPECT_EQ(refusal_of(encode(some_record()) + '\0'), "ledger_corrupt");
}

TEST(LedgerRecord, IsRefusedWithAnyBitFlippedBehindTheFormat) {
    const std::string bytes = encode(some_record());

    for (size_t i = 1; i < bytes.size(); ++i) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string flipped = bytes;
            flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
            EXPECT_EQ(refusal_of(flipped), "ledger_corrupt") << "byte " << i << " bit " << bit;
        }
    }
}

// PROTOCOL 4.1: damage must not be taken for a newer program's record, nor the other way round; so
// the format is looked at before the checksum.
TEST(LedgerRecord, OfEachOtherFormatIsToldFromADamagedOne) {
    for (int format = 0; format < 256; ++format) {
        if (format == kLedgerFormat) continue;
        std::string bytes = encode(some_record());
        bytes[0] = static_cast<char>(format);
        EXPECT_EQ(refusal_of(bytes), "ledger_format") << "format " << format;
    }
}

// A count that promises more than there is must not be believed, even with the right checksum.
TEST(LedgerRecord, IsRefusedWhenItsCountOfTasksDiffers) {
    std::string bytes = encode(some_record());
    constexpr size_t kCountPlace = 1 + 16 + 1 + 8 + 8;
    ASSERT_EQ(bytes[kCountPlace], 4);
    bytes[kCountPlace] = 5;
    bytes.resize(bytes.size() - 4);
    const uint32_t crc = crc32c(bytes);
    for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(crc >> (8 * i) & 0xFF));

    EXPECT_EQ(refusal_of(bytes), "ledger_corrupt");
}

// RFC 3720, appendix B.4.
TEST(Crc32c, HasTheValuesOfTheStandard) {
    std::string ascending;
    for (int i = 0; i < 32; ++i) ascending.push_back(static_cast<char>(i));

    EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
    EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
    EXPECT_EQ(crc32c(ascending), 0x46DD794EU);
}

// PROTOCOL 4.1: two UUIDv7 of the same millisecond share their first bytes.
TEST(Digest, DependsOnEachBitOfTheEventId) {
    const Uuid id = uuid_of("0190b2f0-7a3c-7def-8123-456789abcdef");

    for (size_t i = 0; i < id.bytes.size(); ++i) {
        for (int bit = 0; bit < 8; ++bit) {
            Uuid other = id;
            other.bytes[i] = static_cast<unsigned char>(other.bytes[i] ^ (1 << bit));
            EXPECT_NE(digest_of(other), digest_of(id)) << "byte " << i << " bit " << bit;
        }
    }
}

TEST(ClaimRecord, DecodesWhatWasEncoded) {
    const ClaimRecord record{uuid_of("00112233-4455-6677-8899-aabbccddeeff"), -5, 16384};

    const ClaimRecord found = decode_claim_record(encode(record));

    EXPECT_EQ(found.installation, record.installation);
    EXPECT_EQ(found.system_identifier, record.system_identifier);
    EXPECT_EQ(found.database_oid, record.database_oid);
}

TEST(ClaimRecord, IsRefusedWhenCutAnywhere) {
    const std::string bytes = encode(ClaimRecord{Uuid::random(), 1, 2});

    for (size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_THROW(decode_claim_record(bytes.substr(0, size)), Failure) << "cut to " << size;
    }
}

}  // namespace
}  // namespace millrace
