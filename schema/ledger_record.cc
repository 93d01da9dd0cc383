#include "schema/ledger_record.h"

#include <array>

#include "core/failure.h"

// Grammar of a ledger record's value; integers are little endian, varints are LEB128:
//
//   record   := format:u8 installation:16 publisher:u8 epoch:u64 seq:u64 count:varint
//               lane_count:varint lane* counter_count:varint counter* crc:u32
//   lane     := number:varint count:varint (delta:varint digest:u32)*    ids ascend; first from 0
//   counter  := topic_length:varint topic partition:varint n:varint
//   crc      := CRC-32C of everything before it

namespace millrace {

namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
    constexpr uint32_t kPolynomial = 0x82F63B78;  // Castagnoli, reflected (RFC 3720, appendix B.4).
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) {
            value = (value & 1) != 0 ? value >> 1 ^ kPolynomial : value >> 1;
        }
        table[i] = value;
    }
    return table;
}

constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

template <typename Unsigned>
void append_fixed(std::string& out, Unsigned value) {
    for (size_t i = 0; i < sizeof(value); ++i) {
        out.push_back(static_cast<char>(value >> (8 * i) & 0xFF));
    }
}

void append_varint(std::string& out, uint64_t value) {
    while (value >= 0x80) {
        out.push_back(static_cast<char>(value | 0x80));
        value >>= 7;
    }
    out.push_back(static_cast<char>(value));
}

Failure corrupt(const std::string& why) {
    return halt("ledger_corrupt", "a ledger record can't be read: " + why);
}

// Reads from the front of a record; running out of bytes is damage.
class Reader {
  public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}

    std::string_view take(size_t size) {
        if (bytes_.size() < size) throw corrupt("it ends too early");
        const std::string_view taken = bytes_.substr(0, size);
        bytes_.remove_prefix(size);
        return taken;
    }

    template <typename Unsigned>
    Unsigned fixed() {
        const std::string_view taken = take(sizeof(Unsigned));
        Unsigned value = 0;
        for (size_t i = sizeof(Unsigned); i-- > 0;) {
            value = static_cast<Unsigned>(static_cast<uint64_t>(value) << 8 |
                                          static_cast<unsigned char>(taken[i]));
        }
        return value;
    }

    uint64_t varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            const auto byte = static_cast<unsigned char>(take(1)[0]);
            value |= static_cast<uint64_t>(byte & 0x7F) << shift;
            if ((byte & 0x80) == 0) return value;
        }
        throw corrupt("a number is too long");
    }

    bool at_end() const { return bytes_.empty(); }

  private:
    std::string_view bytes_;
};

void append_lanes(std::string& out, const std::vector<LedgerTask>& tasks) {
    uint64_t lane_count = 0;
    for (size_t i = 0; i < tasks.size(); ++i) {
        if (i == 0 || tasks[i].lane != tasks[i - 1].lane) ++lane_count;
    }
    append_varint(out, lane_count);
    for (size_t begin = 0; begin < tasks.size();) {
        size_t end = begin;
        while (end < tasks.size() && tasks[end].lane == tasks[begin].lane) ++end;
        append_varint(out, static_cast<uint64_t>(tasks[begin].lane));
        append_varint(out, end - begin);
        int64_t previous = 0;
        for (size_t i = begin; i < end; ++i) {
            append_varint(out, static_cast<uint64_t>(tasks[i].id - previous));
            append_fixed(out, tasks[i].digest);
            previous = tasks[i].id;
        }
        begin = end;
    }
}

std::vector<LedgerTask> read_lanes(Reader& reader) {
    std::vector<LedgerTask> tasks;
    const uint64_t lane_count = reader.varint();
    for (uint64_t i = 0; i < lane_count; ++i) {
        const auto lane = static_cast<int16_t>(reader.varint());
        const uint64_t count = reader.varint();
        int64_t id = 0;
        for (uint64_t j = 0; j < count; ++j) {
            id += static_cast<int64_t>(reader.varint());
            const auto digest = reader.fixed<uint32_t>();
            tasks.push_back({lane, id, digest});
        }
    }
    return tasks;
}

