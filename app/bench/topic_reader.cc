#include "app/bench/topic_reader.h"

#include <array>

#include "core/kafka/handles.h"

namespace millrace {

namespace {

constexpr int kPollMs = 100;
constexpr size_t kBatchMax = 1000;

kafka::Properties reader_properties() {
    return {{"group.id", "millrace-bench"},  {"isolation.level", "read_committed"},
            {"enable.auto.commit", "false"}, {"auto.offset.reset", "earliest"},
            {"fetch.wait.max.ms", "100"},    {"fetch.queue.backoff.ms", "2"}};
}

}  // namespace

TopicReader::TopicReader(const kafka::ClientOptions& options, const std::string& topic,
                         int partition_count, kafka::Reaper& reaper, OnRecord on_record)
    : on_record_(std::move(on_record)),
      client_(kafka::make_client(RD_KAFKA_CONSUMER, kafka::make_conf(options, reader_properties())),
              kafka::Bury{&reaper, nullptr}) {
    rd_kafka_poll_set_consumer(client_.get());
    const kafka::Partitions all(rd_kafka_topic_partition_list_new(partition_count));
    for (int i = 0; i < partition_count; ++i) {
        rd_kafka_topic_partition_list_add(all.get(), topic.c_str(), i)->offset =
            RD_KAFKA_OFFSET_BEGINNING;
    }
    const rd_kafka_resp_err_t code = rd_kafka_assign(client_.get(), all.get());
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(code, "reader");
    part_.emplace([this](const std::stop_token& stop) { run(stop); });
}

void TopicReader::run(const std::stop_token& stop) {
    const kafka::Queue queue(rd_kafka_queue_get_consumer(client_.get()));
    std::array<rd_kafka_message_t*, kBatchMax> messages{};
    while (!stop.stop_requested()) {
        // One is waited for; what else is there comes with the next calls, without waiting: a
        // larger batch would wait until it is full.
        rd_kafka_message_t* first = rd_kafka_consumer_poll(client_.get(), kPollMs);
        if (first == nullptr) continue;
        messages[0] = first;
        const ssize_t more =
            rd_kafka_consume_batch_queue(queue.get(), 0, messages.data() + 1, kBatchMax - 1);
        const Clock::time_point now = Clock::now();
        const size_t count = 1 + static_cast<size_t>(more < 0 ? 0 : more);
        rd_kafka_resp_err_t failed = RD_KAFKA_RESP_ERR_NO_ERROR;
        for (size_t i = 0; i < count; ++i) {
            if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                on_record_(*messages[i], now);
            } else if (rd_kafka_fatal_error(client_.get(), nullptr, 0) !=
                       RD_KAFKA_RESP_ERR_NO_ERROR) {
                failed = messages[i]->err;
            }
            rd_kafka_message_destroy(messages[i]);
        }
        if (failed != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(failed, "reader");
    }
}

std::string_view header_of(const rd_kafka_message_t& record, const char* name) {
    rd_kafka_headers_t* headers = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    if (rd_kafka_message_headers(&record, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return "";
    if (rd_kafka_header_get_last(headers, name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return "";
    }
    return {static_cast<const char*>(value), size};
}

}  // namespace millrace
