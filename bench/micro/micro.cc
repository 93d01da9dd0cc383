// What each task and each event passes through in memory, one at a time and without servers.

#include <benchmark/benchmark.h>
#include <libpq-fe.h>

#include <string>
#include <vector>

#include "app/bench/task_text.h"
#include "app/scratch/samples.h"
#include "core/kafka/admin.h"
#include "core/pg/result.h"
#include "projections/batch_rows.h"
#include "projections/column_reader.h"
#include "relay/message.h"
#include "schema/event_parser.h"
#include "schema/ledger_record.h"

namespace millrace {
namespace {

constexpr int kRowCount = 2000;  // Of a full claim.
constexpr int64_t kKeyCount = 100'000;

// A claim's rows as libpq has them: lane, id, event id, topic, key, type, payload, all in binary.
pg::Result claimed_rows() {
    PGresult* rows = PQmakeEmptyPGresult(nullptr, PGRES_TUPLES_OK);
    std::vector<PGresAttDesc> columns(7);
    std::string name = "column";
    for (PGresAttDesc& column : columns) column = {name.data(), 0, 0, 1, 0, -1, -1};
    PQsetResultAttrs(rows, static_cast<int>(columns.size()), columns.data());
    for (int row = 0; row < kRowCount; ++row) {
        std::string lane;
        std::string id;
        pg::append_int16(lane, static_cast<int16_t>(row % 12));
        pg::append_int64(id, row);
        const std::vector<std::string> cells{lane,
                                             id,
                                             std::string(Uuid::random().view()),
                                             "shop.orders",
                                             bench_key(row, kKeyCount),
                                             std::string(kBenchTaskType),
                                             bench_payload(row, kKeyCount)};
        for (size_t i = 0; i < cells.size(); ++i) {
            std::string cell = cells[i];
            PQsetvalue(rows, row, static_cast<int>(i), cell.data(), static_cast<int>(cell.size()));
        }
    }
    return pg::Result(rows);
}

Task task_in(const pg::Result& rows, int row) {
    Task task;
    task.lane = static_cast<int16_t>(rows.integer(row, 0));
    task.id = rows.integer(row, 1);
    task.event_id = rows.uuid(row, 2);
    task.topic = rows.bytes(row, 3);
    task.key = rows.bytes(row, 4);
    task.task_type = rows.bytes(row, 5);
    task.payload = rows.bytes(row, 6);
    return task;
}

void set_items(benchmark::State& state, int per_iteration = 1) {
    state.SetItemsProcessed(state.iterations() * per_iteration);
}

void claim_decoding(benchmark::State& state) {
    const pg::Result rows = claimed_rows();
    for (auto step : state) {
        for (int row = 0; row < kRowCount; ++row) benchmark::DoNotOptimize(task_in(rows, row));
    }
    set_items(state, kRowCount);
}
BENCHMARK(claim_decoding);

void record_making(benchmark::State& state) {
    const pg::Result rows = claimed_rows();
    MessageWriter writer(state.range(0) == 0 ? MessageFormat::kPayload : MessageFormat::kEnvelope,
                         "0123abcd.0.1.");
    int64_t n = 0;
    for (auto step : state) {
        const Task task = task_in(rows, static_cast<int>(n++ % kRowCount));
        const kafka::Record record = writer.record(task, 0, n);
        rd_kafka_headers_destroy(record.headers);
    }
    set_items(state);
    state.SetLabel(state.range(0) == 0 ? "payload" : "envelope");
}
BENCHMARK(record_making)->Arg(0)->Arg(1);

void partition_by_murmur2(benchmark::State& state) {
    std::vector<std::string> keys;
    for (int i = 0; i < kRowCount; ++i) keys.push_back(bench_key(i, kKeyCount));
    for (auto step : state) {
        for (const std::string& key : keys) {
            benchmark::DoNotOptimize(kafka::partition_of(key, 8));
        }
    }
    set_items(state, kRowCount);
}
BENCHMARK(partition_by_murmur2);

LedgerRecord full_record() {
    LedgerRecord record;
    record.installation = Uuid::random();
    record.publisher = 3;
    record.epoch = 7;
    record.seq = 123'456;
    for (int i = 0; i < kRowCount; ++i) {
        record.tasks.push_back({.lane = static_cast<int16_t>(i / 167),
                                .id = 1'000'000 + i,
                                .digest = digest_of(Uuid::random())});
    }
    for (int i = 0; i < 8; ++i) record.counters.push_back({"shop.orders", i, 125'000 + i});
    return record;
}

void ledger_encoding(benchmark::State& state) {
    const LedgerRecord record = full_record();
    for (auto step : state) benchmark::DoNotOptimize(encode(record));
    set_items(state, kRowCount);
}
BENCHMARK(ledger_encoding);

void ledger_decoding(benchmark::State& state) {
    const std::string bytes = encode(full_record());
    for (auto step : state) benchmark::DoNotOptimize(decode_ledger_record(bytes));
    set_items(state, kRowCount);
}
BENCHMARK(ledger_decoding);

constexpr std::string_view kEventId = "0190a5a0-0000-7000-8000-000000000001";

Event event_of(std::string_view value, std::vector<Header> headers) {
    Event event;
    event.topic = "shop.orders";
    event.key = "o-000000001";
    event.payload = value;
    event.headers = std::move(headers);
    return event;
}

void event_parsing_of_payload(benchmark::State& state) {
    const std::string payload = bench_payload(1, kKeyCount);
    EventParser parser;
    for (auto step : state) {
        Event event = event_of(
            payload,
            {{"id", kEventId}, {"type", kBenchTaskType}, {"millrace-seq", "0123abcd.0.1.7"}});
        parser.parse(event);
        benchmark::DoNotOptimize(event);
    }
    set_items(state);
}
BENCHMARK(event_parsing_of_payload);

void event_parsing_of_envelope(benchmark::State& state) {
    const std::string envelope =
        "{\"event_id\":\"" + std::string(kEventId) +
        "\",\"event_type\":\"OrderPlaced\",\"service_id\":\"o-1\",\"tenant_id\":null,"
        "\"timestamp\":\"2026-01-02T03:04:05.000006Z\",\"actor_id\":null,\"payload\":" +
        bench_payload(1, kKeyCount) + ",\"metadata\":{}}";
    EventParser parser;
    for (auto step : state) {
        Event event = event_of(envelope, {{"id", kEventId}, {"type", kBenchTaskType}});
        parser.parse(event);
        benchmark::DoNotOptimize(event);
    }
    set_items(state);
}
BENCHMARK(event_parsing_of_envelope);

// The four columns of the sample `orders`, into rows, and those into arrays of batch_merged.
void column_extraction(benchmark::State& state) {
    const ProjectionFile file = parse_projection("orders.sql", sample_text("orders.sql"));
    const BatchLayout layout(file);
    ColumnReader reader(file, layout);
    BatchRows rows(layout);
    std::vector<std::string> payloads;
    for (int i = 0; i < kRowCount; ++i) payloads.push_back(bench_payload(i, kKeyCount));
    for (auto step : state) {
        for (const std::string& payload : payloads) {
            Event event = event_of(payload, {});
            event.type = kBenchTaskType;
            reader.read(event, rows);
        }
        benchmark::DoNotOptimize(rows.arrays(Relation::kMerged));
        rows.clear();
    }
    set_items(state, kRowCount);
}
BENCHMARK(column_extraction);

}  // namespace
}  // namespace millrace

BENCHMARK_MAIN();
