#include "relay/ledger_resume.h"

#include <algorithm>

#include "relay/dead_tasks.h"
#include "relay/ledger_topic.h"
#include "relay/outbox.h"
#include "relay/publishers.h"
#include "relay/topic_scan.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kInitLimit{15};
constexpr std::chrono::seconds kReadLimit{15};
constexpr size_t kListedMax = 50;
constexpr size_t kRemovedAtOnce = 10'000;

// A halted publisher's row lets nobody claim and nobody take it.
void require_halted(const std::vector<PublisherReport>& publishers) {
    std::string free;
    for (const PublisherReport& publisher : publishers) {
        if (!publisher.halted) free += " " + std::to_string(publisher.number);
    }
    if (free.empty()) return;
    throw fatal("not_halted",
                "publishers" + free +
                    " are not halted: resume only what 'millrace ledger status' shows as halted");
}

std::string name_of(Trust trust) {
    switch (trust) {
        case Trust::kDatabase: return "--trust-database";
        case Trust::kLedger: return "--trust-ledger";
        case Trust::kTopics: return "--scan";
    }
    return "invalid";
}

}  // namespace

LedgerResume::LedgerResume(pg::Session& session, const kafka::ClientOptions& options,
                           const Installation& installation, kafka::Reaper& reaper)
    : session_(session),
      options_(options),
      installation_(installation),
      reaper_(reaper),
      ledger_(options, installation.ledger_topic(), installation.id, reaper),
      operator_(session) {}

std::vector<std::string> LedgerResume::run(
    Trust trust, const std::string& reason, const OnProgress& on_progress) {
    done_.clear();
    require_halted(operator_.publishers());
    fence();
    // Nobody can publish any more, so what is not in the topics now will not come.
    std::vector<LedgerTask> published;
    if (trust == Trust::kTopics) published = find_published(on_progress);
    const std::map<int16_t, Agreed> agreed = agree(trust, reason, published);
    // Records first and a crash would leave rows whose records compaction takes; rows first, still
    // halted, and a crash leaves what the next run brings to its end.
    for (const auto& [publisher, state] : agreed) {
        if (state.seq > 0) write_record(publisher, state);
    }
    reopen(agreed);
    producers_.clear();
    done_.push_back("resumed: the relays go on by themselves");
    return std::move(done_);
}

// A relay that died or hangs may have a transaction open, which could be committed after the ledger
// was read: after this it can't. Under either of a publisher's two ids, so both are made.
void LedgerResume::fence() {
    producers_.clear();
    for (int16_t publisher = 0; publisher < kPublisherCount; ++publisher) {
        const auto made = producers_.try_emplace(publisher, options_, installation_, reaper_).first;
        made->second.init(publisher, {installation_.ledger_topic()}, kInitLimit);
        made->second.drop_second();
    }
}

WaitingTasks LedgerResume::read_waiting() {
    WaitingTasks waiting;
    const auto add_all = [&waiting](auto&& read_page) {
        TaskId after{.lane = -1, .id = 0, .event_id = Uuid()};
        for (;;) {
            const std::vector<WaitingTask> page = read_page(after);
            if (page.empty()) return;
            for (const WaitingTask& task : page) waiting.add(task);
            after = page.back().id;
        }
    };
    add_all([this](const TaskId& after) { return Outbox(session_).waiting(after); });
    add_all([this](const TaskId& after) { return DeadTasks(session_).waiting(after); });
    return waiting;
}

std::vector<LedgerTask> LedgerResume::find_published(const OnProgress& on_progress) {
    WaitingTasks waiting = read_waiting();
    const size_t waiting_count = waiting.size();
    const std::vector<std::string> topics = waiting.topics();
    std::vector<LedgerTask> published;
    const auto look_up = [&](const PublishedEvent& event) {
        if (const auto task = waiting.take(event)) published.push_back(*task);
    };
    const auto tell = [&](const TopicScan::Progress& progress) {
        if (!on_progress) return;
        on_progress("scans " + progress.topic + ": " + std::to_string(progress.read_count) +
                    " of about " + std::to_string(progress.total_count) + " records");
    };
    // A record has its task's time, so none lies before the first one that is as young.
    TopicScan scan(options_, installation_.short_id() + ".", reaper_);
    for (std::string& remark : scan.run(topics, waiting.oldest(), look_up, tell)) {
        done_.push_back(std::move(remark));
    }
    std::sort(published.begin(), published.end());
    done_.push_back("scanned " + std::to_string(topics.size()) + " topics for " +
                    std::to_string(waiting_count) + " waiting tasks: " +
                    std::to_string(published.size()) + " are published");
    return published;
}

