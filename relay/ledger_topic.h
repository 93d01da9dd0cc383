#pragma once

#include <string>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "schema/installation.h"

namespace millrace {

// The ledger topic as `migrate up` makes it and every start checks it (PROTOCOL 4.1). Both throw
// kFatal `ledger_topic` (missing, partitions, policy) or `prefix_taken`, with what to do, and
// kTransient when no broker answers. Each blocks at most a minute.

// Makes the topic unless it is there, checks it, and writes the installation's claim record unless
// it is there. Repeatable; two at once end with one claim.
void ensure_ledger_topic(const kafka::ClientOptions& options, const Installation& installation,
                         int replication, kafka::Reaper& reaper);

// Returns the topic's id, which changes when the topic is deleted and made again.
std::string check_ledger_topic(const kafka::ClientOptions& options,
                               const Installation& installation, kafka::Reaper& reaper);

}  // namespace millrace
