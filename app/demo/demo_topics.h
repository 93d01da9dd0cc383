#pragma once

#include <string>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"

namespace millrace {

// The topics that the demo made, deleted at the end.
class DemoTopics {
  public:
    DemoTopics(const kafka::ClientOptions& options, kafka::Reaper& reaper);
    // Says on standard error which it could not delete.
    ~DemoTopics();
    DemoTopics(const DemoTopics&) = delete;
    DemoTopics& operator=(const DemoTopics&) = delete;

    // Throws kFatal `demo_topic_exists`: what is in it belongs to somebody else.
    void create(const std::string& name, int partition_count, int replication);
    // One that another part of the program makes for the demo.
    void adopt(const std::string& name) { names_.push_back(name); }

  private:
    kafka::Client client_;
    std::vector<std::string> names_;
};

}  // namespace millrace
