#include "consumers/assignment.h"

#include <algorithm>

#include "core/log.h"

namespace millrace {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kPollLimit{100};
constexpr milliseconds kTakeAgainFirst{200};
constexpr milliseconds kTakeAgainMax{10000};
constexpr seconds kLookAgainAfter{1};
constexpr std::chrono::minutes kRetakeWaitMax{5};
// A partition with so many batches' worth of records is not read further until they are applied.
constexpr size_t kBufferedBatches = 4;

}  // namespace

Assignment::Assignment(const ProjectionOptions& options, GroupConsumer& consumer,
                       ProjectionMetrics& metrics, WorkerWatch& watch)
    : options_(options),
      consumer_(consumer),
      metrics_(metrics),
      watch_(watch),
      taker_(options, consumer.raw(), metrics, watch),
      topic_watch_(consumer.raw(), options.topics) {}

Assignment::~Assignment() {
    for (const auto& [where, partition] : partitions_) metrics_.forget_lag(where);
}

void Assignment::seed(Positions& positions) { taker_.seed(positions); }

void Assignment::fetch(milliseconds limit, size_t count_max) {
    milliseconds wait = limit;
    for (size_t count = 0; count < count_max; ++count) {
        Fetched fetched = consumer_.poll(wait);
        wait = milliseconds(0);
        note_changes();
        if (fetched.kind == Fetched::Kind::kNothing) return;
        note(std::move(fetched));
    }
}

void Assignment::take_due(Positions& positions, Batch* batch, const std::stop_token& stop) {
    taker_.begin_round();
    std::vector<OwnedPartition*> taken;
    bool goes_on = true;
    // What was read already first: it asks PostgreSQL alone.
    for (const auto hold : {OwnedPartition::Hold::kToConfirm, OwnedPartition::Hold::kWanted}) {
        for (auto& [where, partition] : partitions_) {
            if (!goes_on || stop.stop_requested()) break;
            if (partition.hold != hold || partition.take_at > Clock::now()) continue;
            // Each may wait for a server as long as a call may.
            watch_.loop.note_progress();
            goes_on = try_take(partition, positions, batch, taken);
        }
    }
    // Only now: a broker answers one request of a connection after the other, so each question
    // above would wait behind the long poll of those that are read already.
    for (OwnedPartition* partition : taken) begin(*partition, partition->position);
}

bool Assignment::try_take(OwnedPartition& partition, Positions& positions, Batch* batch,
                          std::vector<OwnedPartition*>& taken) {
    try {
        if (partition.hold == OwnedPartition::Hold::kToConfirm) {
            confirm(partition, positions, batch);
        } else if (taker_.take(partition, positions)) {
            taken.push_back(&partition);
        } else {
            postpone(partition,
                     "position_out_of_range: " + partition.where.text() +
                         ": the log does not reach the position",
                     kLookAgainAfter);
        }
        return true;
    } catch (const Failure& failure) {
        if (is_lock_wait(failure.sqlstate())) {
            taker_.end_owner(partition.where, positions);
        } else if (!failure.reason().starts_with("kafka_")) {
            throw;
        }
        postpone(partition, failure.what());
        return false;
    }
}

void Assignment::resync(OwnedPartition& partition, Positions& positions) {
    // Until it is done, its batches would only be refused again.
    partition.hold = OwnedPartition::Hold::kToConfirm;
    partition.take_at = {};
    const std::optional<PositionRow> row = positions.read(partition.where);
    if (!row) throw position_missing(partition.where);
    if (row->is_mine) {
        // Somebody changed it in our name: an operator's verb, or our own COMMIT in doubt.
        taker_.load_parked(partition, positions);
        if (row->position.next_offset == partition.position.next_offset &&
            partition.generation != 0) {
            // It stands where it stood, so what was read goes on from there (PROTOCOL 7.4): a
            // re-drive moves the epoch on again and again.
            partition.position.epoch = row->position.epoch;
            partition.set_held();
            return;
        }
        log(LogLevel::kWarn, "consumers", "position adopted",
            {{"partition", partition.where.text()},
             {"offset", row->position.next_offset},
             {"epoch", row->position.epoch}});
        begin(partition, row->position);
        return;
    }
    consumer_.stop_fetching(partition.where);
    partition.begin(0);
    partition.hold = OwnedPartition::Hold::kWanted;
    partition.retake_wait =
        std::clamp<milliseconds>(partition.retake_wait * 2, options_.retake_after, kRetakeWaitMax);
    partition.take_at = Clock::now() + partition.retake_wait;
    log(LogLevel::kWarn, "consumers", "position taken by another owner",
        {{"partition", partition.where.text()},
         {"again_after_ms", partition.retake_wait.count()}});
}

void Assignment::put_off(OwnedPartition& partition, std::string why,
                         std::optional<milliseconds> wait) {
    partition.hold = OwnedPartition::Hold::kToConfirm;
    postpone(partition, std::move(why), wait);
}

