#include "consumers/redrive.h"

#include <algorithm>
#include <set>
#include <thread>

#include "core/backoff.h"
#include "core/crash_point.h"
#include "core/log.h"

namespace millrace {

namespace {

// Bisection without an end by a storm: whoever re-drives has said which letters.
constexpr StormLimits kNoStorm{
    .share = 1, .event_count_window = 1'000'000'000, .in_a_row = SIZE_MAX};

// A transaction grows to so many events while it takes less than kQuick. A key that gets events
// faster than its queue is run would never be handed back otherwise.
constexpr int64_t kEventsMost = 10'000;
constexpr std::chrono::milliseconds kQuick{200};

// What the table calls a record's fault is one here, also where the projection waits or halts for
// it: an operator asks for an answer, and the other letters for their turn.
ClassOverrides blaming_records(ClassOverrides overrides) {
    std::erase_if(overrides, [](const ClassOverride& rule) {
        return may_be(rule.prefix, FailureClass::kRecord);
    });
    return overrides;
}

std::string text_of(const Cause& cause) {
    return cause.text() + ": " + (cause.statement.empty() ? "" : cause.statement + ": ") +
           cause.error;
}

}  // namespace

// What one transaction runs.
struct Redrive::Part {
    TopicPartition where;
    std::vector<StoredRecord> records{};
    std::vector<size_t> items{};  // Of them, those to be applied.
    std::vector<DeadLetter> unparsable{};

    FillEvent fill() const {
        return [this](size_t index, Event& event) { records[index].fill(where, event); };
    }
};

// Some letters and keys of one partition, and what came of them so far.
struct Redrive::Round {
    Round(TopicPartition place, int64_t count_max)
        : where(std::move(place)), event_count_max(count_max) {}

    TopicPartition where;
    std::map<int64_t, LetterLine> letters;         // Not yet decided.
    std::set<std::string> keys;                    // Whose queues are run.
    std::map<std::string, int64_t> letter_of_key;  // The one of it that was applied last.
    std::map<int64_t, std::string> blocked;        // Letters that are not run, and why.
    RedrivenLetters done;
    Redriven of_no_letter;  // Of keys that wait behind none.

    int64_t event_count_max;  // Of the next transaction.
    bool has_more = false;

