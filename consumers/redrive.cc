#include "consumers/redrive.h"

#include <algorithm>
#include <thread>

#include "core/backoff.h"
#include "core/crash_point.h"
#include "core/log.h"

namespace millrace {

namespace {

// Bisection without an end by a storm: whoever re-drives has said which letters.
constexpr StormLimits kNoStorm{
    .share = 1, .event_count_window = 1'000'000'000, .in_a_row = SIZE_MAX};

// So long may a transaction become while a queue is longer: some tenths of a second.
constexpr int64_t kEventsMost = 10'000;

// No cap holds for what is moved from one table to the other.
DeadLetterOptions uncapped(DeadLetterOptions options) {
    options.letter_count_max = INT64_MAX;
    options.parked_count_max = INT64_MAX;
    options.on_poison = OnPoison::kParkKey;
    return options;
}

std::string text_of(const Cause& cause) {
    std::string text = cause.reason;
    if (!cause.sqlstate.empty()) text += " " + cause.sqlstate;
    if (!cause.constraint.empty()) text += " " + cause.constraint;
    return text + ": " + (cause.statement.empty() ? "" : cause.statement + ": ") + cause.error;
}

}  // namespace

// One transaction's worth of some letters and keys, and what came of them so far.
struct Redrive::Round {
    Round(TopicPartition place, int64_t count_max)
        : where(std::move(place)), event_count_max(count_max) {}

    TopicPartition where;
    std::map<int64_t, LetterLine> letters;  // Not yet decided.
    std::set<std::string> keys;             // Whose queues are run.
    std::map<std::string, int64_t> letter_of_key;  // The one that was applied last.
    std::map<int64_t, Redriven> done;
    int64_t parked_count = 0;  // Applied events that were no letters.

    std::map<int64_t, std::string> blocked;  // Letters that are not run, and why.

    // Of the next transaction.
    int64_t event_count_max;
    std::vector<StoredRecord> records;
    std::vector<size_t> items;
    bool has_more = false;

    // The key's queue is left as it is from here on.
    void stop(const std::string& key, const std::string& why) {
        keys.erase(key);
        for (const auto& [id, letter] : letters) {
            if (letter.key == key) blocked.emplace(id, why);
        }
    }

