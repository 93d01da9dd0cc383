#include "tests/support/by_hand.h"

#include <algorithm>
#include <chrono>

#include "core/kafka/admin.h"
#include "relay/counters.h"
#include "relay/message.h"
#include "tests/support/broker.h"

namespace millrace::test {

namespace {

constexpr std::chrono::seconds kInitLimit{20};

constexpr std::string_view kTake = R"(
    UPDATE millrace.relay_publishers SET epoch = epoch + 1, owner = NULL, running = false
    WHERE number = $1
    RETURNING epoch, version, seq, generation)";
constexpr std::string_view kTakeLanes = R"(
    UPDATE millrace.relay_lanes SET publisher = $1
    WHERE lane IN (SELECT lane FROM millrace.relay_lanes WHERE publisher IS NULL
                   ORDER BY lane LIMIT $2)
    RETURNING lane)";

}  // namespace

pg::Session relay_session(const Installed& installed) {
    return pg::Session({.url = installed.database.url(),
                        .password = "",
                        .application_name = "millrace test",
                        .settings = Outbox::session_settings()});
}

PublisherByHand::PublisherByHand(const Installed& installed, int16_t number)
    : installed_(installed), session_(relay_session(installed)), outbox_(session_) {
    const pg::Result row = session_.execute(kTake, pg::Params().int2(number));
    state_ = {.number = number,
              .epoch = row.integer(0, 0),
              .version = row.integer(0, 1),
              .seq = row.integer(0, 2),
              .generation = static_cast<int32_t>(row.integer(0, 3)),
              .lanes = {}};
}

void PublisherByHand::take_lanes(int count) {
    const pg::Result rows =
        session_.execute(kTakeLanes, pg::Params().int2(state_.number).int4(count));
    for (int i = 0; i < rows.row_count(); ++i) {
        state_.lanes.push_back(static_cast<int16_t>(rows.integer(i, 0)));
    }
    std::sort(state_.lanes.begin(), state_.lanes.end());
}

size_t PublisherByHand::claim(int task_count, const ClaimScope& scope) {
    claim_ = outbox_.claim(state_, Floor(), {.task_count = task_count, .byte_count = 1 << 30},
                           scope);
    return claim_->tasks.size();
}

void PublisherByHand::commit_kafka() {
    const Installation& installation = installed_.installation;
    kafka::Producer producer(kafka_options(), installation.transactional_id(state_.number, 'a'),
                             reaper_);
    producer.init(kInitLimit);
    const int32_t partition_count =
        kafka::Admin(producer.raw()).partition_count(installed_.topic).value();
    MessageWriter writer(MessageFormat::kPayload, sequence_prefix(installation, state_));
    pg::Session other = installed_.database.connect();
    Counters counters;
    counters.load(other, state_.number, state_.generation);
    LedgerRecord record = empty_record(installed_, state_.number, state_.epoch, claim_->seq);
    producer.begin();
    for (const Task& task : claim_->tasks) {
        const int32_t partition = partition_of(task, partition_count);
        producer.produce(writer.record(task, partition, counters.next(task.topic, partition)));
        record.tasks.push_back({task.lane, task.id, digest_of(task.event_id)});
    }
    std::sort(record.tasks.begin(), record.tasks.end());
    record.counters = counters.unstored();
    const std::string topic = installation.ledger_topic();
    const std::string key = ledger_key(state_.number);
    const std::string value = encode(record);
    producer.produce({.topic = topic, .partition = state_.number, .key = key, .value = value});
    producer.flush();
    producer.commit();
}

void PublisherByHand::commit_database() {
    session_.commit();
    state_.seq = claim_->seq;
}

void PublisherByHand::roll_back() { session_.rollback(); }

void write_ledger(const Installed& installed, int publisher, const std::string& value) {
    const Installation& installation = installed.installation;
    const std::string topic = installation.ledger_topic();
    const std::string key = ledger_key(publisher);
    kafka::Reaper reaper;
    kafka::Producer producer(kafka_options(), installation.transactional_id(publisher, 'a'),
                             reaper);
    producer.init(kInitLimit);
    producer.begin();
    producer.produce({.topic = topic, .partition = publisher, .key = key, .value = value});
    producer.flush();
    producer.commit();
}

LedgerRecord empty_record(const Installed& installed, int16_t publisher, int64_t epoch,
                          int64_t seq) {
    return {.installation = installed.installation.id,
            .publisher = publisher,
            .epoch = epoch,
            .seq = seq,
            .tasks = {},
            .counters = {}};
}

OpenTransaction::OpenTransaction(const std::string& topic, int32_t partition, int record_count)
    : producer_(kafka_options(), fresh_name("open-transaction"), reaper_) {
    producer_.init(kInitLimit);
    producer_.begin();
    for (int i = 0; i < record_count; ++i) {
        producer_.produce({.topic = topic, .partition = partition, .key = "open", .value = "open"});
    }
    producer_.flush();
}

void OpenTransaction::abort() { abort_transaction(producer_); }

}  // namespace millrace::test
