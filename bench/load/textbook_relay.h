#pragma once

#include <cstdint>
#include <string>

#include "app/bench/measured_worker.h"
#include "app/bench/workspace.h"
#include "core/kafka/client.h"
#include "core/pg/session.h"

namespace millrace::bench {

// The outbox relay of the textbooks, written well, as the baseline: tasks have a status; 500 at a
// time are selected by SKIP LOCKED over a partial index, published by an idempotent producer and
// marked by one UPDATE. While a batch is on its way to Kafka the next one is selected by a second
// session. At least once, and in no order that it could promise.
struct TextbookRelayOptions {
    pg::SessionOptions session;
    kafka::ClientOptions kafka;
    std::string topic;
    int partition_count = 8;
};

// Until it is ended by a signal.
[[noreturn]] void run_textbook_relay(const TextbookRelayOptions& options);
// The same as a process of its own; this program's main() knows its arguments.
MeasuredWorker start_textbook_relay(Workspace& workspace);

// Its table, the INSERT that preloads it, and that of TaskWriters.
void create_textbook_outbox(pg::Session& session);
std::string textbook_preload();
std::string textbook_insert();

}  // namespace millrace::bench
