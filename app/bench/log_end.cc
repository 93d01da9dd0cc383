#include "app/bench/log_end.h"

#include <map>
#include <numeric>

#include "core/kafka/admin.h"

namespace millrace {

LogEnd::LogEnd(const kafka::ClientOptions& options, const std::string& topic, int partition_count,
               kafka::Reaper& reaper)
    : topic_(topic),
      partitions_(static_cast<size_t>(partition_count)),
      client_(kafka::make_client(RD_KAFKA_PRODUCER, kafka::make_conf(options, {})),
              kafka::Bury{&reaper, nullptr}) {
    std::iota(partitions_.begin(), partitions_.end(), 0);
}

int64_t LogEnd::sum() {
    const std::map<int32_t, int64_t> ends =
        kafka::Admin(client_.get()).last_stable_offsets(topic_, partitions_);
    // A sum without some of them would be taken for a log that moves back, and forth again.
    if (ends.size() != partitions_.size()) {
        throw transient("kafka_unreachable",
                        "no broker tells the end of some partitions of " + topic_);
    }
    int64_t sum = 0;
    for (const auto& [partition, end] : ends) sum += end;
    return sum;
}

}  // namespace millrace
