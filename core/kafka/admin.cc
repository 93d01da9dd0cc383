#include "core/kafka/admin.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/handles.h"

namespace millrace::kafka {

namespace {

using Options = Handle<rd_kafka_AdminOptions_t, rd_kafka_AdminOptions_destroy>;
using NewTopic = Handle<rd_kafka_NewTopic_t, rd_kafka_NewTopic_destroy>;
using DeleteTopic = Handle<rd_kafka_DeleteTopic_t, rd_kafka_DeleteTopic_destroy>;
using ConfigResource = Handle<rd_kafka_ConfigResource_t, rd_kafka_ConfigResource_destroy>;

// A topic to ask for when only the answer matters: Kafka's own, whose id stays. The broker must not
// be asked for all topics that a client knows: one may have been made again, and librdkafka before
// 2.10 does not survive that.
constexpr const char* kAnyTopic = "__transaction_state";

Options make_options(rd_kafka_t* client, rd_kafka_admin_op_t operation, int limit) {
    Options options(rd_kafka_AdminOptions_new(client, operation));
    std::array<char, 256> error{};
    const rd_kafka_resp_err_t code =
        rd_kafka_AdminOptions_set_request_timeout(options.get(), limit, error.data(), error.size());
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, error.data());
    return options;
}

// Waits for the one answer on `queue`.
Event wait_answer(rd_kafka_queue_t* queue, int limit, const std::string& what) {
    Event event(rd_kafka_queue_poll(queue, limit + 1000));
    if (event == nullptr) throw transient("kafka_timeout", what + ": no answer");
    const rd_kafka_resp_err_t code = rd_kafka_event_error(event.get());
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, what);
    return event;
}

std::map<int32_t, int64_t> offsets_of(const std::map<int32_t, LogEnd>& ends) {
    std::map<int32_t, int64_t> offsets;
    for (const auto& [partition, end] : ends) offsets[partition] = end.offset;
    return offsets;
}

}  // namespace

int32_t partition_of(std::string_view key, int32_t partition_count) {
    // librdkafka's own murmur2 uses neither the topic nor the opaques.
    return rd_kafka_msg_partitioner_murmur2(nullptr, key.data(), key.size(), partition_count,
                                            nullptr, nullptr);
}

std::string Admin::cluster_id() {
    char* id = rd_kafka_clusterid(client_, limit_);
    if (id == nullptr) throw transient("kafka_unreachable", "no broker told its cluster id");
    std::string text = id;
    rd_kafka_mem_free(client_, id);
    return text;
}

int Admin::require_answer(const std::string& what) const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_);
    const Topic any(rd_kafka_topic_new(client_, kAnyTopic, nullptr));
    const rd_kafka_metadata_t* raw = nullptr;
    const rd_kafka_resp_err_t code =
        rd_kafka_metadata(client_, /*all_topics=*/0, any.get(), &raw, limit_);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, what);
    const Metadata metadata(raw);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    return std::max(1, static_cast<int>(left.count()));
}

std::optional<TopicFacts> Admin::topic_facts(const std::string& topic) {
    const int left = require_answer("describe topic " + topic);
    const Queue queue(rd_kafka_queue_new(client_));
    const Options options = make_options(client_, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, left);
    std::array<const char*, 1> names{topic.c_str()};
    const Topics topics(rd_kafka_TopicCollection_of_topic_names(names.data(), names.size()));
    rd_kafka_DescribeTopics(client_, topics.get(), options.get(), queue.get());
    const Event event = wait_answer(queue.get(), left, "describe topic " + topic);

    size_t count = 0;
    const rd_kafka_TopicDescription_t** found = rd_kafka_DescribeTopics_result_topics(
        rd_kafka_event_DescribeTopics_result(event.get()), &count);
    if (count != 1) throw transient("kafka_unreachable", "describe topic " + topic + ": no answer");
    if (const rd_kafka_error_t* error = rd_kafka_TopicDescription_error(found[0])) {
        const rd_kafka_resp_err_t code = rd_kafka_error_code(error);
        if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) return std::nullopt;
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, "describe topic " + topic);
    }
    TopicFacts facts;
    facts.topic_id = rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(found[0]));
    size_t partition_count = 0;
    const rd_kafka_TopicPartitionInfo_t** partitions =
        rd_kafka_TopicDescription_partitions(found[0], &partition_count);
    facts.partition_count = static_cast<int32_t>(partition_count);
    if (partition_count > 0) {
        size_t replicas = 0;
        rd_kafka_TopicPartitionInfo_replicas(partitions[0], &replicas);
        facts.replication = static_cast<int32_t>(replicas);
    }
    return facts;
}