std::string_view verified(std::string_view bytes) {
    if (bytes.empty()) throw corrupt("it is empty");
    const int format = static_cast<unsigned char>(bytes[0]);
    if (format != kLedgerFormat) {
        throw halt("ledger_format", "a ledger record has format " + std::to_string(format) +
                                        ", this program knows " + std::to_string(kLedgerFormat));
    }
    if (bytes.size() < 5) throw corrupt("it ends too early");
    const std::string_view body = bytes.substr(0, bytes.size() - 4);
    Reader tail(bytes.substr(bytes.size() - 4));
    if (tail.fixed<uint32_t>() != crc32c(body)) throw corrupt("its checksum differs");
    return body;
}

}  // namespace

bool is_unreadable(std::string_view reason) {
    return reason == "ledger_format" || reason == "ledger_corrupt";
}

uint32_t crc32c(std::string_view bytes) {
    uint32_t crc = 0xFFFFFFFF;
    for (const char byte : bytes) {
        crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
    }
    return crc ^ 0xFFFFFFFF;
}

uint32_t digest_of(const Uuid& event_id) { return crc32c(event_id.view()); }

std::string encode(const LedgerRecord& record) {
    std::string out;
    out.push_back(static_cast<char>(kLedgerFormat));
    out.append(record.installation.view());
    out.push_back(static_cast<char>(record.publisher));
    append_fixed(out, static_cast<uint64_t>(record.epoch));
    append_fixed(out, static_cast<uint64_t>(record.seq));
    append_varint(out, record.tasks.size());
    append_lanes(out, record.tasks);
    append_varint(out, record.counters.size());
    for (const SequenceCounter& counter : record.counters) {
        append_varint(out, counter.topic.size());
        out.append(counter.topic);
        append_varint(out, static_cast<uint64_t>(counter.partition));
        append_varint(out, static_cast<uint64_t>(counter.n));
    }
    append_fixed(out, crc32c(out));
    return out;
}

LedgerRecord decode_ledger_record(std::string_view bytes) {
    Reader reader(verified(bytes));
    LedgerRecord record;
    reader.take(1);
    record.installation = Uuid::from_bytes(reader.take(16).data());
    record.publisher = reader.fixed<uint8_t>();
    record.epoch = static_cast<int64_t>(reader.fixed<uint64_t>());
    record.seq = static_cast<int64_t>(reader.fixed<uint64_t>());
    const uint64_t task_count = reader.varint();
    record.tasks = read_lanes(reader);
    if (record.tasks.size() != task_count) throw corrupt("its count of tasks differs");
    const uint64_t counter_count = reader.varint();
    for (uint64_t i = 0; i < counter_count; ++i) {
        SequenceCounter counter;
        counter.topic = reader.take(reader.varint());
        counter.partition = static_cast<int32_t>(reader.varint());
        counter.n = static_cast<int64_t>(reader.varint());
        record.counters.push_back(std::move(counter));
    }
    if (!reader.at_end()) throw corrupt("it has bytes behind its end");
    return record;
}

std::string ledger_key(int publisher) { return std::to_string(publisher); }

std::string encode(const ClaimRecord& record) {
    std::string out;
    out.push_back(static_cast<char>(kLedgerFormat));
    out.append(record.installation.view());
    append_fixed(out, static_cast<uint64_t>(record.system_identifier));
    append_fixed(out, static_cast<uint64_t>(record.database_oid));
    append_fixed(out, crc32c(out));
    return out;
}

ClaimRecord decode_claim_record(std::string_view bytes) {
    Reader reader(verified(bytes));
    ClaimRecord record;
    reader.take(1);
    record.installation = Uuid::from_bytes(reader.take(16).data());
    record.system_identifier = static_cast<int64_t>(reader.fixed<uint64_t>());
    record.database_oid = static_cast<int64_t>(reader.fixed<uint64_t>());
    return record;
}

}  // namespace millrace
