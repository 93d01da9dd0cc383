#include "app/bench/log_end.h"

#include <memory>

namespace millrace {

namespace {

constexpr int kTimeoutMs = 10'000;

template <auto destroy>
struct Destroy {
    template <typename Thing>
    void operator()(Thing* thing) const {
        destroy(thing);
    }
};
using Partitions = std::unique_ptr<rd_kafka_topic_partition_list_t,
                                   Destroy<rd_kafka_topic_partition_list_destroy>>;
using AdminOptions =
    std::unique_ptr<rd_kafka_AdminOptions_t, Destroy<rd_kafka_AdminOptions_destroy>>;
using Queue = std::unique_ptr<rd_kafka_queue_t, Destroy<rd_kafka_queue_destroy>>;
using Event = std::unique_ptr<rd_kafka_event_t, Destroy<rd_kafka_event_destroy>>;

}  // namespace

LogEnd::LogEnd(const kafka::ClientOptions& options, const std::string& topic, int partition_count,
               kafka::Reaper& reaper)
    : topic_(topic),
      partition_count_(partition_count),
      client_(kafka::make_client(RD_KAFKA_PRODUCER, kafka::make_conf(options, {})),
              kafka::Bury{&reaper, nullptr}) {}

int64_t LogEnd::sum() {
    const Partitions wanted(rd_kafka_topic_partition_list_new(partition_count_));
    for (int i = 0; i < partition_count_; ++i) {
        rd_kafka_topic_partition_list_add(wanted.get(), topic_.c_str(), i)->offset =
            RD_KAFKA_OFFSET_SPEC_LATEST;
    }
    const AdminOptions options(
        rd_kafka_AdminOptions_new(client_.get(), RD_KAFKA_ADMIN_OP_LISTOFFSETS));
    rd_kafka_error_t* refused = rd_kafka_AdminOptions_set_isolation_level(
        options.get(), RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED);
    if (refused != nullptr) {
        rd_kafka_error_destroy(refused);
        throw kafka::failure_of(RD_KAFKA_RESP_ERR__INVALID_ARG, "isolation level");
    }
    const Queue queue(rd_kafka_queue_new(client_.get()));
    rd_kafka_ListOffsets(client_.get(), wanted.get(), options.get(), queue.get());
    const Event event(rd_kafka_queue_poll(queue.get(), kTimeoutMs));
    if (event == nullptr) throw kafka::failure_of(RD_KAFKA_RESP_ERR__TIMED_OUT, "end of the log");
    if (const auto code = rd_kafka_event_error(event.get()); code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw kafka::failure_of(code, "end of the log");
    }
    size_t count = 0;
    const rd_kafka_ListOffsetsResultInfo_t** found =
        rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(event.get()), &count);
    int64_t sum = 0;
    for (size_t i = 0; i < count; ++i) {
        const rd_kafka_topic_partition_t* partition =
            rd_kafka_ListOffsetsResultInfo_topic_partition(found[i]);
        if (partition->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            throw kafka::failure_of(partition->err, "end of the log");
        }
        sum += partition->offset;
    }
    return sum;
}

}  // namespace millrace
