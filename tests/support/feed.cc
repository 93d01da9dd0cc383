#include "tests/support/feed.h"

#include "core/uuid.h"
#include "tests/support/broker.h"

namespace millrace::test {

Feed::Feed(std::string topic)
    : topic_(std::move(topic)),
      producer_(std::make_unique<kafka::Producer>(kafka_options(), fresh_name("feed"), reaper_)) {
    producer_->init(std::chrono::seconds(30));
    producer_->warm_up({topic_}, std::chrono::seconds(5));
}

void Feed::send(const std::vector<FedMessage>& messages) {
    producer_->begin();
    produce(messages);
    producer_->flush();
    producer_->commit();
    sent_count_ += static_cast<int64_t>(messages.size());
}

void Feed::send_counted(int count, int key_count, int partition_count) {
    std::vector<FedMessage> messages;
    messages.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) {
        const int key = i % key_count;
        messages.push_back(counted("k" + std::to_string(key), key % partition_count));
    }
    send(messages);
}

void Feed::send_aborted(const std::vector<FedMessage>& messages) {
    producer_->begin();
    produce(messages);
    producer_->flush();
    abort_transaction(*producer_);
}

void Feed::send_large(int count) {
    std::vector<FedMessage> messages;
    for (int i = 0; i < count; ++i) {
        messages.push_back(counted("k0", 0));
        messages.back().value->insert(1, "\"filler\": \"" + std::string(100'000, 'x') + "\", ");
    }
    send(messages);
}

FedMessage Feed::counted(const std::string& key, int32_t partition) {
    const int64_t n = ++last_of_key_[key];
    return {.partition = partition,
            .key = key,
            .value = "{\"n\": " + std::to_string(n) + "}",
            .headers = {{"id", Uuid::random().text()},
                        {"type", "Counted"},
                        {"millrace-seq",
                         "0123abcd.0.1." + std::to_string(++sequence_[partition])}}};
}

void Feed::produce(const std::vector<FedMessage>& messages) {
    for (const FedMessage& message : messages) {
        rd_kafka_headers_t* headers = rd_kafka_headers_new(message.headers.size());
        for (const auto& [name, value] : message.headers) {
            rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()),
                                value.data(), static_cast<ssize_t>(value.size()));
        }
        producer_->produce({.topic = topic_,
                            .partition = message.partition,
                            .key = message.key,
                            .value = message.value,
                            .timestamp = message.timestamp,
                            .headers = headers});
    }
}

}  // namespace millrace::test
