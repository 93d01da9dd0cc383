#include "tests/support/broker.h"

#include <array>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "core/failure.h"
#include "core/kafka/admin.h"
#include "core/kafka/handles.h"
#include "core/uuid.h"
#include "tests/support/eventually.h"

namespace millrace::test {

namespace {

using Reader = kafka::Handle<rd_kafka_t, rd_kafka_destroy>;
using NewPartitions = kafka::Handle<rd_kafka_NewPartitions_t, rd_kafka_NewPartitions_destroy>;
using DeleteRecords = kafka::Handle<rd_kafka_DeleteRecords_t, rd_kafka_DeleteRecords_destroy>;
using ConfigResource = kafka::Handle<rd_kafka_ConfigResource_t, rd_kafka_ConfigResource_destroy>;

Reader make_reader() {
    return Reader(kafka::make_client(RD_KAFKA_CONSUMER,
                                     kafka::make_conf(kafka_options(),
                                                      {{"group.id", "millrace-test-reader"},
                                                       {"isolation.level", "read_committed"},
                                                       {"enable.auto.commit", "false"},
                                                       {"enable.partition.eof", "true"},
                                                       {"auto.offset.reset", "earliest"},
                                                       {"fetch.wait.max.ms", "50"}})));
}

std::map<std::string, std::string> headers_of(const rd_kafka_message_t* message) {
    std::map<std::string, std::string> found;
    rd_kafka_headers_t* headers = nullptr;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return found;
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) ==
                       RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
        found[name] = std::string(static_cast<const char*>(value), size);
    }
    return found;
}

std::optional<std::string> optional_bytes(const void* bytes, size_t size) {
    if (bytes == nullptr) return std::nullopt;
    return std::string(static_cast<const char*>(bytes), size);
}

SeenRecord record_of(const rd_kafka_message_t* message) {
    return {.partition = message->partition,
            .offset = message->offset,
            .key = optional_bytes(message->key, message->key_len),
            .value = optional_bytes(message->payload, message->len),
            .timestamp_ms = rd_kafka_message_timestamp(message, nullptr),
            .headers = headers_of(message)};
}

// Reads one partition to its end: what is committed, or, when `high_watermark` is not negative,
// until nothing below that is open any more.
void read_partition(rd_kafka_t* reader, const std::string& topic, int32_t partition,
                    int64_t high_watermark, std::vector<SeenRecord>& records) {
    const kafka::Partitions assignment(rd_kafka_topic_partition_list_new(1));
    rd_kafka_topic_partition_list_add(assignment.get(), topic.c_str(), partition)->offset =
        RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(reader, assignment.get());
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline) {
        const kafka::Message message(rd_kafka_consumer_poll(reader, 100));
        if (message == nullptr) continue;
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            if (message->offset >= high_watermark) return;
            continue;
        }
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) records.push_back(record_of(message.get()));
    }
    throw std::runtime_error("partition " + topic + "-" + std::to_string(partition) +
                             " could not be read to its end");
}

int32_t partition_count(rd_kafka_t* client, const std::string& topic) {
    return kafka::Admin(client).partition_count(topic).value();
}

// Gives the broker an order and waits for its answer; what came of it is seen by looking.
template <typename Order>
void order(rd_kafka_t* client, Order give) {
    const kafka::Queue queue(rd_kafka_queue_new(client));
    give(queue.get());
    const kafka::Event answer(rd_kafka_queue_poll(queue.get(), 10000));
}

// The broker answers a change before every part of it knows of it.
template <typename Predicate>
void await_broker(const std::string& what, Predicate predicate) {
    if (!eventually(std::chrono::seconds(30), predicate)) {
        throw std::runtime_error("the broker does not show: " + what);
    }
}

}  // namespace

std::string brokers() {
    const char* brokers = std::getenv("MILLRACE_TEST_KAFKA");
    if (brokers == nullptr) throw std::runtime_error("MILLRACE_TEST_KAFKA is not set");
    return brokers;
}

kafka::ClientOptions kafka_options() {
    return {.brokers = brokers(), .client_id = "millrace-test", .properties = {}};
}

std::string fresh_name(const std::string& stem) {
    return stem + "-" + Uuid::random().text().substr(0, 8);
}

void create_topic(const std::string& name, int count,
                  const std::map<std::string, std::string>& config) {
    const Reader client = make_reader();
    kafka::Admin admin(client.get());
    admin.create_topic({.name = name, .partition_count = count, .replication = 1,
                        .config = config});
    await_broker("topic " + name,
                 [&] { return admin.partition_count(name).value_or(0) == count; });
}

void delete_topic(const std::string& name) {
    const Reader client = make_reader();
    kafka::Admin admin(client.get());
    admin.delete_topic(name);
    await_broker("topic " + name + " gone", [&] { return !admin.partition_count(name); });
}