void Assignment::session_lost() {
    for (auto& [where, partition] : partitions_) {
        if (partition.hold != OwnedPartition::Hold::kHeld) continue;
        partition.hold = OwnedPartition::Hold::kToConfirm;
        partition.take_at = {};
    }
}

void Assignment::applied(OwnedPartition& partition, const Batch& batch) {
    partition.drop_front(batch.record_count);
    partition.position.next_offset = batch.move.to;
    partition.position.leader_epoch = batch.move.leader_epoch;
    partition.retake_wait = milliseconds(0);
    // Not of a batch that was in doubt: the keys were read anew since, and some may be free by now.
    if (!batch.is_committed) {
        partition.parked_keys.insert(batch.parked_keys.begin(), batch.parked_keys.end());
    }
    partition.note_success(options_.batch);
    if (!partition.has_batches(options_.batch, 1)) consumer_.resume(partition.where);
    to_commit_[partition.where] = batch.move.to;
}

OwnedPartition* Assignment::find(uint64_t generation) {
    if (last_found_ != nullptr && last_found_->generation == generation) return last_found_;
    for (auto& [where, partition] : partitions_) {
        if (partition.generation != generation || generation == 0) continue;
        last_found_ = &partition;
        return last_found_;
    }
    return nullptr;
}

OwnedPartition* Assignment::next_due(const BatchLimits& limits) {
    const auto now = Clock::now();
    OwnedPartition* due = nullptr;
    for (auto& [where, partition] : partitions_) {
        if (partition.hold != OwnedPartition::Hold::kHeld || partition.records.empty()) continue;
        const bool is_due = partition.records.size() >= partition.event_count_max(limits) ||
                            partition.byte_count >= limits.byte_count ||
                            now - partition.oldest_at >= limits.linger;
        if (is_due && (due == nullptr || partition.oldest_at < due->oldest_at)) due = &partition;
    }
    return due;
}

// The log's end moves past markers, too. A position that stayed before them would lie outside of
// the log once retention has removed them, and look as if something were lost.
OwnedPartition* Assignment::next_to_catch_up() {
    const auto now = Clock::now();
    for (auto& [where, partition] : partitions_) {
        if (partition.hold != OwnedPartition::Hold::kHeld || !partition.is_at_end()) continue;
        if (partition.end_offset <= partition.position.next_offset) continue;
        if (now - partition.ended_at >= options_.catch_up_after) return &partition;
    }
    return nullptr;
}

milliseconds Assignment::idle_time(const BatchLimits& limits) const {
    const auto now = Clock::now();
    Clock::duration wait = kPollLimit;
    for (const auto& [where, partition] : partitions_) {
        if (partition.hold != OwnedPartition::Hold::kHeld) {
            wait = std::min<Clock::duration>(wait, partition.take_at - now);
        } else if (!partition.records.empty()) {
            wait = std::min<Clock::duration>(wait, partition.oldest_at + limits.linger - now);
        }
    }
    return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(wait));
}

void Assignment::show_progress() {
    commit_offsets();
    check_topics();
    const auto now = std::chrono::duration_cast<milliseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    for (const auto& [where, partition] : partitions_) {
        // One that is put off goes on being read, and its lag is what shows the trouble.
        if (partition.hold == OwnedPartition::Hold::kWanted) continue;
        if (partition.is_at_end()) {
            metrics_.set_lag(where, 0, 0);
            continue;
        }
        int64_t low = 0;
        int64_t high = 0;
        const rd_kafka_resp_err_t code = rd_kafka_get_watermark_offsets(
            consumer_.raw(), where.topic.c_str(), where.partition, &low, &high);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR || high < 0 || partition.records.empty()) continue;
        const milliseconds oldest(
            rd_kafka_message_timestamp(partition.records.front().get(), nullptr));
        metrics_.set_lag(where, std::max<int64_t>(0, high - partition.position.next_offset),
                         std::chrono::duration<double>(now - oldest).count());
    }
}

void Assignment::commit_offsets() { consumer_.commit_later(std::exchange(to_commit_, {})); }

void Assignment::check_topics() {
    const std::map<std::string, Uuid> ids = topic_watch_.look();
    if (ids.empty()) return;
    for (const auto& [where, partition] : partitions_) {
        const auto id = ids.find(where.topic);
        if (id != ids.end()) PositionTaker::check_topic(partition, id->second);
    }
}

std::string Assignment::waiting() const {
    for (const auto& [where, partition] : partitions_) {
        if (!partition.waiting.empty()) return partition.waiting;
    }
    return "";
}

