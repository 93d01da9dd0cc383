#include "tests/support/counted.h"

#include <iostream>
#include <map>

#include "tests/support/broker.h"
#include "tests/support/eventually.h"
#include "tests/support/installed.h"

namespace millrace::test {

namespace {

constexpr std::string_view kTables = R"(
    CREATE TABLE public.applied (
        serial bigserial, event_id uuid, partition integer, off bigint, key text, n bigint);
    CREATE TABLE public.totals (key text PRIMARY KEY, n bigint NOT NULL);
    INSERT INTO millrace.projections (name, version, definition, hash, start_at)
    VALUES ('counted', 1, '', repeat('0', 64), 'earliest'))";

constexpr std::string_view kInsert = R"(
    INSERT INTO public.applied (event_id, partition, off, key, n)
    SELECT event_id, partition, off, key, (payload::json ->> 'n')::bigint
    FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[], $5::text[])
        AS b(event_id, partition, off, key, payload)
    ORDER BY off)";

constexpr std::string_view kAdd = R"(
    INSERT INTO public.totals AS t (key, n)
    SELECT key, count(*) FROM unnest($1::text[]) AS b(key) GROUP BY key ORDER BY key
    ON CONFLICT (key) DO UPDATE SET n = t.n + excluded.n)";

// By the order in which they were applied, the events of a key must count up from 1.
constexpr std::string_view kVerdict = R"(
    SELECT count(*),
           count(DISTINCT (partition, off)),
           count(*) FILTER (WHERE n <> place),
           (SELECT coalesce(sum(n), 0)::bigint FROM public.totals)
    FROM (SELECT *, row_number() OVER (PARTITION BY key ORDER BY serial) AS place
          FROM public.applied) a)";

}  // namespace

void CountedHandler::open(pg::Session& session) {
    session.prepare("counted_insert", kInsert);
    session.prepare("counted_add", kAdd);
}

bool CountedHandler::wants(const Event& event) const {
    return event.payload && (event.type.empty() || event.type == "Counted");
}

bool CountedHandler::collect(const Event& event) {
    if (event.payload == "\"poison\"") {
        throw poison("unparsable_event", std::string(event.topic) + "-" +
                                             std::to_string(event.partition) + "@" +
                                             std::to_string(event.offset) +
                                             ": $.n: not a number, column n");
    }
    rows_.push_back({.event_id = std::string(event.event_id),
                     .partition = event.partition,
                     .offset = event.offset,
                     .key = std::string(event.key.value_or("")),
                     .payload = std::string(*event.payload)});
    byte_count_ += event.payload->size();
    return true;
}

void CountedHandler::queue(pg::Pipeline& pipeline) {
    pg::ArrayBuilder ids(pg::Type::kUuid);
    pg::ArrayBuilder partitions(pg::Type::kInt4);
    pg::ArrayBuilder offsets(pg::Type::kInt8);
    pg::ArrayBuilder keys(pg::Type::kText);
    pg::ArrayBuilder payloads(pg::Type::kText);
    pg::ArrayBuilder keys_to_add(pg::Type::kText);
    for (const Row& row : rows_) {
        if (const auto id = Uuid::parse(row.event_id)) {
            ids.add_uuid(*id);
        } else {
            ids.add_null();
        }
        partitions.add_int4(row.partition);
        offsets.add_int8(row.offset);
        keys.add_bytes(row.key);
        payloads.add_bytes(row.payload);
        keys_to_add.add_bytes(row.key);
    }
    pipeline.queue_prepared(
        "counted_insert",
        pg::Params().array(ids).array(partitions).array(offsets).array(keys).array(payloads));
    if (between_statements) between_statements();
    pipeline.queue_prepared("counted_add", pg::Params().array(keys_to_add));
}

std::string CountedHandler::describe_statement(size_t index, const pg::ServerError&) const {
    return index == 0 ? "counted.sql:1" : "counted.sql:2";
}

void CountedHandler::analyze(pg::Session& session) { session.execute("ANALYZE public.totals"); }

void CountedHandler::clear() {
    rows_.clear();
    byte_count_ = 0;
}

Counted::Counted(int partitions, const std::map<std::string, std::string>& topic_config,
                 bool creates_topic)
    : topic(fresh_name("counted")), partition_count(partitions), name_(fresh_name("test")) {
    database.connect().run_script(std::string(kTables));
    if (creates_topic) create_topic(topic, partition_count, topic_config);
}

