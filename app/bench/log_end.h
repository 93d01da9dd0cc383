#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

    // Blocks as kafka::Admin does. Throws kTransient when a partition's end is not told.
    int64_t sum();

  private:
    const std::string topic_;
    std::vector<int32_t> partitions_;
    kafka::Client client_;
};

}  // namespace millrace