void Assignment::note_changes() {
    for (const AssignmentChange& change : consumer_.take_changes()) {
        last_found_ = nullptr;
        partitions_.erase(change.where);
        // Told now it could come after what its next owner tells.
        to_commit_.erase(change.where);
        metrics_.forget_lag(change.where);
        if (change.is_gained) partitions_[change.where].where = change.where;
        log(LogLevel::kInfo, "consumers", change.is_gained ? "partition gained" : "partition lost",
            {{"projection", options_.projection.name}, {"partition", change.where.text()}});
    }
}

void Assignment::note(Fetched fetched) {
    OwnedPartition* partition = find(fetched.generation);
    if (partition == nullptr) return;
    switch (fetched.kind) {
        case Fetched::Kind::kNothing: return;
        case Fetched::Kind::kEnd:
            partition->end_offset = fetched.offset;
            partition->ended_at = Clock::now();
            partition->forget_refusals();
            return;
        case Fetched::Kind::kRefused:
            log(LogLevel::kWarn, "consumers", "log refused the position",
                {{"partition", partition->where.text()}, {"detail", fetched.detail}});
            consumer_.stop_fetching(partition->where);
            partition->begin(0);
            partition->hold = OwnedPartition::Hold::kWanted;
            // A follower that has just become leader may lag.
            partition->take_at = Clock::now() + kLookAgainAfter;
            ++partition->refused_count;
            if (fetched.is_truncated) partition->truncation = fetched.detail;
            return;
        case Fetched::Kind::kRecord: note_record(*partition, std::move(fetched)); return;
    }
}

void Assignment::note_record(OwnedPartition& partition, Fetched fetched) {
    const int64_t least = partition.records.empty() ? partition.position.next_offset
                                                    : partition.records.back()->offset + 1;
    if (fetched.offset < least) {
        // Never seen. What this stretch brought can't be trusted, so it is read anew from where the
        // position stands (PROTOCOL 7.4).
        log(LogLevel::kWarn, "consumers", "record below the expected offset",
            {{"partition", partition.where.text()},
             {"offset", fetched.offset},
             {"expected", least}});
        consumer_.stop_fetching(partition.where);
        partition.begin(0);
        last_found_ = nullptr;
        partition.hold = OwnedPartition::Hold::kToConfirm;
        partition.take_at = {};
        return;
    }
    partition.add(std::move(fetched.message));
    if (partition.has_batches(options_.batch, kBufferedBatches)) consumer_.pause(partition.where);
}

// The session that took it is gone. Taking it again names the new one, and ends by its epoch
// whatever the old backend may still be about to do; so the offset that is read is the last word on
// a COMMIT whose answer was lost.
void Assignment::confirm(OwnedPartition& partition, Positions& positions, Batch* batch) {
    const std::optional<Position> position = positions.retake(partition.where);
    if (!position) {
        resync(partition, positions);
        return;
    }
    const bool was_in_doubt =
        batch != nullptr && batch->is_in_doubt && batch->generation == partition.generation;
    if (was_in_doubt) batch->is_in_doubt = false;
    if (was_in_doubt && position->next_offset == batch->move.to) {
        batch->is_committed = true;
    } else if (position->next_offset != partition.position.next_offset ||
               partition.generation == 0) {
        taker_.load_parked(partition, positions);
        begin(partition, *position);
        return;
    }
    if (batch != nullptr && batch->generation == partition.generation && !batch->is_committed) {
        batch->is_stale = true;
    }
    partition.position.epoch = position->epoch;
    taker_.load_parked(partition, positions);
    partition.set_held();
}

void Assignment::begin(OwnedPartition& partition, const Position& position) {
    // Should the fetch not begin, nothing read before may be applied against the new position:
    // the partition is taken anew.
    partition.begin(0);
    partition.hold = OwnedPartition::Hold::kWanted;
    partition.take_at = {};
    try {
        partition.begin(consumer_.fetch_from(partition.where, position.next_offset,
                                             position.leader_epoch));
    } catch (const Failure& failure) {
        if (!failure.reason().starts_with("kafka_")) throw;
        // A commit that is under way keeps librdkafka from beginning: no reason for the others to
        // wait.
        postpone(partition, failure.what(), kLookAgainAfter);
        return;
    }
    partition.position = position;
    partition.set_held();
    last_found_ = nullptr;
    // What an owner that died had applied last it may not have told the lag tools.
    to_commit_[partition.where] = position.next_offset;
}

void Assignment::postpone(OwnedPartition& partition, std::string why,
                          std::optional<milliseconds> wait) {
    if (!wait) {
        partition.take_wait =
            std::clamp<milliseconds>(partition.take_wait * 2, kTakeAgainFirst, kTakeAgainMax);
        wait = partition.take_wait;
    }
    partition.take_at = Clock::now() + *wait;
    log(LogLevel::kWarn, "consumers", "partition not taken yet",
        {{"partition", partition.where.text()}, {"why", why}, {"again_after_ms", wait->count()}});
    partition.waiting = std::move(why);
}

}  // namespace millrace
