#include "app/demo/demo_topics.h"

#include <iostream>

#include "core/kafka/admin.h"

namespace millrace {

DemoTopics::DemoTopics(const kafka::ClientOptions& options, kafka::Reaper& reaper)
    : client_(kafka::make_client(RD_KAFKA_PRODUCER, kafka::make_conf(options, {})),
              kafka::Bury{&reaper, nullptr}) {}

void DemoTopics::create(const std::string& name, int partition_count, int replication) {
    const bool is_new = kafka::Admin(client_.get())
                            .create_topic({.name = name,
                                           .partition_count = partition_count,
                                           .replication = static_cast<int16_t>(replication),
                                           .config = {}});
    if (!is_new) {
        throw misconfigured("demo_topic_exists",
                            "the topic " + name + " exists already, and the demo would mix its "
                            "events with what is there: delete it, if a demo that was killed left "
                            "it there, or point kafka.brokers at another cluster, or use "
                            "deploy/dev demo, which has servers of its own");
    }
    adopt(name);
}

DemoTopics::~DemoTopics() {
    for (const std::string& name : names_) {
        try {
            kafka::Admin(client_.get()).delete_topic(name);
        } catch (const Failure& failure) {
            std::cerr << "millrace: topic " << name << " stays (" << failure.what()
                      << "): delete it before the next demo\n";
        }
    }
}

}  // namespace millrace
