#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "consumers/failure_policy.h"
#include "consumers/group_consumer.h"
#include "consumers/positions.h"
#include "consumers/projection_options.h"
#include "consumers/set_aside.h"
#include "consumers/sequence_watch.h"

namespace millrace {

// A partition that the group gave to this loop, with the records of it that were read and not yet
// applied.
struct OwnedPartition {
    using Clock = std::chrono::steady_clock;

    enum class Hold {
        kWanted,     // Ours by the group, not yet by its position: to be taken at `take_at`.
        kHeld,       // Ours, and read.
        kToConfirm,  // Read, but taken by a session that is gone: to be taken again first.
    };

    TopicPartition where;
    Hold hold = Hold::kWanted;
    Clock::time_point take_at{};
    std::chrono::milliseconds take_wait{0};    // Doubles each time it could not be taken.
    std::string waiting;                       // Why it could not; empty once it is held.
    std::chrono::milliseconds retake_wait{0};  // Doubles each time another owner takes it from us.
    int beyond_end_count = 0;                  // Looks in a row that found the position so.
    int refused_count = 0;                     // Refusals in a row, nothing read between.
    std::string truncation;                    // The broker's words, if one was for a cut log.

    Position position;
    KeySet parked_keys;  // Whose events wait behind dead letters, as of the position's epoch.
    uint64_t generation = 0;
    std::deque<kafka::Message> records;  // From position.next_offset on, gaps of the log left out.
    size_t byte_count = 0;
    Clock::time_point oldest_at{};  // When the first of them came.
    SequenceWatch sequence;
    bool is_judged = true;    // False for a compacted topic (PROTOCOL 7.4).
    // Where the committed log ended when it was read to its end; -1: not there.
    int64_t end_offset = -1;
    Clock::time_point ended_at{};

    // Trouble with its batches, remembered until one is applied: also while the partition is put
    // off and the others' turn has come.
    size_t event_count_cap = 0;  // 0: none. Halved by trouble, doubled by success.
    std::map<FailureClass, int> refusal_counts;
    int lost_send_count = 0;  // Sends whose connection was lost before the answer.

    // Of its next batch.
    size_t event_count_max(const BatchLimits& limits) const {
        return event_count_cap == 0 ? limits.event_count
                                    : std::min(event_count_cap, limits.event_count);
    }
    void note_success(const BatchLimits& limits) {
        event_count_cap = event_count_cap * 2 >= limits.event_count ? 0 : event_count_cap * 2;
        refusal_counts.clear();
        lost_send_count = 0;
    }
    void note_trouble(size_t cap) {
        event_count_cap = std::max<size_t>(1, cap);
        refusal_counts.clear();
        lost_send_count = 0;
    }

    // The log goes on at the position: what was refused before is mended.
    void forget_refusals() {
        refused_count = 0;
        truncation.clear();
    }

    bool is_at_end() const { return records.empty() && end_offset >= 0; }
    // True if so many batches' worth of records wait.
    bool has_batches(const BatchLimits& limits, size_t count) const {
        return records.size() >= limits.event_count * count ||
               byte_count >= limits.byte_count * count;
    }

    void set_held() {
        hold = Hold::kHeld;
        take_wait = std::chrono::milliseconds(0);
        waiting.clear();
    }
    void add(kafka::Message message) {
        if (records.empty()) oldest_at = Clock::now();
        byte_count += message->len + message->key_len;
        end_offset = -1;
        forget_refusals();
        records.push_back(std::move(message));
    }
    void drop_front(size_t count) {
        for (; count > 0; --count) {
            byte_count -= records.front()->len + records.front()->key_len;
            records.pop_front();
        }
        oldest_at = Clock::now();
    }
    // Another stretch of reading begins.
    void begin(uint64_t new_generation) {
        records.clear();
        byte_count = 0;
        sequence.clear();
        end_offset = -1;
        generation = new_generation;
    }
};

}  // namespace millrace