std::optional<int32_t> Admin::partition_count(const std::string& topic) {
    const Topic handle(rd_kafka_topic_new(client_, topic.c_str(), nullptr));
    if (handle == nullptr) return std::nullopt;
    const rd_kafka_metadata_t* raw = nullptr;
    const rd_kafka_resp_err_t code =
        rd_kafka_metadata(client_, /*all_topics=*/0, handle.get(), &raw, limit_);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, "metadata of " + topic);
    const Metadata metadata(raw);
    if (raw->topic_cnt != 1) return std::nullopt;
    const rd_kafka_resp_err_t error = raw->topics[0].err;
    if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) {
        return std::nullopt;
    }
    if (error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
        throw transient("topic_not_authorised",
                        "metadata of " + topic + ": " + rd_kafka_err2str(error));
    }
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(error, "metadata of " + topic);
    return raw->topics[0].partition_cnt;
}

std::map<std::string, std::string> Admin::topic_config(const std::string& topic) {
    const int left = require_answer("configuration of " + topic);
    const Queue queue(rd_kafka_queue_new(client_));
    const Options options = make_options(client_, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, left);
    const ConfigResource resource(
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str()));
    std::array<rd_kafka_ConfigResource_t*, 1> resources{resource.get()};
    rd_kafka_DescribeConfigs(client_, resources.data(), resources.size(), options.get(),
                             queue.get());
    const Event event = wait_answer(queue.get(), left, "configuration of " + topic);

    size_t count = 0;
    const rd_kafka_ConfigResource_t** found = rd_kafka_DescribeConfigs_result_resources(
        rd_kafka_event_DescribeConfigs_result(event.get()), &count);
    if (count != 1) throw transient("kafka_unreachable", "configuration of " + topic);
    const rd_kafka_resp_err_t code = rd_kafka_ConfigResource_error(found[0]);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, "configuration of " + topic);

    std::map<std::string, std::string> config;
    size_t entry_count = 0;
    const rd_kafka_ConfigEntry_t** entries =
        rd_kafka_ConfigResource_configs(found[0], &entry_count);
    for (size_t i = 0; i < entry_count; ++i) {
        const char* value = rd_kafka_ConfigEntry_value(entries[i]);
        config[rd_kafka_ConfigEntry_name(entries[i])] = value == nullptr ? "" : value;
    }
    return config;
}

bool Admin::create_topic(const TopicOptions& topic) {
    const int left = require_answer("create topic " + topic.name);
    const Queue queue(rd_kafka_queue_new(client_));
    const Options options = make_options(client_, RD_KAFKA_ADMIN_OP_CREATETOPICS, left);
    std::array<char, 512> text{};
    const NewTopic wanted(rd_kafka_NewTopic_new(topic.name.c_str(), topic.partition_count,
                                                topic.replication, text.data(), text.size()));
    if (wanted == nullptr) throw misconfigured("topic_invalid", topic.name + ": " + text.data());
    for (const auto& [name, value] : topic.config) {
        const rd_kafka_resp_err_t code =
            rd_kafka_NewTopic_set_config(wanted.get(), name.c_str(), value.c_str());
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, name);
    }
    std::array<rd_kafka_NewTopic_t*, 1> topics{wanted.get()};
    rd_kafka_CreateTopics(client_, topics.data(), topics.size(), options.get(), queue.get());
    const Event event = wait_answer(queue.get(), left, "create topic " + topic.name);

    size_t count = 0;
    const rd_kafka_topic_result_t** results = rd_kafka_CreateTopics_result_topics(
        rd_kafka_event_CreateTopics_result(event.get()), &count);
    if (count != 1) throw transient("kafka_unreachable", "create topic " + topic.name);
    const rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[0]);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return true;
    if (code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) return false;
    if (code == RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR) {
        const char* said = rd_kafka_topic_result_error_string(results[0]);
        throw misconfigured("kafka_replication",
                            "create topic " + topic.name + ": " + (said ? said : "") +
                                "; set kafka.replication to at most the number of brokers");
    }
    throw failure_of(code, "create topic " + topic.name);
}

