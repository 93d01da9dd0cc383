#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/pg/session.h"
#include "relay/ledger_reader.h"
#include "relay/operator.h"
#include "relay/producer_pair.h"
#include "relay/waiting_tasks.h"
#include "schema/installation.h"

namespace millrace {

enum class Trust {
    kDatabase,  // Later records start above the ledger's; published tasks may be published again.
    kLedger,    // Tasks that its records name are deleted: they were published.
    kTopics,    // Tasks whose events a scan of their topics finds are deleted.
};

// Ends the halt that a contradiction between ledger and database caused (PROTOCOL 4.6). Not
// thread-safe. Takes ten seconds or so; each of the 32 publishers may take 20 s for its producers.
class LedgerResume {
  public:
    LedgerResume(pg::Session& session, const kafka::ClientOptions& options,
                 const Installation& installation, kafka::Reaper& reaper);

    // Returns what it did, a line each. Repeatable: after a crash or a failure in any step the
    // publishers are still halted, and it runs again. Throws kFatal `not_halted` unless all are, or
    // if another resume was at work meanwhile; kLost `kafka_fenced` if another one has come since;
    // else as ProducerPair, LedgerReader and Session do.
    // With kTopics it takes as long as reading the topics does; `on_progress` gets a line about
    // every two seconds meanwhile.
    using OnProgress = std::function<void(const std::string&)>;
    std::vector<std::string> run(Trust trust, const std::string& reason,
                                 const OnProgress& on_progress = {});

  private:
    void fence();
    // Tasks of the outbox whose events stand in their topics.
    std::vector<LedgerTask> find_published(const OnProgress& on_progress);
    WaitingTasks read_waiting();
    // Of each publisher: the seq and epoch that its row has, and its ledger will.
    struct Agreed {
        int64_t seq = 0;
        int64_t epoch = 0;
    };
    std::map<int16_t, Agreed> agree(Trust trust, const std::string& reason,
                                    const std::vector<LedgerTask>& published);
    void remove_published(const PublisherReport& publisher, int64_t ledger_seq);
    void write_record(int16_t publisher, const Agreed& agreed);
    void reopen(const std::map<int16_t, Agreed>& agreed);

    pg::Session& session_;
    kafka::ClientOptions options_;
    const Installation& installation_;
    kafka::Reaper& reaper_;
    LedgerReader ledger_;
    Operator operator_;
    // By publisher. The records are written by those that fenced: whoever came later, another
    // resume or a relay, has fenced them, and a record that comes late can't hide a newer one.
    std::map<int16_t, ProducerPair> producers_;
    std::vector<std::string> done_;
};

}  // namespace millrace
