#include "bench/load/textbook_consumer.h"

#include <librdkafka/rdkafka.h>

#include <nlohmann/json.hpp>

#include "core/failure.h"
#include "core/kafka/handles.h"

namespace millrace::bench {

namespace {

constexpr int kPollMs = 100;
// As many as the Java client hands over at once; its loop commits after them.
constexpr int kRowsOfACommit = 500;

constexpr std::string_view kTable = R"(
    CREATE TABLE textbook_orders (
        order_id     text PRIMARY KEY,
        customer_id  text,
        amount_cents bigint,
        placed_at    timestamptz,
        events       bigint NOT NULL
    ))";

constexpr std::string_view kUpsert = R"(
    INSERT INTO textbook_orders AS t VALUES ($1, $2, $3, $4::text::timestamptz, 1)
    ON CONFLICT (order_id) DO UPDATE SET
        customer_id  = excluded.customer_id,
        amount_cents = excluded.amount_cents,
        placed_at    = excluded.placed_at,
        events       = t.events + 1)";

void subscribe(rd_kafka_t* consumer, const std::string& topic) {
    rd_kafka_poll_set_consumer(consumer);
    const kafka::Partitions topics(rd_kafka_topic_partition_list_new(1));
    rd_kafka_topic_partition_list_add(topics.get(), topic.c_str(), RD_KAFKA_PARTITION_UA);
    const rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer, topics.get());
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(code, "subscribe");
}

void upsert(pg::Session& session, const rd_kafka_message_t& record) {
    const char* payload = static_cast<const char*>(record.payload);
    const auto order = nlohmann::json::parse(payload, payload + record.len);
    session.execute_prepared("upsert",
                             pg::Params()
                                 .text(order["order"]["id"].get_ref<const std::string&>())
                                 .text(order["customer"]["id"].get_ref<const std::string&>())
                                 .int8(order["amount_cents"].get<int64_t>())
                                 .text(order["placed_at"].get_ref<const std::string&>()));
}

}  // namespace

void run_textbook_consumer(const TextbookConsumerOptions& options) {
    pg::Session session(options.session);
    session.prepare("upsert", kUpsert);
    const kafka::Handle<rd_kafka_t, rd_kafka_destroy> consumer(kafka::make_client(
        RD_KAFKA_CONSUMER, kafka::make_conf(options.kafka, {{"group.id", options.topic + ".book"},
                                                            {"isolation.level", "read_committed"},
                                                            {"enable.auto.commit", "false"},
                                                            {"auto.offset.reset", "earliest"}})));
    subscribe(consumer.get(), options.topic);
    for (int row_count = 0;;) {
        const kafka::Message record(rd_kafka_consumer_poll(consumer.get(), kPollMs));
        if (record == nullptr || record->err != RD_KAFKA_RESP_ERR_NO_ERROR) continue;
        upsert(session, *record);
        if (++row_count % kRowsOfACommit == 0) rd_kafka_commit(consumer.get(), nullptr, 1);
    }
}

void create_textbook_orders(pg::Session& session) {
    session.run_script(std::string(kTable));
}

}  // namespace millrace::bench
