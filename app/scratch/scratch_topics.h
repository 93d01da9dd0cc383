#pragma once

#include <string>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"

namespace millrace {

// Topics that were made for the time being, deleted at the end.
class ScratchTopics {
  public:
    ScratchTopics(const kafka::ClientOptions& options, kafka::Reaper& reaper);
    // Says on standard error which it could not delete.
    ~ScratchTopics();
    ScratchTopics(const ScratchTopics&) = delete;
    ScratchTopics& operator=(const ScratchTopics&) = delete;

    // Throws kFatal `scratch_topic_exists`: what is in it belongs to somebody else.
    void create(const std::string& name, int partition_count, int replication);
    // One that another part of the program makes.
    void adopt(const std::string& name) { names_.push_back(name); }

  private:
    kafka::Client client_;
    std::vector<std::string> names_;
};

}  // namespace millrace
