#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "relay/outbox.h"
#include "relay/topic_scan.h"
#include "schema/ledger_record.h"

namespace millrace {

// The tasks that wait, to be found by the records that they may have become. Takes about 150 bytes
// of memory for each. Not thread-safe; no I/O.
class WaitingTasks {
  public:
    void add(const WaitingTask& task);

    // The task that this record is, if any: of its topic, its event id and its time, as far as that
    // is known; each record is one task, the oldest one that fits. It waits no longer.
    std::optional<LedgerTask> take(const PublishedEvent& event);

    size_t size() const { return size_; }
    std::vector<std::string> topics() const;
    // When the oldest was made; the end of time if there is none.
    std::chrono::milliseconds oldest() const { return oldest_; }

  private:
    struct Entry {
        int16_t lane;
        int64_t id;
        std::chrono::milliseconds created_at;
    };
    // By topic, then by event: an id may be used for several topics, and again for another task.
    std::map<std::string, std::multimap<Uuid, Entry>> entries_;
    size_t size_ = 0;
    std::chrono::milliseconds oldest_ = std::chrono::milliseconds::max();
};

}  // namespace millrace
