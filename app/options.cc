#include "app/options.h"

#include <libpq-fe.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "core/failure.h"

namespace millrace {

namespace {

constexpr int kAdminThreads = 3;  // One accepts, two answer.
constexpr int kProbeCount = 2;    // Of PostgreSQL and of Kafka.

}  // namespace

LogOptions log_options(const Config& config, const std::string& instance) {
    return {.level = config.text("log.level"),
            .format = config.text("log.format"),
            .instance = instance,
            .slow_after = config.duration("log.slow_after")};
}

pg::SessionOptions session_options(const Config& config) {
    return {.url = config.text("postgres.url"),
            .password = config.text("postgres.password"),
            .settings = pg::common_settings()};
}

kafka::ClientOptions kafka_options(const Config& config) {
    return {.brokers = config.text("kafka.brokers"),
            .client_id = "millrace",
            .properties = config.map("kafka.properties.*")};
}

kafka::ClientOptions kafka_options(const Config& config, const Installation& installation,
                                   const std::string& instance) {
    kafka::ClientOptions options = kafka_options(config);
    options.client_id = installation.short_id() + "/" + instance;
    return options;
}

RelayOptions relay_options(const Config& config, const Installation& installation,
                           const std::string& instance) {
    RelayOptions options;
    options.publisher_count = config.count("relay.publishers");
    options.lease = config.duration("relay.lease");
    PublisherOptions& publisher = options.publisher;
    publisher.session = session_options(config);
    publisher.kafka = kafka_options(config, installation, instance);
    publisher.batch = {.task_count = config.count("relay.batch.tasks"),
                       .byte_count = config.bytes("relay.batch.bytes")};
    publisher.linger = config.duration("relay.linger");
    publisher.poll_min = config.duration("relay.poll.min");
    publisher.poll_max = config.duration("relay.poll.max");
    publisher.message_format = config.text("relay.message_format") == "envelope"
                                   ? MessageFormat::kEnvelope
                                   : MessageFormat::kPayload;
    return options;
}

std::string instance_name() {
    std::array<char, 256> host{};
    // A name that is cut off by a full buffer has no end of its own.
    if (gethostname(host.data(), host.size() - 1) != 0) return std::to_string(getpid());
    return std::string(host.data()) + "-" + std::to_string(getpid());
}

Footprint footprint(const Config& config) {
    Footprint all{.session_count = 1,
                  .thread_count = 2 + kAdminThreads + kProbeCount,  // The main one and the body.
                  .client_count = 1};
    if (config.boolean("relay.enabled")) {
        const int publishers = config.count("relay.publishers");
        // Beside the publishers: lease and keeper; the reaper has no session. A keeper that settles
        // a dead publisher has two producers too.
        all.session_count += publishers + 2;
        all.thread_count += publishers + 3;
        all.client_count += 2 * publishers + 3;
    }
    return all;
}

void check_options(const Config& config) {
    kafka::validate_properties(config.map("kafka.properties.*"));
    char* error = nullptr;
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> parsed(
        PQconninfoParse(config.text("postgres.url").c_str(), &error), &PQconninfoFree);
    if (parsed != nullptr) return;
    const std::string said = error == nullptr ? "out of memory" : error;
    PQfreemem(error);
    throw misconfigured("config", "postgres.url: " + mask_passwords(said));
}

}  // namespace millrace
