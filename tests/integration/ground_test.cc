// The ground all other tests stand on: a real PostgreSQL and a real Kafka answer.

#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace millrace {
namespace {

using namespace std::chrono_literals;

constexpr int kTimeoutMs = 20'000;

using PgConnection = std::unique_ptr<PGconn, decltype(&PQfinish)>;
using PgResult = std::unique_ptr<PGresult, decltype(&PQclear)>;
using KafkaClient = std::unique_ptr<rd_kafka_t, decltype(&rd_kafka_destroy)>;
using KafkaError = std::unique_ptr<rd_kafka_error_t, decltype(&rd_kafka_error_destroy)>;
using KafkaMessage = std::unique_ptr<rd_kafka_message_t, decltype(&rd_kafka_message_destroy)>;
using Properties = std::vector<std::pair<const char*, std::string>>;

// The address of a server of this run. A run without servers fails: it must not pass by skipping.
std::string address(const char* variable) {
    const char* value = std::getenv(variable);
    return value == nullptr ? "" : value;
}

PgResult query(PGconn* connection, const char* sql) {
    return {PQexec(connection, sql), &PQclear};
}

// Null, and a failed test, if librdkafka refuses the properties.
KafkaClient connect(rd_kafka_type_t type, const Properties& properties) {
    rd_kafka_conf_t* conf = rd_kafka_conf_new();
    char text[512] = "";
    for (const auto& [name, value] : properties) {
        EXPECT_EQ(rd_kafka_conf_set(conf, name, value.c_str(), text, sizeof text), RD_KAFKA_CONF_OK)
            << text;
    }
    KafkaClient client{rd_kafka_new(type, conf, text, sizeof text), &rd_kafka_destroy};
    EXPECT_TRUE(client) << text;
    return client;
}

std::string text_of(rd_kafka_error_t* raw) {
    const KafkaError error{raw, &rd_kafka_error_destroy};
    return error ? rd_kafka_error_string(error.get()) : "";
}

void create_topic(rd_kafka_t* client, const std::string& name) {
    rd_kafka_NewTopic_t* topic = rd_kafka_NewTopic_new(name.c_str(), 1, 1, nullptr, 0);
    rd_kafka_queue_t* queue = rd_kafka_queue_new(client);
    rd_kafka_CreateTopics(client, &topic, 1, nullptr, queue);
    rd_kafka_event_t* answer = rd_kafka_queue_poll(queue, kTimeoutMs);
    ASSERT_NE(answer, nullptr);

    EXPECT_EQ(rd_kafka_event_error(answer), RD_KAFKA_RESP_ERR_NO_ERROR);
    std::size_t count = 0;
    const auto* result = rd_kafka_event_CreateTopics_result(answer);
    const auto* topics = rd_kafka_CreateTopics_result_topics(result, &count);
    ASSERT_EQ(count, 1U);
    EXPECT_EQ(rd_kafka_topic_result_error(topics[0]), RD_KAFKA_RESP_ERR_NO_ERROR);

    rd_kafka_event_destroy(answer);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
}

KafkaMessage first_record(rd_kafka_t* consumer, const std::string& topic) {
    auto* partitions = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(partitions, topic.c_str(), 0)->offset = 0;
    EXPECT_EQ(rd_kafka_assign(consumer, partitions), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(partitions);
    return {rd_kafka_consumer_poll(consumer, kTimeoutMs), &rd_kafka_message_destroy};
}

TEST(Ground, PostgresKeepsARow) {
    const std::string url = address("MILLRACE_TEST_PG");
    ASSERT_FALSE(url.empty()) << "MILLRACE_TEST_PG is not set; run deploy/dev test";
    const PgConnection connection{PQconnectdb(url.c_str()), &PQfinish};
    ASSERT_EQ(PQstatus(connection.get()), CONNECTION_OK) << PQerrorMessage(connection.get());

    query(connection.get(), "CREATE TEMPORARY TABLE ground (id bigint PRIMARY KEY, body text)");
    query(connection.get(), "INSERT INTO ground VALUES (1, 'kept')");
    const PgResult rows = query(connection.get(), "SELECT body FROM ground WHERE id = 1");

    ASSERT_EQ(PQresultStatus(rows.get()), PGRES_TUPLES_OK) << PQerrorMessage(connection.get());
    ASSERT_EQ(PQntuples(rows.get()), 1);
    EXPECT_STREQ(PQgetvalue(rows.get(), 0, 0), "kept");
}

TEST(Ground, PostgresIsDurable) {
    const std::string url = address("MILLRACE_TEST_PG");
    ASSERT_FALSE(url.empty()) << "MILLRACE_TEST_PG is not set; run deploy/dev test";
    const PgConnection connection{PQconnectdb(url.c_str()), &PQfinish};

    const PgResult fsync = query(connection.get(), "SHOW fsync");

    ASSERT_EQ(PQresultStatus(fsync.get()), PGRES_TUPLES_OK) << PQerrorMessage(connection.get());
    EXPECT_STREQ(PQgetvalue(fsync.get(), 0, 0), "on");
}

TEST(Ground, ReadCommittedReaderSeesACommittedRecord) {
    const std::string brokers = address("MILLRACE_TEST_KAFKA");
    ASSERT_FALSE(brokers.empty()) << "MILLRACE_TEST_KAFKA is not set; run deploy/dev test";
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const std::string topic = "ground." + std::to_string(now / 1us);
    const auto producer = connect(RD_KAFKA_PRODUCER, {{"bootstrap.servers", brokers},
                                                      {"transactional.id", topic},
                                                      {"compression.codec", "lz4"}});
    const auto consumer = connect(RD_KAFKA_CONSUMER, {{"bootstrap.servers", brokers},
                                                      {"group.id", topic},
                                                      {"isolation.level", "read_committed"}});
    ASSERT_TRUE(producer && consumer);
    ASSERT_NO_FATAL_FAILURE(create_topic(producer.get(), topic));

    ASSERT_EQ(text_of(rd_kafka_init_transactions(producer.get(), kTimeoutMs)), "");
    ASSERT_EQ(text_of(rd_kafka_begin_transaction(producer.get())), "");
    ASSERT_EQ(rd_kafka_producev(producer.get(), RD_KAFKA_V_TOPIC(topic.c_str()),
                                RD_KAFKA_V_VALUE(const_cast<char*>("event"), 5),
                                RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
              RD_KAFKA_RESP_ERR_NO_ERROR);
    ASSERT_EQ(text_of(rd_kafka_commit_transaction(producer.get(), kTimeoutMs)), "");
    const KafkaMessage record = first_record(consumer.get(), topic);

    ASSERT_TRUE(record);
    ASSERT_EQ(record->err, RD_KAFKA_RESP_ERR_NO_ERROR) << rd_kafka_message_errstr(record.get());
    EXPECT_EQ(std::string(static_cast<const char*>(record->payload), record->len), "event");
}

}  // namespace
}  // namespace millrace
