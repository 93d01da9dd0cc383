#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "consumers/bisection.h"
#include "consumers/dead_letters.h"
#include "consumers/handler.h"
#include "consumers/letter_store.h"
#include "core/pg/session.h"

namespace millrace {

struct RedriveOptions {
    bool is_dry_run = false;      // Execute, tell, roll back.
    bool is_out_of_order = false; // Also letters whose key's later events were applied.
    bool runs_quarantined = false;
    int redrive_count_max = 5;    // A letter that failed so often is quarantined.
    // Of the first transaction; later ones grow to 10,000 while they take less than 200 ms: the
    // position is locked meanwhile.
    int64_t event_count_first = 500;
    int retry_count = 5;           // Of a transaction that meets a conflict.
    bool copies_to_kafka = true;   // Parked events that become letters themselves; no cap holds.
    ClassOverrides overrides{};
};

// What came of one letter.
struct Redriven {
    enum class Outcome { kApplied, kFailed, kSkipped };
    int64_t id = 0;
    Outcome outcome = Outcome::kSkipped;
    std::string cause{};       // Of kFailed and kSkipped, in a few words, for groups.
    std::string why{};         // The same in full.
    int64_t parked_count = 0;  // Events behind it that were applied, too.
    // The event behind it that is poisoned itself, a letter of its own now; empty: none.
    std::string stopped_at{};
};
// By letter.
using RedrivenLetters = std::map<int64_t, Redriven>;
std::string_view name_of(Redriven::Outcome outcome);

// Runs dead letters through the projection they failed in, and through no other (PROTOCOL 7.5):
// each key's oldest first, then what waits behind it, until the key's next failure. One transaction
// applies, removes, and hands a key back whose queue it emptied; live events of the key wait until
// then. Workers may run meanwhile, and other re-drives. On one session, whose transactions it
// makes; not thread-safe. Waits two seconds at most for a lock; a conflict is tried again, with up
// to five seconds between. Throws as the session does, and kFatal `position_missing`: what was
// committed stays, and calling again goes on from there.
class Redrive {
  public:
    // `handler` is opened on the session by the caller.
    Redrive(pg::Session& session, Handler& handler, ProjectionName projection,
            RedriveOptions options);

    // Letters of one partition, those left out that `done` has: what was committed before a failure
    // is in it.
    void run(const TopicPartition& where, const std::vector<LetterLine>& letters,
             RedrivenLetters& done);
    // A key that waits behind no letter any more; `parked_count` and `stopped_at` of the result.
    Redriven finish(const TopicPartition& where, const std::string& key);

  private:
    struct Part;
    struct Round;

    void run_round(Round& round, RedrivenLetters& done);
    void try_round(Round& round);
    // The next part; keys whose turn it can't be leave the round.
    Part choose(Round& round);
    std::optional<Cause> parse_failure(const TopicPartition& where, const StoredRecord& record);
    void write_down(Round& round, const Part& part, const BisectionResult& found);
    void note_parked_failures(Round& round, const Part& part, const BisectionResult& found);

    pg::Session& session_;
    Handler& handler_;
    const ProjectionName projection_;
    const RedriveOptions options_;
    LetterStore store_;
    DeadLetters letters_;
    EventParser parser_;
    Event event_;
};

}  // namespace millrace