    // The key's queue is left as it is from here on.
    void stop(const std::string& key, const std::string& why) {
        keys.erase(key);
        for (const auto& [id, letter] : letters) {
            if (letter.key == key) blocked.emplace(id, why);
        }
    }
    void decide(int64_t id, Redriven::Outcome outcome, std::string cause, std::string why) {
        letters.erase(id);
        done[id] = {.id = id, .outcome = outcome, .cause = std::move(cause), .why = std::move(why)};
    }
    void skip(int64_t id, std::string cause, std::string why) {
        decide(id, Redriven::Outcome::kSkipped, std::move(cause), std::move(why));
    }
    // Where to tell of the key's events: at its letter that was applied last, else at none.
    Redriven& of_key(const std::string& key) {
        const auto letter = letter_of_key.find(key);
        return letter == letter_of_key.end() ? of_no_letter : done[letter->second];
    }
};

std::string_view name_of(Redriven::Outcome outcome) {
    switch (outcome) {
        case Redriven::Outcome::kApplied: return "applied";
        case Redriven::Outcome::kFailed: return "failed";
        case Redriven::Outcome::kSkipped: return "skipped";
    }
    return "invalid";
}

Redrive::Redrive(pg::Session& session, Handler& handler, ProjectionName projection,
                 RedriveOptions options)
    : session_(session),
      handler_(handler),
      projection_(projection),
      options_(std::move(options)),
      store_(session),
      // No cap holds for what is moved from one table to the other.
      letters_(projection, {.letter_count_max = INT64_MAX,
                            .parked_count_max = INT64_MAX,
                            .copies_to_kafka = options_.copies_to_kafka}) {}

void Redrive::run(const TopicPartition& where, const std::vector<LetterLine>& letters,
                  RedrivenLetters& done) {
    Round round(where, options_.is_dry_run ? kEventsMost : options_.event_count_first);
    round.done = done;
    for (const LetterLine& letter : letters) {
        if (done.contains(letter.id)) continue;
        if (!letter.parks && letter.key && !options_.is_out_of_order) {
            round.skip(letter.id, "out of order",
                       "later events of its key may have been applied; --out-of-order runs it all "
                       "the same");
            continue;
        }
        if (letter.is_quarantined && !options_.runs_quarantined &&
            letter.redrive_count >= options_.redrive_count_max) {
            round.skip(letter.id, "quarantined",
                       "quarantined after " + std::to_string(letter.redrive_count) +
                           " re-drives; --id, or a greater --max-redrives, runs it all the same");
            continue;
        }
        if (letter.parks) round.keys.insert(*letter.key);
        round.letters.emplace(letter.id, letter);
    }
    run_round(round, done);
}

Redriven Redrive::finish(const TopicPartition& where, const std::string& key) {
    Round round(where, options_.event_count_first);
    round.keys.insert(key);
    RedrivenLetters done;
    run_round(round, done);
    return round.of_no_letter;
}

// Until nothing is left of it: a queue may be longer than a transaction's worth.
void Redrive::run_round(Round& round, RedrivenLetters& done) {
    Backoff backoff(std::chrono::milliseconds(100), std::chrono::seconds(5));
    do {
        for (;;) {
            try {
                try_round(round);
                break;
            } catch (const Failure& failure) {
                if (session_.is_broken()) throw;
                session_.rollback();
                const FailureClass failure_class = class_of(failure.sqlstate());
                if (failure_class == FailureClass::kOverload && round.event_count_max > 1) {
                    round.event_count_max /= 2;
                    continue;
                }
                if (failure_class != FailureClass::kConflict) throw;
                if (backoff.try_count() >= options_.retry_count) throw;
                std::this_thread::sleep_for(backoff.next());
            }
        }
        // What is committed is told, whatever comes after it.
        done = round.done;
        backoff.reset();
    } while (round.has_more && !options_.is_dry_run);

    const std::map<int64_t, LetterLine> left = std::move(round.letters);
    for (const auto& [id, letter] : left) {
        const auto why = round.blocked.find(id);
        if (why != round.blocked.end()) {
            round.skip(id, "behind another letter", why->second);
        } else if (options_.is_dry_run && round.has_more) {
            round.skip(id, "not reached",
                       "a dry run executes one transaction of " + std::to_string(kEventsMost) +
                           " events");
        } else {
            round.skip(id, "gone",
                       "it was applied or discarded meanwhile, perhaps by this command before its "
                       "connection broke");
        }
    }
    done = round.done;
}

void Redrive::try_round(Round& round) {
    const auto begin = std::chrono::steady_clock::now();
    pg::Transaction transaction(session_);
    // As a batch does (PROTOCOL 7.1, 7.5): it waits for this one, and this one for it.
    session_.execute("SET LOCAL lock_timeout = '2s'");
    if (!lock_position(session_, projection_, round.where)) {
        throw fatal("position_missing", round.where.text() +
                                            ": its row in millrace.positions was removed; put it "
                                            "back, or discard the letters");
    }
    // What comes of it counts once it is committed.
    Round next = round;
    const Part part = choose(next);
    const FillEvent fill = part.fill();
    BisectionResult found =
        bisect(session_, handler_, {.fill = fill, .items = part.items},
               {.overrides = blaming_records(options_.overrides)}, StormBreaker(kNoStorm));
    if (found.refusal) {
        const FailureClass failure_class = class_of(found.refusal->error.sqlstate);
        // One event alone asks for more than the server gives (PROTOCOL 7.8).
        if (failure_class != FailureClass::kOverload || part.items.size() != 1) {
            throw pg::failure_of(found.refusal->error);
        }
        found.letters.push_back({.index = part.items.front(),
                                 .parks = true,
                                 .cause = cause_of(*found.refusal, failure_class, 1)});
    }
    for (const DeadLetter& letter : part.unparsable) found.letters.push_back(letter);
    write_down(next, part, found);
    MILLRACE_CRASH_POINT("redrive.before_commit");
    if (options_.is_dry_run) {
        session_.rollback();
    } else {
        transaction.commit();
        MILLRACE_CRASH_POINT("redrive.after_commit");
    }
    round = std::move(next);
    const bool was_quick = std::chrono::steady_clock::now() - begin < kQuick;
    if (round.has_more && was_quick) {
        round.event_count_max = std::min(round.event_count_max * 2, kEventsMost);
    }
}

// Under the position's lock, so that nothing comes to the queues meanwhile.
Redrive::Part Redrive::choose(Round& round) {
    const std::vector<std::string> keys(round.keys.begin(), round.keys.end());
    QueuePart queued = store_.queue(projection_, round.where, keys, round.event_count_max);
    Part part{.where = round.where, .records = std::move(queued.records)};
    round.has_more = queued.is_cut;
    std::vector<int64_t> alone;
    for (const auto& [id, letter] : round.letters) {
        if (!letter.parks) alone.push_back(id);
    }
    const auto room = std::max<size_t>(
        part.records.empty() ? 1 : 0,
        static_cast<size_t>(round.event_count_max) - part.records.size());
    if (alone.size() > room) {
        alone.resize(room);
        round.has_more = true;
    }
    for (StoredRecord& record : store_.records(alone)) part.records.push_back(std::move(record));
    std::sort(part.records.begin(), part.records.end(),
              [](const StoredRecord& a, const StoredRecord& b) { return a.offset < b.offset; });

    std::map<std::string, std::string> stopped;  // Keys, and why.
    for (size_t i = 0; i < part.records.size(); ++i) {
        const StoredRecord& record = part.records[i];
        if (record.key && stopped.contains(*record.key)) continue;
        if (record.letter_id && !round.letters.contains(*record.letter_id)) {
            stopped[*record.key] = "letter " + std::to_string(*record.letter_id) +
                                   " of its key stands before it";
            continue;
        }
        if (std::optional<Cause> cause = parse_failure(part.where, record)) {
            if (record.key) stopped[*record.key] = "an earlier event of its key failed";
            part.unparsable.push_back(
                {.index = i, .parks = record.key.has_value(), .cause = *std::move(cause)});
            continue;
        }
        part.items.push_back(i);
    }
    for (const auto& [key, why] : stopped) round.stop(key, why);
    // With fewer keys there may be another part of the others' queues.
    if (part.items.empty() && stopped.empty()) round.has_more = false;
    return part;
}

std::optional<Cause> Redrive::parse_failure(const TopicPartition& where,
                                            const StoredRecord& record) {
    record.fill(where, event_);
    parser_.parse(event_);
    handler_.clear();
    try {
        handler_.collect(event_);
        return std::nullopt;
    } catch (const Failure& failure) {
        if (failure.kind() != FailureKind::kPoison) throw;
        return Cause{.reason = failure.reason(), .error = failure.detail()};
    }
}

void Redrive::write_down(Round& round, const Part& part, const BisectionResult& found) {
    std::vector<StoredRecord> taken;
    for (const size_t index : found.applied) {
        const StoredRecord& record = part.records[index];
        if (record.letter_id) {
            round.decide(*record.letter_id, Redriven::Outcome::kApplied, "", "");
            if (record.key) round.letter_of_key[*record.key] = *record.letter_id;
        } else {
            ++round.of_key(*record.key).parked_count;
        }
        taken.push_back(record);
    }
    for (const DeadLetter& letter : found.letters) {
        const StoredRecord& record = part.records[letter.index];
        if (!record.letter_id) {
            // It becomes a letter of its own: below.
            taken.push_back(record);
            continue;
        }
        store_.note_failure(*record.letter_id, letter.cause, options_.redrive_count_max);
        round.decide(*record.letter_id, Redriven::Outcome::kFailed, letter.cause.text(),
                     text_of(letter.cause));
    }
    store_.remove(projection_, round.where, taken);
    note_parked_failures(round, part, found);
    std::set<std::string> touched = round.keys;
    for (const StoredRecord& record : taken) {
        if (record.key) touched.insert(*record.key);
    }
    store_.free_keys(projection_, round.where, {touched.begin(), touched.end()});
    // A key stops at its failure.
    for (const DeadLetter& letter : found.letters) {
        const StoredRecord& record = part.records[letter.index];
        if (record.key) round.stop(*record.key, "an earlier event of its key failed");
    }
}

// Events that waited, and are poisoned themselves.
void Redrive::note_parked_failures(Round& round, const Part& part,
                                   const BisectionResult& found) {
    std::vector<DeadLetter> letters;
    for (const DeadLetter& letter : found.letters) {
        const StoredRecord& record = part.records[letter.index];
        if (record.letter_id) continue;
        letters.push_back(letter);
        round.of_key(*record.key).stopped_at = round.where.text() + "@" +
                                               std::to_string(record.offset) + ": " +
                                               text_of(letter.cause);
    }
    if (letters.empty()) return;
    const FillEvent fill = part.fill();
    const std::vector<size_t> none;
    const RecordsSetAside set_aside{
        .where = part.where, .fill = fill, .letters = letters, .parked = none};
    {
        pg::Pipeline pipeline(session_);
        letters_.queue(pipeline, set_aside);
        pipeline.finish().value();
    }
    session_.execute("SAVEPOINT copies");
    pg::Pipeline pipeline(session_);
    letters_.queue_copies(pipeline, set_aside);
    const pg::PipelineOutcome copied = pipeline.finish();
    if (!copied.error) return;
    // The letter stands without it.
    session_.execute("ROLLBACK TO SAVEPOINT copies");
    log(LogLevel::kWarn, "consumers", "copy of a dead letter not inserted",
        {{"projection", projection_.name}, {"why", copied.error->text()}});
}

}  // namespace millrace
