#include "relay/ledger_reader.h"

#include <algorithm>

#include "core/kafka/handles.h"
#include "core/log.h"
#include "relay/publishers.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

// A transaction is a record and a marker, so eight offsets hold the newest few.
constexpr int64_t kFirstStep = 8;
constexpr std::chrono::seconds kPingLimit{1};

int milliseconds_left(Clock::time_point deadline) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return static_cast<int>(std::max<long long>(0, left));
}

kafka::Properties fixed_properties() {
    return {
        {"group.id", "millrace-ledger"},  // Required by librdkafka; no group is ever joined.
        {"isolation.level", "read_committed"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"auto.offset.reset", "error"},
        {"check.crcs", "true"},
        {"fetch.wait.max.ms", "20"},
        {"fetch.queue.backoff.ms", "2"},
    };
}

}  // namespace

LedgerReader::LedgerReader(const kafka::ClientOptions& options, std::string topic,
                           Uuid installation, kafka::Reaper& reaper)
    : topic_(std::move(topic)),
      installation_(installation),
      client_(kafka::make_client(RD_KAFKA_CONSUMER, kafka::make_conf(options, fixed_properties())),
              kafka::Bury{&reaper, nullptr}) {
    rd_kafka_poll_set_consumer(client_.get());
}

std::optional<LedgerRecord> LedgerReader::newest(int16_t publisher,
                                                 std::chrono::milliseconds limit) {
    const Deadline deadline = Clock::now() + limit;
    const auto lock = lock_until(deadline);
    return newest_below(publisher, high_watermark(publisher, deadline), deadline);
}

LedgerReader::Others LedgerReader::others(int16_t except, std::chrono::milliseconds limit) {
    const Deadline deadline = Clock::now() + limit;
    const auto lock = lock_until(deadline);
    std::vector<int32_t> partitions;
    for (int32_t partition = 0; partition < kPublisherCount; ++partition) {
        if (partition != except) partitions.push_back(partition);
    }
    // A publisher may be in the middle of a transaction, which is no concern of this look: what is
    // committed counts.
    const auto ends = admin(deadline).last_stable_offsets(topic_, partitions);
    Others others;
    for (const int32_t partition : partitions) {
        const auto publisher = static_cast<int16_t>(partition);
        try {
            const auto end = ends.find(partition);
            if (end == ends.end()) throw transient("kafka_unreachable", "no broker tells its end");
            if (const auto record = newest_below(publisher, end->second, deadline)) {
                others.newest.emplace(publisher, *record);
            }
        } catch (const Failure& failure) {
            if (failure.reason() == "prefix_taken") throw;
            // One that stands still, or a record that only a later program can read, is that
            // publisher's concern alone.
            others.unread.emplace(publisher, failure);
            log(LogLevel::kWarn, "relay", "ledger partition can't be read",
                {{"publisher", publisher},
                 {"reason", failure.reason()},
                 {"detail", failure.detail()}});
        }
    }
    return others;
}

std::vector<LedgerRecord> LedgerReader::after(int16_t publisher, int64_t seq,
                                              std::chrono::milliseconds limit) {
    const Deadline deadline = Clock::now() + limit;
    const auto lock = lock_until(deadline);
    const Tail tail = read(publisher, low_watermark(publisher, deadline),
                           high_watermark(publisher, deadline), deadline);
    if (!tail.is_complete) throw transient("ledger_unread", "the ledger could not be read in time");
    std::vector<LedgerRecord> records;
    for (const auto& [key, value] : tail.records) {
        if (key != ledger_key(publisher)) continue;
        LedgerRecord record = checked(value);
        if (record.seq > seq) records.push_back(std::move(record));
    }
    return records;
}

std::optional<ClaimRecord> LedgerReader::claim(std::chrono::milliseconds limit) {
    const Deadline deadline = Clock::now() + limit;
    const auto lock = lock_until(deadline);
    // What is committed shows a claim even while a dead publisher's transaction is open in the
    // partition; only that there is none takes the whole partition to prove.
    const int64_t committed = admin(deadline).last_stable_offsets(topic_, {0}).at(0);
    for (const int64_t end : {committed, high_watermark(0, deadline)}) {
        if (end == 0) continue;
        const Tail tail = read(0, low_watermark(0, deadline), end, deadline);
        for (auto entry = tail.records.rbegin(); entry != tail.records.rend(); ++entry) {
            if (entry->first == kClaimKey) return decode_claim_record(entry->second);
        }
        if (!tail.is_complete) {
            throw transient("ledger_unread", "the ledger could not be read in time");
        }
    }
    return std::nullopt;
}

