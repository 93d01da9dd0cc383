#include "tests/support/installed.h"

#include <iostream>
#include <sstream>

#include "core/uuid.h"
#include "relay/ledger_topic.h"
#include "tests/support/broker.h"

namespace millrace::test {

namespace {

constexpr std::string_view kInsert = R"(
    INSERT INTO millrace.pending_tasks (event_id, topic, key, task_type, payload)
    SELECT event_id, $1, key, 'Counted', json_build_object('run', $2::text, 'n', n,
                                                              'padding', repeat('x', $6::int))
    FROM unnest($3::uuid[], $4::text[], $5::bigint[]) AS t(event_id, key, n))";

}  // namespace

Installed::Installed(int lane_count, int partition_count)
    : database(lane_count), topic(fresh_name("orders")) {
    pg::Session session = database.connect();
    const DatabaseIdentity identity = database_identity(session);
    installation.id = Uuid::random();
    installation.name = fresh_name("test");
    installation.prefix = "millrace." + installation.name;
    installation.system_identifier = identity.system_identifier;
    installation.database_oid = identity.database_oid;
    installation.lane_count = lane_count;
    insert_installation(session, installation);

    kafka::Reaper reaper;
    ensure_ledger_topic(kafka_options(), installation, /*replication=*/1, reaper);
    create_topic(topic, partition_count);
    truth.run = installation.name;
}

RelayOptions Installed::relay_options() const {
    RelayOptions options;
    options.publisher.session.url = database.url();
    options.publisher.kafka = kafka_options();
    options.publisher.unpublishable.topic_grace = std::chrono::milliseconds(500);
    options.lease = std::chrono::milliseconds(1000);
    return options;
}

std::string Installed::config(int publisher_count, const std::string& batch_bytes) const {
    return "postgres: {url: \"" + database.url() + "\"}\n" +  //
           "kafka: {brokers: \"" + brokers() + "\"}\n" +       //
           "relay: {lease: 1s, topic_grace: 500ms, publishers: " + std::to_string(publisher_count) +
           ", batch: {bytes: " + batch_bytes + "}}\n" +
           "projections: {enabled: false}\n"
           "admin: {listen: \"127.0.0.1:0\"}\n"
           "log: {format: text}\n";
}

void Installed::insert(int count, int key_count) { insert_padded(count, key_count, 0); }

void Installed::insert_large(int count, int byte_count) { insert_padded(count, 1, byte_count); }

void Installed::insert_padded(int count, int key_count, int padding) {
    pg::ArrayBuilder ids(pg::Type::kUuid);
    pg::ArrayBuilder keys(pg::Type::kText);
    pg::ArrayBuilder numbers(pg::Type::kInt8);
    for (int i = 0; i < count; ++i) {
        const std::string key = "k" + std::to_string(i % key_count);
        const Uuid id = Uuid::random();
        const int64_t n = ++last_of_key_[key];
        ids.add_uuid(id);
        keys.add_bytes(key);
        numbers.add_int8(n);
        truth.tasks.push_back({id.text(), key, n});
    }
    pg::Session session = database.connect();
    session.execute(kInsert, pg::Params()
                                 .text(topic)
                                 .text(truth.run)
                                 .array(ids)
                                 .array(keys)
                                 .array(numbers)
                                 .int4(padding));
}

int64_t Installed::pending_count() const {
    return number("SELECT count(*) FROM millrace.pending_tasks");
}

int64_t Installed::owned_lane_count() const {
    return number(
        "SELECT count(*) FROM millrace.relay_lanes l JOIN millrace.relay_publishers p "
        "ON p.number = l.publisher WHERE p.running");
}

int64_t Installed::number(std::string_view sql) const {
    return database.connect().execute(sql).integer(0, 0);
}

std::string Installed::text(std::string_view sql) const {
    const pg::Result row = database.connect().execute(sql);
    return row.is_null(0, 0) ? "" : row.text(0, 0);
}

void Installed::execute(std::string_view sql) const { database.connect().execute(sql); }

Verdict Installed::verdict() {
    std::vector<SeenTask> seen;
    for (const SeenRecord& record : read_topic(topic)) {
        // The run is in the payload: a record of another run must not pass for one of ours.
        const bool is_ours =
            record.value && record.value->find("\"" + truth.run + "\"") != std::string::npos;
        seen.push_back({is_ours ? truth.run : record.value.value_or(""), record.headers.at("id")});
    }
    return check(truth, seen);
}

void Installed::store_truth() const {
    pg::ArrayBuilder keys(pg::Type::kText);
    pg::ArrayBuilder numbers(pg::Type::kInt8);
    for (const TrueTask& task : truth.tasks) {
        keys.add_bytes(task.key);
        numbers.add_int8(task.sequence);
    }
    pg::Session session = database.connect();
    session.execute("CREATE TABLE public.truth (key text, n bigint)");
    session.execute("INSERT INTO public.truth SELECT * FROM unnest($1::text[], $2::bigint[])",
                    pg::Params().array(keys).array(numbers));
}

RunningRelay::RunningRelay(const Installed& installed, RelayOptions options) {
    check_ledger_topic(options.publisher.kafka, installed.installation, reaper_);
    relay_ = std::make_unique<Relay>(
        std::move(options), installed.installation, reaper_, metrics_,
        [](const Failure& failure) { std::cerr << "relay ended: " << failure.what() << '\n'; });
    thread_ = std::jthread([this](std::stop_token stop) { relay_->run(std::move(stop)); });
}

RunningRelay::~RunningRelay() { stop(); }

void RunningRelay::stop() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
}

double RunningRelay::metric(const std::string& line_start) const {
    return metric_in(metrics_.text(), line_start);
}

double metric_in(const std::string& scrape, const std::string& line_start) {
    std::istringstream lines(scrape);
    std::string line;
    double sum = 0;
    while (std::getline(lines, line)) {
        if (line.rfind(line_start, 0) != 0) continue;
        sum += std::stod(line.substr(line.rfind(' ') + 1));
    }
    return sum;
}

}  // namespace millrace::test
