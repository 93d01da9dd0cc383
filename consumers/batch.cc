#include "consumers/batch.h"

#include "core/check.h"
#include "core/log.h"
#include "schema/correlation.h"

namespace millrace {

namespace {

std::optional<std::string_view> optional_bytes(const void* bytes, size_t size) {
    if (bytes == nullptr) return std::nullopt;
    return std::string_view(static_cast<const char*>(bytes), size);
}

// What the message has, as views into it. The event is used again and again, for its headers'
// memory.
void fill(Event& event, const OwnedPartition& partition, const rd_kafka_message_t& message) {
    event.topic = partition.where.topic;
    event.partition = partition.where.partition;
    event.offset = message.offset;
    event.key = optional_bytes(message.key, message.key_len);
    event.payload = optional_bytes(message.payload, message.len);
    event.timestamp = std::chrono::milliseconds(rd_kafka_message_timestamp(&message, nullptr));
    event.headers.clear();

    rd_kafka_headers_t* headers = nullptr;
    if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return;
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) ==
                       RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
        event.headers.push_back({.name = name, .value = optional_bytes(value, size)});
    }
}

// The relay writes it behind the row's own headers, which may hold one of that name.
std::string_view sequence_header(const Event& event) {
    for (auto header = event.headers.rbegin(); header != event.headers.rend(); ++header) {
        if (header->name == "millrace-seq") return header->value.value_or("");
    }
    return "";
}

}  // namespace

std::string Batch::text() const {
    return where.text() + "@" + std::to_string(move.from) + "-" + std::to_string(move.to - 1);
}

Batch BatchCollector::collect(OwnedPartition& partition, const BatchLimits& limits) {
    Batch batch = catch_up(partition);
    batch.move.to = batch.move.from;
    handler_.clear();
    for (const kafka::Message& message : partition.records) {
        if (handler_.event_count() >= partition.event_count_max(limits)) break;
        if (handler_.byte_count() >= limits.byte_count) break;
        try {
            if (take(partition, *message, batch) == Taken::kNotHere) break;
        } catch (const Failure&) {
            // What stands before it is applied first; then it is the first of its batch and throws.
            if (batch.record_count == 0) throw;
            break;
        }
        ++batch.record_count;
        batch.move.to = message->offset + 1;
        const int32_t leader_epoch = rd_kafka_message_leader_epoch(message.get());
        batch.move.leader_epoch =
            leader_epoch >= 0 ? std::optional<int32_t>(leader_epoch) : std::nullopt;
    }
    batch.event_count = handler_.event_count();
    return batch;
}

Batch BatchCollector::catch_up(const OwnedPartition& partition) const {
    Batch batch;
    batch.where = partition.where;
    batch.generation = partition.generation;
    batch.move.from = partition.position.next_offset;
    batch.move.to = partition.end_offset;
    return batch;
}

BatchCollector::Taken BatchCollector::take(OwnedPartition& partition,
                                           const rd_kafka_message_t& message, Batch& batch) {
    const bool is_first = batch.record_count == 0;
    fill(event_, partition, message);
    parser_.parse(event_);
    judge_sequence(partition, is_first);
    if (!handler_.wants(event_)) {
        ++batch.skipped[event_.payload ? "type" : "tombstone"];
        return Taken::kTaken;
    }
    if (!collect(partition.where, is_first)) {
        MILLRACE_CHECK(handler_.event_count() > 0, "an empty batch takes any event");
        return Taken::kNotHere;
    }
    if (handler_.event_count() == 1) batch.oldest = event_.timestamp;
    return Taken::kTaken;
}

// A record that is refused halts the projection once it is the first of its batch.
bool BatchCollector::collect(const TopicPartition& where, bool is_first) {
    try {
        return handler_.collect(event_);
    } catch (const Failure& failure) {
        if (is_first) {
            log(LogLevel::kError, "consumers", "event refused",
                {{"record", where.text() + "@" + std::to_string(event_.offset)},
                 {"reason", failure.reason()},
                 {"correlation_id", correlation_id(event_)}});
        }
        throw;
    }
}

// PROTOCOL 7.4. A record that is judged is noted at once, unless it halts: then it is judged again
// when it is the first of its batch.
void BatchCollector::judge_sequence(OwnedPartition& partition, bool is_first) {
    if (!partition.is_judged) return;
    const std::string_view header = sequence_header(event_);
    if (header.empty()) return;
    const SequenceJump jump = partition.sequence.look(event_.offset, header);
    if (jump == SequenceJump::kNone) {
        partition.sequence.note(event_.offset, header);
        return;
    }
    const std::string detail = partition.where.text() + "@" + std::to_string(event_.offset) + ": " +
                               std::string(name_of(jump)) + ", millrace-seq " +
                               std::string(header) + " after " +
                               std::to_string(partition.sequence.last_of(header).value_or(0));
    if (on_gap_ == OnGap::kHalt && !is_first) throw halt("sequence_gap", detail);
    partition.sequence.note(event_.offset, header);
    metrics_.sequence_jump(std::string(name_of(jump)));
    if (on_gap_ == OnGap::kHalt) throw halt("sequence_gap", detail);
    log(LogLevel::kWarn, "consumers", "sequence gap counted", {{"detail", detail}});
}

}  // namespace millrace
