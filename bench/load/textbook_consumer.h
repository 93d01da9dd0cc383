#pragma once

#include <string>

#include "core/kafka/client.h"
#include "core/pg/session.h"

namespace millrace::bench {

// The consumer of the textbooks, as the baseline of a projection: one member of a group, one
// transaction a row, the offset committed after. At least once.
struct TextbookConsumerOptions {
    pg::SessionOptions session;
    kafka::ClientOptions kafka;
    std::string topic;
};

// Until it is killed.
void run_textbook_consumer(const TextbookConsumerOptions& options);

void create_textbook_orders(pg::Session& session);

}  // namespace millrace::bench
