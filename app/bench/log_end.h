#pragma once

#include <cstdint>
#include <string>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"

namespace millrace {

// Where a read_committed reader of a topic is stopped: the sum over its partitions of the offsets
// below which every transaction is decided. Asks without reading a record, so that a drain can be
// watched without taking part in it. One thread.
class LogEnd {
  public:
    LogEnd(const kafka::ClientOptions& options, const std::string& topic, int partition_count,
           kafka::Reaper& reaper);

    // Throws kTransient when the broker does not answer within 10 s.
    int64_t sum();

  private:
    const std::string topic_;
    const int partition_count_;
    kafka::Client client_;
};

}  // namespace millrace
