#include "consumers/batch.h"

#include <algorithm>

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

void Batch::set_aside(DeadLetter letter, const Event& event) {
    if (letter.parks) parked_keys.emplace(*event.key);
    std::erase(items, letter.index);
    const auto place = std::upper_bound(
        letters.begin(), letters.end(), letter,
        [](const DeadLetter& a, const DeadLetter& b) { return a.index < b.index; });
    letters.insert(place, std::move(letter));
}

FillEvent filler_of(const OwnedPartition& partition) {
    return [&partition](size_t index, Event& event) {
        fill(event, partition, *partition.records[index]);
    };
}

StormBreaker judge(StormBreaker storm, const Batch& batch) {
    size_t good_count = 0;
    for (const DeadLetter& letter : batch.letters) {
        const auto before = std::lower_bound(batch.items.begin(), batch.items.end(), letter.index) -
                            batch.items.begin();
        storm.note_good(static_cast<size_t>(before) - good_count);
        good_count = static_cast<size_t>(before);
        storm.note_letter();
        // Later good ones don't undo it.
        if (storm.is_tripped()) return storm;
    }
    storm.note_good(batch.items.size() - good_count);
    return storm;
}

std::string Batch::text() const {
    return where.text() + "@" + std::to_string(move.from) + "-" + std::to_string(move.to - 1);
}

Batch BatchCollector::collect(OwnedPartition& partition, const BatchLimits& limits) {
    Batch batch = catch_up(partition);
    batch.move.to = batch.move.from;
    handler_.clear();
    for (const kafka::Message& message : partition.records) {
        if (handler_.event_count() + batch.set_aside_count() >= partition.event_count_max(limits)) {
            break;
        }
        if (handler_.byte_count() + batch.set_aside_byte_count >= limits.byte_count) break;
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
    if (is_parked(partition, batch)) {
        batch.parked.push_back(batch.record_count);
        batch.set_aside_byte_count += message.len + message.key_len;
        return Taken::kTaken;
    }
    return give_to_handler(partition, message, batch);
}

// PROTOCOL 7.5.
bool BatchCollector::is_parked(const OwnedPartition& partition, const Batch& batch) const {
    if (!event_.key) return false;
    return (!partition.parked_keys.empty() && partition.parked_keys.contains(*event_.key)) ||
           (!batch.parked_keys.empty() && batch.parked_keys.contains(*event_.key));
}

// A record that can't be parsed names itself: nothing is sent for it, nobody has to look for it.
BatchCollector::Taken BatchCollector::give_to_handler(const OwnedPartition& partition,
                                                      const rd_kafka_message_t& message,
                                                      Batch& batch) {
    const bool halts = on_poison_ == OnPoison::kHalt;
    try {
        if (!handler_.collect(event_)) {
            MILLRACE_CHECK(handler_.event_count() > 0, "an empty batch takes any event");
            return Taken::kNotHere;
        }
    } catch (const Failure& failure) {
        if (failure.kind() != FailureKind::kPoison) throw;
        if (halts && batch.record_count == 0) {
            log(LogLevel::kError, "consumers", "event refused",
                {{"record", partition.where.text() + "@" + std::to_string(event_.offset)},
                 {"reason", failure.reason()},
                 {"correlation_id", correlation_id(event_)}});
        }
        // Under this policy what stands before it is applied first.
        if (halts) throw;
        DeadLetter letter{.index = batch.record_count,
                          .parks = parks_key(on_poison_, event_),
                          .cause = {.failure_class = FailureClass::kRecord,
                                    .reason = failure.reason(),
                                    .error = failure.detail()}};
        batch.set_aside(std::move(letter), event_);
        batch.set_aside_byte_count += message.len + message.key_len;
        return Taken::kTaken;
    }
    if (handler_.event_count() == 1) batch.oldest = event_.timestamp;
    batch.items.push_back(batch.record_count);
    return Taken::kTaken;
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