std::map<int16_t, LedgerResume::Agreed> LedgerResume::agree(
    Trust trust, const std::string& reason, const std::vector<LedgerTask>& published) {
    const std::string topic_id = ledger_topic_id(ledger_.raw(), installation_);
    std::map<int16_t, Agreed> agreed;
    pg::Transaction transaction(session_);
    // The ledger is read under the rows' locks, which may take longer than a transaction may idle.
    session_.execute("SET LOCAL idle_in_transaction_session_timeout = 0");
    const std::vector<PublisherReport> publishers = operator_.lock_fleet();
    require_halted(publishers);
    for (const PublisherReport& publisher : publishers) {
        const std::optional<LedgerRecord> record = ledger_.newest(publisher.number, kReadLimit);
        const int64_t q = record ? record->seq : 0;
        const int64_t ledger_epoch = record ? record->epoch : 0;
        if (trust == Trust::kLedger && q > publisher.seq) remove_published(publisher, q);
        const Agreed state{std::max(publisher.seq, q), std::max(publisher.epoch, ledger_epoch)};
        // An epoch that the lost part of the database had given out must not come again: a process
        // that still remembers it would take the publisher from its owner.
        operator_.set_ledger_state(publisher.number, state.seq, state.epoch, topic_id);
        agreed.emplace(publisher.number, state);
    }
    if (trust == Trust::kTopics) {
        int64_t removed = 0;
        // In statements that each end in their time, whatever was found.
        for (size_t first = 0; first < published.size(); first += kRemovedAtOnce) {
            const auto begin = published.begin() + static_cast<ptrdiff_t>(first);
            const auto end = begin + static_cast<ptrdiff_t>(
                                         std::min(kRemovedAtOnce, published.size() - first));
            const std::vector<LedgerTask> some(begin, end);
            removed += Outbox(session_).remove(some) + DeadTasks(session_).remove(some);
        }
        done_.push_back("deleted " + std::to_string(removed) + " published tasks");
    }
    operator_.record_act("ledger resume " + name_of(trust), "all publishers", reason);
    transaction.commit();
    const auto used = std::count_if(agreed.begin(), agreed.end(),
                                    [](const auto& entry) { return entry.second.seq > 0; });
    done_.push_back("recorded: database and ledger agree on " + std::to_string(used) +
                    " publishers");
    return agreed;
}

void LedgerResume::remove_published(const PublisherReport& publisher, int64_t ledger_seq) {
    Outbox outbox(session_);
    DeadTasks dead(session_);
    const std::vector<LedgerRecord> records =
        ledger_.after(publisher.number, publisher.seq, kReadLimit);
    int64_t removed = 0;
    size_t unmatched = 0;
    for (const LedgerRecord& record : records) {
        const std::vector<LedgerTask> pending = outbox.present(record.tasks);
        const std::vector<LedgerTask> released = dead.present(record.tasks);
        for (const LedgerTask& task : record.tasks) {
            if (std::binary_search(pending.begin(), pending.end(), task)) continue;
            if (std::binary_search(released.begin(), released.end(), task)) continue;
            if (++unmatched > kListedMax) continue;
            done_.push_back("publisher " + std::to_string(publisher.number) + " seq " +
                            std::to_string(record.seq) + ": task " + std::to_string(task.id) +
                            " of lane " + std::to_string(task.lane) + " is not in the outbox");
        }
        removed += outbox.remove(pending) + dead.remove(released);
    }
    const int64_t compacted =
        ledger_seq - publisher.seq - static_cast<int64_t>(records.size());
    done_.push_back("publisher " + std::to_string(publisher.number) + ": deleted " +
                    std::to_string(removed) + " published tasks, " + std::to_string(unmatched) +
                    " were not there; " + std::to_string(compacted) +
                    " transactions are no longer in the ledger");
}

void LedgerResume::write_record(int16_t publisher, const Agreed& agreed) {
    const std::string topic = installation_.ledger_topic();
    const std::string key = ledger_key(publisher);
    const std::string value = encode(LedgerRecord{.installation = installation_.id,
                                                  .publisher = publisher,
                                                  .epoch = agreed.epoch,
                                                  .seq = agreed.seq,
                                                  .tasks = {},
                                                  .counters = {}});
    kafka::Producer& producer = producers_.at(publisher).first();
    producer.begin();
    producer.produce({.topic = topic, .partition = publisher, .key = key, .value = value});
    producer.flush();
    producer.commit();
}

// A halt that came after another resume had done all this is not ours to end.
void LedgerResume::reopen(const std::map<int16_t, Agreed>& agreed) {
    pg::Transaction transaction(session_);
    const std::vector<PublisherReport> publishers = operator_.lock_fleet();
    require_halted(publishers);
    for (const PublisherReport& publisher : publishers) {
        const Agreed& state = agreed.at(publisher.number);
        if (publisher.seq == state.seq && publisher.epoch == state.epoch) continue;
        throw fatal("not_halted", "publisher " + std::to_string(publisher.number) +
                                      " has moved on since: another 'ledger resume' was at work. "
                                      "See 'millrace ledger status'");
    }
    operator_.reopen_publishers();
    transaction.commit();
}

}  // namespace millrace
