#include "bench/load/textbook_relay.h"

#include <librdkafka/rdkafka.h>

#include <array>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "app/bench/task_text.h"
#include "core/failure.h"
#include "core/kafka/admin.h"
#include "core/kafka/handles.h"

namespace millrace::bench {

namespace {

constexpr int kFlushMs = 30'000;

constexpr std::string_view kTable = R"(
    CREATE TABLE textbook_outbox (
        id      bigserial PRIMARY KEY,
        key     text NOT NULL,
        payload json NOT NULL,
        status  text NOT NULL DEFAULT 'new'
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
            autovacuum_vacuum_cost_delay = 0);
    CREATE INDEX textbook_outbox_new ON textbook_outbox (id) WHERE status = 'new')";

constexpr std::string_view kSelect = R"(
    SELECT id, key, payload FROM textbook_outbox
    WHERE status = 'new'
    ORDER BY id
    LIMIT 500
    FOR UPDATE SKIP LOCKED)";

constexpr std::string_view kMark =
    "UPDATE textbook_outbox SET status = 'sent' WHERE id = ANY ($1::bigint[])";

kafka::Properties producer_properties() {
    return {{"enable.idempotence", "true"},
            {"acks", "all"},
            {"compression.codec", "lz4"},
            {"linger.ms", "5"},
            {"batch.num.messages", "10000"}};
}

class TextbookProducer {
  public:
    explicit TextbookProducer(const TextbookRelayOptions& options)
        : partition_count_(options.partition_count) {
        kafka::Conf conf = kafka::make_conf(options.kafka, producer_properties());
        rd_kafka_conf_set_opaque(conf.get(), &failed_);
        rd_kafka_conf_set_dr_msg_cb(conf.get(), on_delivery);
        client_.reset(kafka::make_client(RD_KAFKA_PRODUCER, std::move(conf)));
        topic_.reset(rd_kafka_topic_new(client_.get(), options.topic.c_str(), nullptr));
    }

    // The bytes are used until flush() has returned.
    void produce(std::string_view key, std::string_view payload) {
        const int32_t partition = kafka::partition_of(key, partition_count_);
        const int refused = rd_kafka_produce(topic_.get(), partition, /*msgflags=*/0,
                                             const_cast<char*>(payload.data()), payload.size(),
                                             key.data(), key.size(), nullptr);
        if (refused != 0) throw kafka::failure_of(rd_kafka_last_error(), "produce");
    }

    void flush() {
        const rd_kafka_resp_err_t code = rd_kafka_flush(client_.get(), kFlushMs);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(code, "flush");
        if (failed_ != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(failed_, "delivery");
    }

  private:
    static void on_delivery(rd_kafka_t* /*client*/, const rd_kafka_message_t* message,
                            void* opaque) noexcept {
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            *static_cast<rd_kafka_resp_err_t*>(opaque) = message->err;
        }
    }

    const int partition_count_;
    rd_kafka_resp_err_t failed_ = RD_KAFKA_RESP_ERR_NO_ERROR;
    kafka::Handle<rd_kafka_t, rd_kafka_destroy> client_;
    kafka::Topic topic_;
};

// One of the two sessions, with the batch whose rows it holds.
class Batch {
  public:
    explicit Batch(const pg::SessionOptions& options) : session_(options) {
        session_.prepare("select", kSelect);
        session_.prepare("mark", kMark);
    }

    void begin_select() {
        pipeline_.emplace(session_);
        pipeline_->queue("BEGIN");
        pipeline_->queue_prepared("select");
        pipeline_->flush();
    }

    void finish_select() { rows_.emplace(std::move(finish().at(1))); }

    void produce(TextbookProducer& producer) const {
        for (int i = 0; i < rows_->row_count(); ++i) {
            producer.produce(rows_->bytes(i, 1), rows_->bytes(i, 2));
        }
    }

    void begin_mark() {
        pg::ArrayBuilder ids(pg::Type::kInt8);
        for (int i = 0; i < rows_->row_count(); ++i) ids.add_int8(rows_->integer(i, 0));
        pipeline_.emplace(session_);
        pipeline_->queue_prepared("mark", pg::Params().array(ids));
        pipeline_->queue("COMMIT");
        pipeline_->flush();
    }

    void finish_mark() { finish(); }

    int row_count() const { return rows_->row_count(); }

  private:
    std::vector<pg::Result> finish() {
        std::vector<pg::Result> results = std::move(pipeline_->finish().value());
        pipeline_.reset();
        return results;
    }

    pg::Session session_;
    std::optional<pg::Pipeline> pipeline_;
    std::optional<pg::Result> rows_;
};

}  // namespace

void run_textbook_relay(const TextbookRelayOptions& options) {
    TextbookProducer producer(options);
    std::array<Batch, 2> batches{Batch(options.session), Batch(options.session)};
    size_t current = 0;
    batches[current].begin_select();
    batches[current].finish_select();
    for (;;) {
        Batch& batch = batches[current];
        Batch& next = batches[1 - current];
        batch.produce(producer);
        // The next one's rows are selected, and these ones' locks skipped, while Kafka writes.
        next.begin_select();
        producer.flush();
        batch.begin_mark();
        next.finish_select();
        batch.finish_mark();
        if (next.row_count() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        current = 1 - current;
    }
}

void create_textbook_outbox(pg::Session& session) {
    session.run_script(std::string(kTable));
}

MeasuredWorker start_textbook_relay(Workspace& workspace) {
    return MeasuredWorker(workspace.start_program(
        "textbook",
        {"textbook-relay", workspace.session_options().url, workspace.kafka_options().brokers,
         workspace.topic(), std::to_string(workspace.partition_count())}));
}

std::string textbook_insert() {
    return "INSERT INTO textbook_outbox (key, payload) "
           "SELECT t.key, t.payload FROM unnest($1::text[], $2::json[]) AS t(key, payload)";
}

std::string textbook_preload() {
    return "INSERT INTO textbook_outbox (key, payload) SELECT " + std::string(kBenchKeySql) +
           ", (" + std::string(kBenchPayloadSql) + ")::json FROM generate_series($2, $3) AS n";
}

}  // namespace millrace::bench
