#pragma once

#include <string>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "schema/installation.h"

namespace millrace {

// The ledger topic as `migrate up` makes it and every start checks it (PROTOCOL 4.1). Failures say
// what to do; all throw kTransient when no broker answers, and block at most two minutes.

// Throws kFatal `prefix_taken` if another installation holds the prefix. To be asked before this
// one is made.
void check_prefix(const kafka::ClientOptions& options, const Installation& installation,
                  kafka::Reaper& reaper);

// Makes the topic unless it is there, checks it, and writes the installation's claim record unless
// it is there. Repeatable; two at once end with one claim. Throws as check_ledger_topic().
void ensure_ledger_topic(const kafka::ClientOptions& options, const Installation& installation,
                         int replication, kafka::Reaper& reaper);

// The topic's id, another one once the topic was made again. To be asked over a client that is not
// older than the question: librdkafka before 2.10 corrupts its metadata cache, and crashes when the
// client is destroyed, if it meets a topic with one id and then with another. Throws kTransient
// `ledger_topic` when there is none: the relays that ask have seen it, and wait.
std::string ledger_topic_id(rd_kafka_t* client, const Installation& installation);

// Throws kFatal `ledger_topic` (missing, partitions, policy) or `prefix_taken`.
void check_ledger_topic(const kafka::ClientOptions& options, const Installation& installation,
                        kafka::Reaper& reaper);

}  // namespace millrace
