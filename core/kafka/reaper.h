#pragma once

#include <librdkafka/rdkafka.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

namespace millrace::kafka {

// Destroys Kafka clients on a thread of its own: rd_kafka_destroy takes a second for some consumers
// and several for a transactional producer whose broker is gone, and nothing may wait for that.
// Thread-safe. Destruction of the reaper waits until all it was given is destroyed.
class Reaper {
  public:
    Reaper();

    // Takes ownership; returns at once. Messages still queued in a producer are purged first.
    // `state` is what the client's callbacks use: it is freed after the client.
    void bury(rd_kafka_t* client, std::shared_ptr<void> state = nullptr);

  private:
    void run(std::stop_token stop);

    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::deque<std::pair<rd_kafka_t*, std::shared_ptr<void>>> waiting_;
    std::jthread thread_;  // Last: it uses what stands above.
};

// Owner of a client that gives it to the reaper instead of destroying it.
struct Bury {
    Reaper* reaper;
    std::shared_ptr<void> state;
    void operator()(rd_kafka_t* client) const { reaper->bury(client, state); }
};
using Client = std::unique_ptr<rd_kafka_t, Bury>;

}  // namespace millrace::kafka