    void decide(int64_t id, Redriven::Outcome outcome, std::string why) {
        letters.erase(id);
        done[id] = {.id = id, .outcome = outcome, .why = std::move(why)};
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
      letters_(projection, uncapped(options_.letters)) {}

std::vector<Redriven> Redrive::run(const TopicPartition& where,
                                   const std::vector<LetterLine>& letters) {
    Round round(where, options_.event_count_max);
    for (const LetterLine& letter : letters) {
        if (!letter.parks && letter.key && !options_.is_out_of_order) {
            round.decide(letter.id, Redriven::Outcome::kSkipped,
                         "later events of its key were applied; --out-of-order runs it all the "
                         "same");
            continue;
        }
        if (letter.is_quarantined && !options_.runs_quarantined) {
            round.decide(letter.id, Redriven::Outcome::kSkipped,
                         "quarantined after " + std::to_string(letter.redrive_count) +
                             " re-drives; --id runs it all the same");
            continue;
        }
        if (letter.parks) round.keys.insert(*letter.key);
        round.letters.emplace(letter.id, letter);
    }
    run_round(round);
    std::vector<Redriven> all;
    for (auto& [id, redriven] : round.done) all.push_back(std::move(redriven));
    return all;
}

int64_t Redrive::finish(const TopicPartition& where, const std::string& key) {
    Round round(where, options_.event_count_max);
    round.keys.insert(key);
    run_round(round);
    return round.parked_count;
}

// Until nothing is left of it: a queue may be longer than a transaction's worth.
void Redrive::run_round(Round& round) {
    Backoff backoff(std::chrono::milliseconds(100), std::chrono::seconds(5));
    do {
        for (;;) {
            try {
                try_round(round);
                break;
            } catch (const Failure& failure) {
                if (session_.is_broken()) throw;
                session_.rollback();
                const FailureClass failure_class =
                    class_of(failure.sqlstate(), options_.overrides);
                if (failure_class == FailureClass::kOverload && round.event_count_max > 1) {
                    round.event_count_max /= 2;
                    continue;
                }
                if (failure_class != FailureClass::kConflict) throw;
                if (backoff.try_count() >= options_.retry_count) throw;
                std::this_thread::sleep_for(backoff.next());
            }
        }
    } while (round.has_more && !options_.is_dry_run);
    const std::map<int64_t, LetterLine> left = std::move(round.letters);
    for (const auto& [id, letter] : left) {
        const auto why = round.blocked.find(id);
        round.decide(id, Redriven::Outcome::kSkipped,
                     why != round.blocked.end() ? why->second
                                                : "it is gone: somebody else ran or discarded it");
    }
}

void Redrive::try_round(Round& round) {
    pg::Transaction transaction(session_);
    // As a batch does (PROTOCOL 7.1, 7.5): it waits for this one, and this one for it.
    session_.execute("SET LOCAL lock_timeout = '2s'");
    if (!store_.lock_position(projection_, round.where)) {
        throw fatal("position_missing", round.where.text() + ": it has no row in positions");
    }
    choose(round);
    const FillEvent fill = [&round](size_t index, Event& event) {
        round.records[index].fill(round.where, event);
    };
    BisectionResult found =
        bisect(session_, handler_, fill, round.items, /*is_known_bad=*/false,
               {.parks = true, .overrides = options_.overrides}, StormBreaker(kNoStorm));
    if (found.refusal) {
        const FailureClass failure_class =
            class_of(found.refusal->error.sqlstate, options_.overrides);
        // One event alone asks for more than the server gives (PROTOCOL 7.8).
        if (failure_class != FailureClass::kOverload || round.items.size() != 1) {
            throw pg::failure_of(found.refusal->error);
        }
        found.letters.push_back({.index = round.items.front(),
                                 .parks = true,
                                 .cause = cause_of(*found.refusal, failure_class, 1)});
    }
    Round next = round;
    settle(next, found);
    MILLRACE_CRASH_POINT("redrive.before_commit");
    if (options_.is_dry_run) {
        session_.rollback();
    } else {
        transaction.commit();
        MILLRACE_CRASH_POINT("redrive.after_commit");
    }
    round = std::move(next);
    // Else a key that gets events faster than its queue is run would never be handed back.
    if (round.has_more) round.event_count_max = std::min(round.event_count_max * 2, kEventsMost);
}

// Under the position's lock, so that nothing comes to the queues meanwhile.
void Redrive::choose(Round& round) {
    round.records.clear();
    round.items.clear();
    const std::vector<std::string> keys(round.keys.begin(), round.keys.end());
    if (!keys.empty()) {
        round.records =
            store_.queue(projection_, round.where, keys, round.event_count_max);
    }
    round.has_more =
        static_cast<int64_t>(round.records.size()) == round.event_count_max;
    std::vector<int64_t> alone;
    for (const auto& [id, letter] : round.letters) {
        if (!letter.parks) alone.push_back(id);
    }
    for (StoredRecord& record : store_.records(alone)) round.records.push_back(std::move(record));
    std::sort(round.records.begin(), round.records.end(),
              [](const StoredRecord& a, const StoredRecord& b) { return a.offset < b.offset; });

    std::map<std::string, std::string> stopped;  // Keys, and why.
    for (size_t i = 0; i < round.records.size(); ++i) {
        const StoredRecord& record = round.records[i];
        const std::string key = record.key.value_or("");
        const bool is_chosen =
            !record.letter_id || round.letters.contains(*record.letter_id);
        if (record.key && stopped.contains(key)) continue;
        if (is_chosen) {
            round.items.push_back(i);
            continue;
        }
        stopped[key] = "letter " + std::to_string(*record.letter_id) +
                       " of its key stands before it";
    }
    for (const auto& [key, why] : stopped) round.stop(key, why);
    // With fewer keys there may be another part of the others' queues.
    if (round.items.empty() && stopped.empty()) round.has_more = false;
}

void Redrive::settle(Round& round, const BisectionResult& found) {
    std::vector<StoredRecord> applied;
    for (const size_t index : found.applied) {
        const StoredRecord& record = round.records[index];
        if (record.letter_id) {
            round.decide(*record.letter_id, Redriven::Outcome::kApplied, "");
            if (record.key) round.letter_of_key[*record.key] = *record.letter_id;
        } else {
            ++round.parked_count;
            const auto letter = round.letter_of_key.find(*record.key);
            if (letter != round.letter_of_key.end()) ++round.done[letter->second].parked_count;
        }
        applied.push_back(record);
    }
    for (const DeadLetter& letter : found.letters) {
        const StoredRecord& record = round.records[letter.index];
        if (!record.letter_id) {
            // It becomes a letter of its own: below.
            applied.push_back(record);
            continue;
        }
        store_.note_failure(*record.letter_id, letter.cause, options_.redrive_count_max);
        round.decide(*record.letter_id, Redriven::Outcome::kFailed, text_of(letter.cause));
    }
    store_.remove(projection_, round.where, applied);
    note_parked_failures(round, found);
    const std::vector<std::string> keys(round.keys.begin(), round.keys.end());
    store_.free_keys(projection_, round.where, keys);
    // A key stops at its failure.
    for (const DeadLetter& letter : found.letters) {
        const StoredRecord& record = round.records[letter.index];
        if (record.key) round.stop(*record.key, "an earlier event of its key failed");
    }
}

// An event that waited, and is poisoned itself.
void Redrive::note_parked_failures(const Round& round, const BisectionResult& found) {
    std::vector<DeadLetter> letters;
    for (const DeadLetter& letter : found.letters) {
        if (!round.records[letter.index].letter_id) letters.push_back(letter);
    }
    if (letters.empty()) return;
    const FillEvent fill = [&round](size_t index, Event& event) {
        round.records[index].fill(round.where, event);
    };
    {
        pg::Pipeline pipeline(session_);
        letters_.queue(pipeline, round.where, fill, letters, {});
        pipeline.finish().value();
    }
    session_.execute("SAVEPOINT copies");
    pg::Pipeline pipeline(session_);
    letters_.queue_copies(pipeline, round.where, fill, letters);
    const pg::PipelineOutcome copied = pipeline.finish();
    if (!copied.error) return;
    // The letter stands without it.
    session_.execute("ROLLBACK TO SAVEPOINT copies");
    log(LogLevel::kWarn, "consumers", "copy of a dead letter not inserted",
        {{"projection", projection_.name}, {"why", copied.error->text()}});
}

}  // namespace millrace
