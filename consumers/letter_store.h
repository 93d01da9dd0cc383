#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "consumers/dead_letters.h"
#include "consumers/positions.h"
#include "consumers/set_aside.h"
#include "consumers/topic_partition.h"
#include "core/pg/session.h"
#include "core/uuid.h"
#include "schema/raw_headers.h"

namespace millrace {

// Which dead letters an operator means; what is left out holds for all.
struct LetterFilter {
    std::optional<std::string> projection{};
    std::vector<int64_t> ids{};
    std::optional<std::string> failure_class{};
    std::optional<std::string> reason{};
    std::optional<std::string> sqlstate{};
    std::optional<std::string> constraint{};
    std::optional<std::string> key{};
    std::optional<std::string> type{};
    std::optional<std::string> since{};  // Times as PostgreSQL reads them.
    std::optional<std::string> until{};

    // One line, as the options of a command; empty: all letters.
    std::string text() const;
};

// A letter without what its record holds.
struct LetterLine {
    int64_t id = 0;
    ProjectionName projection;
    TopicPartition where;
    int64_t offset = 0;
    std::optional<std::string> key{};
    std::optional<Uuid> event_id;
    std::string event_type;
    bool parks = false;
    std::string failure_class{};
    std::string reason{};
    std::optional<std::string> sqlstate{};
    std::optional<std::string> constraint{};
    std::optional<std::string> statement;
    std::string error;
    int attempt_count = 0;
    std::string since{};  // ISO 8601.
    int redrive_count = 0;
    bool is_quarantined = false;
    int64_t parked_count = 0;  // Events of its key that wait.

    // `shop.orders-3@42`
    std::string origin() const { return where.text() + "@" + std::to_string(offset); }
};

struct LetterCount {
    int64_t letter_count = 0;
    int64_t newest_id = 0;
};

// A group of them, for those who look at many.
struct LetterGroup {
    std::string projection{};
    std::string reason{};
    std::optional<std::string> sqlstate{};
    std::optional<std::string> constraint{};
    std::string event_type;
    int64_t letter_count = 0;
    int64_t quarantined_count = 0;
    std::string oldest;
    int64_t example_id = 0;
};

// A record as Kafka had it, read from one of the tables.
struct StoredRecord {
    std::optional<int64_t> letter_id;  // None: it waits behind one.
    int64_t offset = 0;
    std::chrono::milliseconds time{0};
    std::optional<std::string> key{};
    std::optional<std::string> value;
    std::vector<RawHeader> headers;

    void fill(const TopicPartition& where, Event& event) const;
};

// The front of some keys' queues.
struct QueuePart {
    std::vector<StoredRecord> records;
    bool is_cut = false;  // There is more.
};

struct ParkedKey {
    ProjectionName projection;
    TopicPartition where;
    std::string key{};
};

// What is open of a projection, and for how long.
struct OpenLetters {
    std::string projection{};
    int64_t letter_count = 0;
    int64_t parked_event_count = 0;
    int64_t parked_key_count = 0;
    double oldest_seconds = 0;  // Of the letters.
};

// All SQL of operators on what projections set aside. Not thread-safe: one per session. What
// changes something runs in the caller's transaction, which locked the position first
// (`lock_position`). Throws as the session does.
class LetterStore {
  public:
    explicit LetterStore(pg::Session& session) : session_(session) {}

    // By id, from behind `after` on.
    std::vector<LetterLine> list(const LetterFilter& filter, int64_t after, int64_t count_max);
    // All of them, at most `count_max`, by id and some hundred at a time; what comes while it runs
    // comes at the end.
    using OnPage = std::function<void(const std::vector<LetterLine>&)>;
    void for_each_page(const LetterFilter& filter, int64_t count_max, const OnPage& on_page);
    // And the newest id of them, 0 if there is none.
    LetterCount count(const LetterFilter& filter);
    std::vector<LetterGroup> summary(const LetterFilter& filter);
    std::vector<OpenLetters> open();
    // With its headers and value; nothing if it is gone.
    std::optional<StoredRecord> record(int64_t id);
    // Keys that wait behind no letter any more: a re-drive was interrupted, or a letter discarded.
    std::vector<ParkedKey> keys_without_letter(const std::optional<std::string>& projection,
                                               const std::optional<std::string>& key);

    // The queues of those keys, letters and what waits behind them, in order, cut at `count_max`
    // records or about 8 MiB.
    QueuePart queue(const ProjectionName& projection, const TopicPartition& where,
                    const std::vector<std::string>& keys, int64_t count_max);
    // Letters outside of a queue, in the order of their offsets; one that is gone is left out.
    std::vector<StoredRecord> records(const std::vector<int64_t>& ids);
    void remove(const ProjectionName& projection, const TopicPartition& where,
                const std::vector<StoredRecord>& records);
    // One that failed again; quarantined at its `redrives_max`-th time.
    void note_failure(int64_t id, const Cause& cause, int redrives_max);
    // Frees those of the keys whose queue is empty, and then moves the position's epoch on. How
    // many it freed.
    int64_t free_keys(const ProjectionName& projection, const TopicPartition& where,
                      const std::vector<std::string>& keys);

  private:
    pg::Session& session_;
};

}  // namespace millrace
