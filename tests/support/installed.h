#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/kafka/reaper.h"
#include "core/metrics.h"
#include "relay/relay.h"
#include "schema/installation.h"
#include "tests/support/checker.h"
#include "tests/support/database.h"

namespace millrace::test {

// A fresh database with an installation whose ledger topic exists, and one business topic.
class Installed {
  public:
    explicit Installed(int lane_count = 12, int partition_count = 4);

    Database database;
    Installation installation;
    std::string topic;

    // Publisher settings for this installation, as tight as tests need them.
    RelayOptions relay_options() const;
    // The configuration file of a process that runs the relay only.
    std::string config(int publisher_count = 1, const std::string& batch_bytes = "4MiB") const;
    // Inserts `count` tasks over `key_count` keys in one transaction; each payload carries the
    // key's running number, which `truth` knows too.
    void insert(int count, int key_count = 10);
    // The same with a payload of so many bytes each, over one key.
    void insert_large(int count, int byte_count);
    int64_t pending_count() const;
    // Lanes that a running publisher owns.
    int64_t owned_lane_count() const;
    // The one value that a query over this database answers with.
    int64_t number(std::string_view sql) const;
    std::string text(std::string_view sql) const;
    void execute(std::string_view sql) const;
    // What a read_committed reader sees of the topic against what was inserted.
    Verdict verdict();
    // Makes public.truth of what was inserted, for a read model to be compared with.
    void store_truth() const;

    Truth truth;

  private:
    void insert_padded(int count, int key_count, int padding);

    std::map<std::string, int64_t> last_of_key_;
};

// A relay in this process, on a thread of its own; stops and hands over when destroyed.
class RunningRelay {
  public:
    explicit RunningRelay(const Installed& installed, RelayOptions options);
    explicit RunningRelay(const Installed& installed)
        : RunningRelay(installed, installed.relay_options()) {}
    ~RunningRelay();

    void stop();
    double metric(const std::string& line_start) const;

  private:
    kafka::Reaper reaper_;
    Metrics metrics_;
    std::unique_ptr<Relay> relay_;
    std::jthread thread_;
};

// What a scrape shows for the metric whose line begins so, all lines added; 0 if there is none.
double metric_in(const std::string& scrape, const std::string& line_start);

}  // namespace millrace::test