ProjectionOptions Counted::options() const {
    ProjectionOptions options;
    options.session.url = database.url();
    options.kafka = kafka_options();
    options.projection = {.name = "counted", .version = 1};
    options.group = "millrace." + name_ + ".counted.v1";
    options.topics = {topic};
    options.thread_count = 1;
    options.session_timeout = std::chrono::milliseconds(1000);
    options.retry_backoff = std::chrono::milliseconds(20);
    options.retake_after = std::chrono::milliseconds(1000);
    options.halt_poll = std::chrono::milliseconds(100);
    options.catch_up_after = std::chrono::milliseconds(1000);
    return options;
}

HaltSwitch Counted::halt_switch() const {
    return {.set =
                [](pg::Session& session, const std::string& reason) {
                    session.execute("UPDATE millrace.projections SET state = 'halted', "
                                    "halted_reason = $1, halted_at = now() "
                                    "WHERE name = 'counted' AND state = 'live'",
                                    pg::Params().text(reason));
                },
            .get =
                [](pg::Session& session) {
                    return session
                        .execute("SELECT halted_reason FROM millrace.projections "
                                 "WHERE name = 'counted'")
                        .optional_text(0, 0);
                }};
}

void Counted::at_insert(const std::string& body, const std::string& scope) const {
    database.connect().run_script(
        "CREATE FUNCTION public.at_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " + body +
        " RETURN NULL; END $$;"
        "CREATE TRIGGER at_insert AFTER INSERT ON public.applied "
        "REFERENCING NEW TABLE AS new_rows " + scope + " EXECUTE FUNCTION public.at_insert()");
}

void Counted::let_inserts_pass() const {
    database.connect().execute("DROP TRIGGER at_insert ON public.applied");
}

void Counted::resume() {
    database.connect().execute(
        "UPDATE millrace.projections SET state = 'live', halted_reason = NULL, halted_at = NULL");
}

std::optional<std::string> Counted::halted_reason() const {
    pg::Session session = database.connect();
    return halt_switch().get(session);
}

int64_t Counted::applied_count() const { return number("SELECT count(*) FROM public.applied"); }

int64_t Counted::number(const std::string& sql) const {
    return database.connect().execute(sql).integer(0, 0);
}

std::string Counted::fault(int64_t sent_count) const {
    const pg::Result row = database.connect().execute(kVerdict);
    const int64_t applied = row.integer(0, 0);
    const int64_t distinct = row.integer(0, 1);
    std::string fault;
    if (distinct < sent_count) fault += std::to_string(sent_count - distinct) + " lost ";
    if (distinct > sent_count) fault += std::to_string(distinct - sent_count) + " never sent ";
    if (applied > distinct) fault += std::to_string(applied - distinct) + " doubled ";
    if (row.integer(0, 2) > 0) fault += std::to_string(row.integer(0, 2)) + " out of order ";
    if (row.integer(0, 3) != applied) {
        fault += "totals say " + std::to_string(row.integer(0, 3)) + ", rows " +
                 std::to_string(applied);
    }
    return fault;
}

bool applies(const Counted& counted, int64_t count, std::chrono::milliseconds limit) {
    return eventually(limit, [&] { return counted.applied_count() >= count; });
}

bool halts(const Counted& counted, const std::string& words) {
    return eventually(std::chrono::seconds(30), [&] {
        const std::optional<std::string> reason = counted.halted_reason();
        return reason && reason->find(words) != std::string::npos;
    });
}

RunningProjection::RunningProjection(const Counted& counted, ProjectionOptions options,
                                     const HandlerFactory& make_handler)
    : runner_(std::make_unique<ProjectionRunner>(
          std::move(options), make_handler, counted.halt_switch(), reaper_, metrics_,
          [](const Failure& failure) {
              std::cerr << "projection ended: " << failure.what() << '\n';
          })) {
    thread_ = std::jthread([this](std::stop_token stop) { runner_->run(std::move(stop)); });
}

RunningProjection::~RunningProjection() { stop(); }

void RunningProjection::stop() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
}

double RunningProjection::metric(const std::string& line_start) const {
    return metric_in(metrics_.text(), line_start);
}

bool RunningProjection::has_metric(const std::string& line_start) const {
    return metrics_.text().find("\n" + line_start) != std::string::npos;
}

}  // namespace millrace::test
