#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/pg/session.h"
#include "relay/parked_keys.h"
#include "schema/ledger_record.h"

namespace millrace {

// SQL on dead_tasks that a relay process runs, but for the claim's (outbox.cc); operators' verbs
// stand in dead_task_verbs.h. A queue is the rows of one (topic, key) of a lane, in id order; the
// mark of its first row says that it is released. Not thread-safe: one per session. Throws as
// Session does.
class DeadTasks {
  public:
    explicit DeadTasks(pg::Session& session) : session_(session) {}

    // The keys of these lanes that are parked, in pages of 20,000, one hop a queue however long it
    // is. About 150 bytes of memory a key.
    ParkedKeys parked(const std::vector<int16_t>& lanes, const std::function<void()>& on_page);
    // Is there something to claim in these lanes?
    bool has_released(const std::vector<int16_t>& lanes,
                      const std::vector<std::string>& topics_left_out);
    // How many there are, by reason, of the first 100,000.
    std::map<std::string, int> counts();

    // The rest runs in the caller's transaction, under the lock of the lanes' publisher.
    void add(const std::vector<DeadEntry>& entries);
    // After rows were taken from the heads of these released queues: marks the rows that are now
    // the first ones. Returns the queues that are empty.
    std::set<QueueName> pass_marks(const std::set<QueueName>& queues);
    // A released task failed again: it is dead as before, and with it what waits behind it. Under a
    // policy that parks no key it leaves its queue, which stays released. False if it is gone.
    bool take_back(const TaskId& task, const std::string& reason, const std::string& detail,
                   bool parks_key);
    // The same for released tasks of a topic, some thousands at most; how many.
    int64_t take_back_topic(const std::vector<int16_t>& lanes, const std::string& topic,
                            const std::string& reason, const std::string& detail, bool parks_key);
    // Deletes exactly these tasks as Outbox::remove does, and passes their queues' marks on.
    int64_t remove(const std::vector<LedgerTask>& tasks);
    // The next 50,000, released or not: for `ledger resume`, while nobody publishes.
    std::vector<WaitingTask> waiting(const TaskId& after);
    // Those of them that are there; locks them.
    std::vector<LedgerTask> present(const std::vector<LedgerTask>& tasks);

  private:
    // The same, by queue with an id: only where the row that is the first one now is greater.
    std::set<QueueName> pass_marks_behind(const std::map<QueueName, int64_t>& taken);
    // The end of both: marks of the queues that the rows left are passed on; how many rows.
    int64_t finish_take_back(const pg::Result& rows, bool parks_key);

    pg::Session& session_;
};

}  // namespace millrace
