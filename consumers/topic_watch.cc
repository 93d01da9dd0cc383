#include "consumers/topic_watch.h"

#include "consumers/log_facts.h"
#include "core/failure.h"
#include "core/kafka/admin.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kAskEvery{3};
constexpr std::chrono::milliseconds kAnswerLimit{500};

}  // namespace

TopicWatch::TopicWatch(rd_kafka_t* client, std::vector<std::string> topics)
    : client_(client), topics_(std::move(topics)), queue_(rd_kafka_queue_new(client)) {}

std::map<std::string, Uuid> TopicWatch::look() {
    std::map<std::string, Uuid> ids;
    if (!is_asked_ && Clock::now() >= next_ask_) ask();
    const kafka::Event event(rd_kafka_queue_poll(queue_.get(), 0));
    if (event) is_asked_ = false;
    // A broker that does not answer shows elsewhere.
    if (!event || rd_kafka_event_error(event.get()) != RD_KAFKA_RESP_ERR_NO_ERROR) return ids;
    size_t count = 0;
    const rd_kafka_TopicDescription_t** found = rd_kafka_DescribeTopics_result_topics(
        rd_kafka_event_DescribeTopics_result(event.get()), &count);
    for (size_t i = 0; i < count; ++i) {
        const rd_kafka_error_t* error = rd_kafka_TopicDescription_error(found[i]);
        if (error != nullptr && rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        const auto id = parse_topic_id(
            rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(found[i])));
        if (id) ids.emplace(rd_kafka_TopicDescription_name(found[i]), *id);
    }
    return ids;
}

void TopicWatch::ask() {
    next_ask_ = Clock::now() + kAskEvery;
    try {
        kafka::Admin(client_, kAnswerLimit).require_answer("topics");
    } catch (const Failure&) {
        return;  // Shows elsewhere, too.
    }
    is_asked_ = true;
    std::vector<const char*> names;
    for (const std::string& topic : topics_) names.push_back(topic.c_str());
    const kafka::Topics collection(
        rd_kafka_TopicCollection_of_topic_names(names.data(), names.size()));
    rd_kafka_DescribeTopics(client_, collection.get(), nullptr, queue_.get());
}

}  // namespace millrace