void set_topic_config(const std::string& topic, const std::string& name,
                      const std::string& value) {
    const Reader client = make_reader();
    const ConfigResource resource(
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str()));
    const kafka::Error refused(rd_kafka_ConfigResource_add_incremental_config(
        resource.get(), name.c_str(), RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, value.c_str()));
    if (refused) throw std::runtime_error(rd_kafka_error_string(refused.get()));
    order(client.get(), [&](rd_kafka_queue_t* queue) {
        rd_kafka_ConfigResource_t* one = resource.get();
        rd_kafka_IncrementalAlterConfigs(client.get(), &one, 1, nullptr, queue);
    });
    await_broker(topic + " with " + name + "=" + value, [&] {
        return kafka::Admin(client.get()).topic_config(topic).at(name) == value;
    });
}

void add_partitions(const std::string& topic, int count) {
    const Reader client = make_reader();
    std::array<char, 256> error{};
    const NewPartitions wanted(rd_kafka_NewPartitions_new(topic.c_str(), static_cast<size_t>(count),
                                                          error.data(), error.size()));
    order(client.get(), [&](rd_kafka_queue_t* queue) {
        rd_kafka_NewPartitions_t* one = wanted.get();
        rd_kafka_CreatePartitions(client.get(), &one, 1, nullptr, queue);
    });
    await_broker(topic + " with more partitions",
                 [&] { return partition_count(client.get(), topic) == count; });
}

void abort_transaction(kafka::Producer& producer) {
    const kafka::Error error(rd_kafka_abort_transaction(producer.raw(), 20000));
    if (!error) return;
    throw std::runtime_error(std::string("abort_transaction: ") +
                             rd_kafka_error_string(error.get()));
}

std::set<std::string> topic_names() {
    const Reader client = make_reader();
    const rd_kafka_metadata_t* raw = nullptr;
    const rd_kafka_resp_err_t code =
        rd_kafka_metadata(client.get(), /*all_topics=*/1, nullptr, &raw, 10000);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw std::runtime_error(std::string("topics: ") + rd_kafka_err2str(code));
    }
    const kafka::Metadata metadata(raw);
    std::set<std::string> names;
    for (int i = 0; i < metadata->topic_cnt; ++i) names.insert(metadata->topics[i].topic);
    return names;
}

void delete_records(const std::string& topic, int32_t partition, int64_t offset) {
    const Reader client = make_reader();
    const kafka::Partitions before(rd_kafka_topic_partition_list_new(1));
    rd_kafka_topic_partition_list_add(before.get(), topic.c_str(), partition)->offset = offset;
    const DeleteRecords wanted(rd_kafka_DeleteRecords_new(before.get()));
    order(client.get(), [&](rd_kafka_queue_t* queue) {
        rd_kafka_DeleteRecords_t* one = wanted.get();
        rd_kafka_DeleteRecords(client.get(), &one, 1, nullptr, queue);
    });
}

std::vector<SeenRecord> read_topic(const std::string& topic) {
    const Reader reader = make_reader();
    std::vector<SeenRecord> records;
    std::map<int32_t, int64_t> ends;
    await_broker("ends of " + topic, [&] {
        try {
            std::vector<int32_t> partitions;
            for (int32_t i = 0, count = partition_count(reader.get(), topic); i < count; ++i) {
                partitions.push_back(i);
            }
            ends = kafka::Admin(reader.get()).high_watermarks(topic, partitions);
            return ends.size() == partitions.size();
        } catch (const Failure& failure) {
            if (failure.kind() == FailureKind::kTransient) return false;  // No leader yet.
            throw;
        }
    });
    for (const auto& [partition, end] : ends) {
        read_partition(reader.get(), topic, partition, end, records);
    }
    return records;
}

size_t count_records(const std::string& topic) {
    const Reader reader = make_reader();
    std::vector<SeenRecord> records;
    for (int32_t i = 0, count = partition_count(reader.get(), topic); i < count; ++i) {
        read_partition(reader.get(), topic, i, /*high_watermark=*/-1, records);
    }
    return records.size();
}

std::vector<std::string> sequence_breaks(const std::vector<SeenRecord>& records) {
    std::vector<std::string> breaks;
    std::map<std::pair<std::string, int32_t>, int64_t> last;
    for (const SeenRecord& record : records) {
        const std::string& text = record.headers.at("millrace-seq");
        const size_t dot = text.rfind('.');
        const int64_t n = std::stoll(text.substr(dot + 1));
        int64_t& before = last[{text.substr(0, dot), record.partition}];
        if (n != before + 1) {
            breaks.push_back("partition " + std::to_string(record.partition) + ": " + text +
                             " after " + std::to_string(before));
        }
        before = n;
    }
    return breaks;
}

}  // namespace millrace::test
