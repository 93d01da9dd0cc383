#pragma once

#include <librdkafka/rdkafka.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/failure.h"

namespace millrace::kafka {

struct ClientOptions {
    std::string brokers;
    std::string client_id = "millrace";
    // librdkafka's own properties, of the configuration. validate_properties() refuses those that
    // the protocol rests on.
    std::map<std::string, std::string> properties;
};

// Throws kFatal `kafka_property` for an unknown property, a bad value, or one that the protocol
// sets.
void validate_properties(const std::map<std::string, std::string>& properties);

using Properties = std::vector<std::pair<std::string, std::string>>;

struct ConfDestroy {
    void operator()(rd_kafka_conf_t* conf) const { rd_kafka_conf_destroy(conf); }
};
using Conf = std::unique_ptr<rd_kafka_conf_t, ConfDestroy>;

// The configuration of one client: what `options` gives, then `fixed`, which wins.
Conf make_conf(const ClientOptions& options, const Properties& fixed);

// Makes the client; its logs go to our log when its queue is polled.
rd_kafka_t* make_client(rd_kafka_type_t type, Conf conf);

// The failure that a code stands for outside of a transaction: `kafka_unreachable`,
// `kafka_timeout`, and `kafka_not_authorised` for refused credentials and rights, are kTransient.
Failure failure_of(rd_kafka_resp_err_t code, const std::string& what);

}  // namespace millrace::kafka
