#include "core/kafka/client.h"

#include <array>
#include <string_view>

#include "core/check.h"
#include "core/log.h"

namespace millrace::kafka {

namespace {

// Each decides whether something is lost, doubled or reordered, so none is the user's to set.
constexpr std::array<std::string_view, 20> kOurs{
    "acks", "request.required.acks", "auto.offset.reset", "check.crcs", "client.rack",
    "enable.auto.commit", "enable.auto.offset.store", "enable.idempotence", "enable.partition.eof",
    "group.id", "group.instance.id", "group.protocol", "heartbeat.interval.ms", "isolation.level",
    "max.in.flight.requests.per.connection", "partition.assignment.strategy", "partitioner",
    "session.timeout.ms", "transactional.id", "transaction.timeout.ms"};

// 2.8.0, as rd_kafka_version() has it. Before it an idempotent producer can lose that property
// after a disconnect.
constexpr int kVersionLeast = 0x020800ff;

void set(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
    std::array<char, 512> error{};
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), error.data(), error.size()) !=
        RD_KAFKA_CONF_OK) {
        throw misconfigured("kafka_property", "kafka.properties: " + std::string(error.data()));
    }
}

void on_log(const rd_kafka_t* client, int level, const char* facility, const char* text) noexcept {
    const LogLevel ours = level <= 3 ? LogLevel::kWarn : LogLevel::kDebug;
    log(ours, "kafka", "librdkafka says",
        {{"client", rd_kafka_name(client)}, {"facility", facility}, {"text", text}});
}

}  // namespace

void validate_properties(const std::map<std::string, std::string>& properties) {
    for (const auto& [name, value] : properties) {
        for (const std::string_view ours : kOurs) {
            if (name != ours) continue;
            throw misconfigured("kafka_property", "kafka.properties: " + name +
                                                      " is set by millrace, whose promises rest on "
                                                      "it or whose own keys stand for it");
        }
    }
    make_conf({.brokers = "localhost", .client_id = "millrace", .properties = properties}, {});
}

Conf make_conf(const ClientOptions& options, const Properties& fixed) {
    Conf conf(rd_kafka_conf_new());
    set(conf.get(), "bootstrap.servers", options.brokers);
    set(conf.get(), "client.id", options.client_id);
    set(conf.get(), "socket.nagle.disable", "true");
    set(conf.get(), "socket.timeout.ms", "10000");
    set(conf.get(), "reconnect.backoff.ms", "20");
    set(conf.get(), "reconnect.backoff.max.ms", "500");
    set(conf.get(), "log.connection.close", "false");
    for (const auto& [name, value] : options.properties) set(conf.get(), name, value);
    for (const auto& [name, value] : fixed) set(conf.get(), name, value);
    // Callbacks run on the loop's own thread, when it polls.
    set(conf.get(), "log.queue", "true");
    rd_kafka_conf_set_log_cb(conf.get(), on_log);
    return conf;
}

rd_kafka_t* make_client(rd_kafka_type_t type, Conf conf) {
    if (rd_kafka_version() < kVersionLeast) {
        throw misconfigured("kafka_library", std::string("librdkafka ") + rd_kafka_version_str() +
                                                 " is too old: 2.8.0 or later is needed; see "
                                                 "which one 'ldd' names for this program");
    }
    std::array<char, 512> error{};
    // rd_kafka_new owns the configuration only when it succeeds.
    rd_kafka_t* client = rd_kafka_new(type, conf.get(), error.data(), error.size());
    if (client == nullptr) throw misconfigured("kafka_property", error.data());
    static_cast<void>(conf.release());
    MILLRACE_CHECK(rd_kafka_set_log_queue(client, nullptr) == RD_KAFKA_RESP_ERR_NO_ERROR,
                   "log.queue is on");
    return client;
}

Failure failure_of(rd_kafka_resp_err_t code, const std::string& what) {
    const std::string detail = what + ": " + rd_kafka_err2str(code) + " (" +
                               rd_kafka_err2name(code) + ")";
    switch (static_cast<int>(code)) {  // A foreign enum: most of its values fall under default.
        case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
        case RD_KAFKA_RESP_ERR__AUTHENTICATION:
            return transient("kafka_not_authorised", detail);
        case RD_KAFKA_RESP_ERR__TIMED_OUT:
        case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
            return transient("kafka_timeout", detail);
        default:
            return transient("kafka_unreachable", detail);
    }
}

}  // namespace millrace::kafka