void LedgerReader::ping() {
    const Deadline deadline = Clock::now() + kPingLimit;
    const auto lock = lock_until(deadline);
    high_watermark(0, deadline);
    // Serves the client's log lines; nothing is assigned, so there is no message.
    const kafka::Message none(rd_kafka_consumer_poll(client_.get(), 0));
}

std::unique_lock<std::timed_mutex> LedgerReader::lock_until(Deadline deadline) {
    std::unique_lock lock(mutex_, deadline);
    if (!lock) throw transient("ledger_unread", "another thread is reading the ledger");
    return lock;
}

kafka::Admin LedgerReader::admin(Deadline deadline) const {
    return kafka::Admin(client_.get(), std::chrono::milliseconds(milliseconds_left(deadline)));
}

// Searches backwards, for the newest record is hardly ever far from the end.
std::optional<LedgerRecord> LedgerReader::newest_below(int16_t publisher, int64_t end,
                                                       Deadline deadline) {
    if (end == 0) return std::nullopt;
    for (int64_t step = kFirstStep;; step *= 16) {
        const int64_t from = std::max<int64_t>(0, end - step);
        const Tail tail = read(publisher, from, end, deadline);
        if (!tail.is_complete) {
            throw transient("ledger_open_transaction",
                            "publisher " + std::to_string(publisher) +
                                ": a transaction is open in its ledger partition, or the broker "
                                "does not answer");
        }
        if (auto record = last_in(tail, publisher)) return record;
        if (from == 0) return std::nullopt;
    }
}

// Reads from `from`, or from the log's start if that is later, up to `end`. Not until the log's end
// is met: a publisher at work commits again and again before its partition shows one.
LedgerReader::Tail LedgerReader::read(int32_t partition, int64_t from, int64_t end,
                                      Deadline deadline) {
    const kafka::Partitions assignment(rd_kafka_topic_partition_list_new(1));
    rd_kafka_topic_partition_list_add(assignment.get(), topic_.c_str(), partition)->offset = from;
    rd_kafka_resp_err_t code = rd_kafka_assign(client_.get(), assignment.get());
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(code, "assign the ledger");

    Tail tail;
    while (!tail.is_complete && Clock::now() < deadline) {
        const kafka::Message message(
            rd_kafka_consumer_poll(client_.get(), std::min(100, milliseconds_left(deadline))));
        if (message == nullptr) continue;
        if (message->rkt != nullptr && message->partition != partition) continue;  // Of before.
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            // The end of what is committed: an open transaction may keep it below the wanted one.
            tail.is_complete = message->offset >= end;
            continue;
        }
        if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
            // Compaction or retention moved the log's start past `from`.
            rd_kafka_assign(client_.get(), nullptr);
            return read(partition, low_watermark(partition, deadline), end, deadline);
        }
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;  // The client retries by itself.
        tail.records.emplace_back(
            std::string(static_cast<const char*>(message->key), message->key_len),
            std::string(static_cast<const char*>(message->payload), message->len));
        tail.is_complete = message->offset >= end;
    }
    code = rd_kafka_assign(client_.get(), nullptr);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(code, "unassign the ledger");
    return tail;
}

std::optional<LedgerRecord> LedgerReader::last_in(const Tail& tail, int16_t publisher) const {
    const std::string key = ledger_key(publisher);
    for (auto entry = tail.records.rbegin(); entry != tail.records.rend(); ++entry) {
        if (entry->first == key) return checked(entry->second);
    }
    return std::nullopt;
}

LedgerRecord LedgerReader::checked(const std::string& value) const {
    LedgerRecord record = decode_ledger_record(value);
    if (record.installation != installation_) {
        throw halt("prefix_taken", "the ledger topic " + topic_ + " has a record of installation " +
                                       record.installation.text() + ", ours is " +
                                       installation_.text());
    }
    return record;
}

int64_t LedgerReader::high_watermark(int32_t partition, Deadline deadline) {
    return admin(deadline).high_watermarks(topic_, {partition}).at(partition);
}

int64_t LedgerReader::low_watermark(int32_t partition, Deadline deadline) {
    int64_t low = 0;
    int64_t high = 0;
    const rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
        client_.get(), topic_.c_str(), partition, &low, &high, milliseconds_left(deadline));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(code, "offsets of the ledger");
    return low;
}

}  // namespace millrace