bool Admin::delete_topic(const std::string& topic) {
    const int left = require_answer("delete topic " + topic);
    const Queue queue(rd_kafka_queue_new(client_));
    const Options options = make_options(client_, RD_KAFKA_ADMIN_OP_DELETETOPICS, left);
    const DeleteTopic named(rd_kafka_DeleteTopic_new(topic.c_str()));
    std::array<rd_kafka_DeleteTopic_t*, 1> topics{named.get()};
    rd_kafka_DeleteTopics(client_, topics.data(), topics.size(), options.get(), queue.get());
    const Event event = wait_answer(queue.get(), left, "delete topic " + topic);

    size_t count = 0;
    const rd_kafka_topic_result_t** results = rd_kafka_DeleteTopics_result_topics(
        rd_kafka_event_DeleteTopics_result(event.get()), &count);
    if (count != 1) throw transient("kafka_unreachable", "delete topic " + topic);
    const rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[0]);
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) return false;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, "delete topic " + topic);
    return true;
}

std::map<int32_t, int64_t> Admin::high_watermarks(const std::string& topic,
                                                  const std::vector<int32_t>& partitions) {
    return offsets_of(ends(topic, partitions, RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED));
}

std::map<int32_t, int64_t> Admin::last_stable_offsets(const std::string& topic,
                                                      const std::vector<int32_t>& partitions) {
    return offsets_of(ends(topic, partitions, RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED));
}

LogEnd Admin::last_stable_end(const std::string& topic, int32_t partition) {
    return ends(topic, {partition}, RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED).at(partition);
}

std::map<int32_t, LogEnd> Admin::ends(const std::string& topic,
                                      const std::vector<int32_t>& partitions,
                                      rd_kafka_IsolationLevel_t isolation) {
    const int left = require_answer("offsets of " + topic);
    const Queue queue(rd_kafka_queue_new(client_));
    const Options options = make_options(client_, RD_KAFKA_ADMIN_OP_LISTOFFSETS, left);
    const Error refused(rd_kafka_AdminOptions_set_isolation_level(options.get(), isolation));
    if (refused) throw fatal("kafka_client", rd_kafka_error_string(refused.get()));
    const Partitions wanted(rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size())));
    for (const int32_t partition : partitions) {
        rd_kafka_topic_partition_list_add(wanted.get(), topic.c_str(), partition)->offset =
            RD_KAFKA_OFFSET_SPEC_LATEST;
    }
    rd_kafka_ListOffsets(client_, wanted.get(), options.get(), queue.get());
    const Event event = wait_answer(queue.get(), left, "offsets of " + topic);

    std::map<int32_t, LogEnd> ends;
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR__TRANSPORT;
    size_t count = 0;
    const rd_kafka_ListOffsetsResultInfo_t** infos = rd_kafka_ListOffsets_result_infos(
        rd_kafka_event_ListOffsets_result(event.get()), &count);
    for (size_t i = 0; i < count; ++i) {
        const rd_kafka_topic_partition_t* answer =
            rd_kafka_ListOffsetsResultInfo_topic_partition(infos[i]);
        if (answer->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            error = answer->err;
        } else if (answer->offset >= 0) {
            // Of a request whose connection broke librdkafka gives no error, only no offset. Taken
            // for one, it would end the read of a ledger at its oldest record (PROTOCOL 4.2).
            LogEnd& end = ends[answer->partition];
            end.offset = answer->offset;
            const int32_t epoch = rd_kafka_topic_partition_get_leader_epoch(answer);
            if (epoch >= 0) end.leader_epoch = epoch;
        }
    }
    if (ends.empty()) throw failure_of(error, "offsets of " + topic);
    return ends;
}

}  // namespace millrace::kafka
