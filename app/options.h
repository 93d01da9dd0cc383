#pragma once

#include <string>

#include "app/config.h"
#include "consumers/projection_options.h"
#include "core/kafka/client.h"
#include "core/log.h"
#include "core/pg/session.h"
#include "relay/relay.h"
#include "schema/installation.h"

namespace millrace {

// The one place where configuration keys become the options of components.
LogOptions log_options(const Config& config, const std::string& instance);
pg::SessionOptions session_options(const Config& config);
kafka::ClientOptions kafka_options(const Config& config);
// Clients of an installation's process are called `<8 hex of the installation>/<instance>`.
kafka::ClientOptions kafka_options(const Config& config, const Installation& installation,
                                   const std::string& instance);
RelayOptions relay_options(const Config& config, const Installation& installation,
                           const std::string& instance);

// What the configuration says of one projection; what its file says is the caller's to add.
ProjectionOptions projection_options(const Config& config, const Installation& installation,
                                     const std::string& instance, const std::string& name);

// Host name and pid, for people; members are told apart by a uuid.
std::string instance_name();

// What a process with this configuration takes at most.
struct Footprint {
    int session_count = 0;  // Of PostgreSQL.
    int thread_count = 0;   // Without librdkafka's own.
    int client_count = 0;   // Of Kafka; each has a thread, and one for each broker.
};
Footprint footprint(const Config& config);

// Whatever needs no network: throws kFatal `config` or `kafka_property`.
void check_options(const Config& config);

}  // namespace millrace
