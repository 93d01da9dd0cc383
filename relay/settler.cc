#include "relay/settler.h"

#include "core/crash_point.h"
#include "core/log.h"
#include "relay/counters.h"
#include "relay/dead_tasks.h"
#include "relay/ledger_rules.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kOthersLimit{5};

std::string contradiction(int16_t publisher, const LedgerRecord* newest, int64_t database) {
    return "publisher " + std::to_string(publisher) + ": the ledger's newest seq is " +
           std::to_string(newest != nullptr ? newest->seq : 0) + ", the database's is " +
           std::to_string(database) +
           "; see 'millrace ledger status', then 'millrace ledger resume'";
}

}  // namespace

Settler::Settler(pg::Session& session, const Installation& installation, LedgerReader& ledger,
                 std::string ledger_topic_id, RelayMetrics& metrics)
    : session_(session),
      installation_(installation),
      ledger_(ledger),
      ledger_topic_id_(std::move(ledger_topic_id)),
      metrics_(metrics),
      publishers_(session) {}

void Settler::settle(PublisherState& publisher, std::chrono::milliseconds limit,
                     const std::function<void(Publishers&)>& finish) {
    pg::Transaction transaction(session_);
    LockedPublisher row = publishers_.lock(publisher);
    if (row.halted) {
        throw lost("publisher_lost", "publisher " + std::to_string(publisher.number) +
                                         " is halted: " + *row.halted);
    }
    try {
        const std::optional<LedgerRecord> newest = ledger_.newest(publisher.number, limit);
        compare(publisher, row, newest ? &*newest : nullptr);
        look_at_others(publisher);
    } catch (const Failure& failure) {
        if (failure.reason() != "prefix_taken") throw;
        // Two installations that write under one prefix fence each other, whatever the publisher.
        halt_everything(publisher, failure.reason(), failure.detail(), publisher.number,
                        [](const PublisherSeq&) { return true; });
    }
    if (row.ledger_topic_id != ledger_topic_id_) {
        publishers_.set_ledger_topic(publisher.number, ledger_topic_id_);
    }
    finish(publishers_);
    transaction.commit();
    MILLRACE_CRASH_POINT("relay.after_settle");

    publisher.seq = row.seq;
    publisher.version = row.version;
    publisher.generation = row.generation;
}

void Settler::compare(const PublisherState& publisher, LockedPublisher& row,
                      const LedgerRecord* newest) {
    if (is_ledger_behind(newest, row.seq, row.ledger_topic_id, ledger_topic_id_)) {
        halt_everything(publisher, "ledger_behind_database",
                        contradiction(publisher.number, newest, row.seq), publisher.number,
                        [&](const PublisherSeq& now) {
                            return is_ledger_behind(newest, now.seq, now.ledger_topic_id,
                                                    ledger_topic_id_);
                        });
    }
    if (is_database_behind(newest, row.seq, publisher.epoch)) {
        halt_everything(publisher, "database_behind_ledger",
                        contradiction(publisher.number, newest, row.seq), publisher.number,
                        [&](const PublisherSeq& now) {
                            return is_database_behind(newest, now.seq, now.epoch);
                        });
    }
    if (newest == nullptr) return;
    if (newest->seq > row.seq) {
        redo(*newest, row.generation);
        row.seq = newest->seq;
    } else {
        Counters::restore(session_, publisher.number, row.generation, newest->counters);
    }
}

// The rows were published, and the transaction that deleted them did not commit.
void Settler::redo(const LedgerRecord& record, int32_t generation) {
    // Tasks that an operator had released stand in dead_tasks.
    const int64_t removed =
        Outbox(session_).remove(record.tasks) + DeadTasks(session_).remove(record.tasks);
    MILLRACE_CRASH_POINT("relay.mid_redo");
    Counters::restore(session_, record.publisher, generation, record.counters);
    publishers_.set_seq(record.publisher, record.seq);
    metrics_.redos.Increment();
    log(LogLevel::kWarn, "relay", "redid a transaction that had been published",
        {{"publisher", record.publisher},
         {"seq", record.seq},
         {"tasks", record.tasks.size()},
         {"removed", removed}});
    if (removed == static_cast<int64_t>(record.tasks.size())) return;
    metrics_.redo_mismatches.Increment();
    log(LogLevel::kError, "relay", "the ledger names tasks that the outbox no longer has",
        {{"publisher", record.publisher},
         {"seq", record.seq},
         {"missing", static_cast<int64_t>(record.tasks.size()) - removed}});
}

// After a restore the publisher that ran one ahead may be one that nobody takes today, with its
// rows in our lanes. Ledger first, then the rows: a live publisher moves its row last (PROTOCOL
// 4.4).
void Settler::look_at_others(const PublisherState& publisher) {
    const LedgerReader::Others others = ledger_.others(publisher.number, kOthersLimit);
    for (const PublisherSeq& row : publishers_.read_all()) {
        const auto found = others.newest.find(row.number);
        if (found == others.newest.end()) continue;
        const LedgerRecord* newest = &found->second;
        if (is_database_behind(newest, row.seq, row.epoch)) {
            halt_everything(publisher, "database_behind_ledger",
                            contradiction(row.number, newest, row.seq), row.number,
                            [&](const PublisherSeq& now) {
                                return is_database_behind(newest, now.seq, now.epoch);
                            });
        }
        if (newest->seq != row.seq + 1) continue;
        // Locked means in flight, and its rows are locked too.
        const std::optional<LockedPublisher> locked = publishers_.lock_other(row.number);
        if (!locked || locked->seq + 1 != newest->seq) continue;
        redo(*newest, locked->generation);
        publishers_.bump_version(row.number);
    }
}

void Settler::halt_everything(const PublisherState& publisher, const std::string& reason,
                              const std::string& detail, int16_t about,
                              const std::function<bool(const PublisherSeq&)>& still_so) {
    session_.rollback();
    bool halted = false;
    {
        pg::Transaction transaction(session_);
        // The others' claims hold their rows for as long as a transaction takes: wait for them.
        session_.execute("SET LOCAL lock_timeout = 0");
        const std::vector<PublisherSeq> rows = publishers_.lock_all();
        const PublisherSeq& mine = rows.at(static_cast<size_t>(publisher.number));
        // A settler that was stopped before an operator's `ledger resume` must not halt a healthy
        // fleet.
        if (mine.epoch == publisher.epoch && still_so(rows.at(static_cast<size_t>(about)))) {
            publishers_.halt_all(reason);
            transaction.commit();
            halted = true;
        }
    }
    if (!halted) throw lost("publisher_lost", "the contradiction is gone: " + detail);
    log(LogLevel::kError, "relay", "all publishers halted",
        {{"reason", reason}, {"detail", detail}});
    throw halt(reason, detail);
}

}  // namespace millrace
