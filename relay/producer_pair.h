#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/kafka/producer.h"
#include "schema/installation.h"

namespace millrace {

// A publisher's two transactional producers, used in turn: with one, a transaction that follows
// closely waits while the markers of the last are being written. Not thread-safe.
class ProducerPair {
  public:
    ProducerPair(const kafka::ClientOptions& options, const Installation& installation,
                 kafka::Reaper& reaper)
        : options_(options), installation_(installation), reaper_(reaper) {}

    // Makes both and initialises them side by side: fences the predecessor and ends its open
    // transaction. `topics` are then known to both. Blocks at most `limit`, and 5 s for the topics.
    void init(int publisher, const std::vector<std::string>& topics,
              std::chrono::milliseconds limit);
    struct Turn {
        kafka::Producer& producer;
        bool was_replaced;
    };
    // The one whose turn it is; a tainted one is replaced first (PROTOCOL 3.7), which blocks at
    // most 15 s.
    Turn next();
    // The first one, out of turn and never replaced: a replacement would fence whoever came after
    // init(). After init() only.
    kafka::Producer& first() { return *producers_[0]; }
    // Keeps first() alone: each producer has threads and connections of its own. No next() until
    // another init().
    void drop_second() { producers_[1].reset(); }
    // Drops both at once; the reaper destroys them.
    void drop();
    // A client to ask for metadata. After init() only.
    rd_kafka_t* raw() const { return producers_[0]->raw(); }

  private:
    std::unique_ptr<kafka::Producer> make(size_t index) const;

    kafka::ClientOptions options_;
    const Installation& installation_;
    kafka::Reaper& reaper_;
    int publisher_ = -1;
    std::vector<std::string> topics_;
    std::array<std::unique_ptr<kafka::Producer>, 2> producers_;
    size_t turn_ = 0;
};

}  // namespace millrace
