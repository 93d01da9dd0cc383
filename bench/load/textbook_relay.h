#pragma once

#include <cstdint>
#include <string>

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

// Returns when it has found nothing for a second.
void run_textbook_relay(const TextbookRelayOptions& options);

// Its table, and the INSERT that preloads it.
void create_textbook_outbox(pg::Session& session);
std::string textbook_insert();

}  // namespace millrace::bench
