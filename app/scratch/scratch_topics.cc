#include "app/scratch/scratch_topics.h"

#include <iostream>

#include "core/kafka/admin.h"

namespace millrace {

ScratchTopics::ScratchTopics(const kafka::ClientOptions& options, kafka::Reaper& reaper)
    : client_(kafka::make_client(RD_KAFKA_PRODUCER, kafka::make_conf(options, {})),
              kafka::Bury{&reaper, nullptr}) {}

void ScratchTopics::create(const std::string& name, int partition_count, int replication) {
    const bool is_new = kafka::Admin(client_.get())
                            .create_topic({.name = name,
                                           .partition_count = partition_count,
                                           .replication = static_cast<int16_t>(replication),
                                           .config = {}});
    if (!is_new) {
        throw misconfigured("scratch_topic_exists",
                            "the topic " + name + " exists already, and events would be mixed with "
                            "what is there: delete it, if a run that was killed left it there, or "
                            "point kafka.brokers at another cluster; deploy/dev demo has servers "
                            "of its own");
    }
    adopt(name);
}

ScratchTopics::~ScratchTopics() {
    for (const std::string& name : names_) {
        try {
            kafka::Admin(client_.get()).delete_topic(name);
        } catch (const Failure& failure) {
            std::cerr << "millrace: topic " << name << " stays (" << failure.what()
                      << "): delete it\n";
        }
    }
}

}  // namespace millrace
