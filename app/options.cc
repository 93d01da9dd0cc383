#include "app/options.h"

#include "app/projection_host.h"

#include <libpq-fe.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "core/failure.h"

namespace millrace {

namespace {

constexpr int kAdminThreads = 3;  // One accepts, two answer.
constexpr int kProbeCount = 2;    // Of PostgreSQL and of Kafka.

int thread_count_of(const Config& config, const std::string& projection) {
    const auto overridden = config.map("projections.overrides.*.threads");
    const auto own = overridden.find(projection);
    return own != overridden.end() ? std::stoi(own->second) : config.count("projections.threads");
}

OnPoison parse_on_poison(const std::string& text) {
    if (text == "skip") return OnPoison::kSkip;
    return text == "halt" ? OnPoison::kHalt : OnPoison::kParkKey;
}

OnPoison on_poison_of(const Config& config, const std::string& projection) {
    const auto overridden = config.map("projections.overrides.*.on_poison");
    const auto own = overridden.find(projection);
    return parse_on_poison(own != overridden.end() ? own->second
                                                   : config.text("projections.on_poison"));
}

ClassOverrides class_overrides_of(const Config& config, const std::string& projection) {
    ClassOverrides overrides;
    for (const auto& [code, name] :
         config.map("projections.overrides." + projection + ".sqlstates.*")) {
        overrides.push_back(parse_override(code, name));
    }
    return overrides;
}

OnUnpublishable policy_of(const std::string& text) {
    if (text == "dead_letter") return OnUnpublishable::kDeadLetter;
    if (text == "halt_lane") return OnUnpublishable::kHaltLane;
    return OnUnpublishable::kParkKey;
}

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
    publisher.unpublishable.policy = policy_of(config.text("relay.on_unpublishable"));
    publisher.unpublishable.topic_grace = config.duration("relay.topic_grace");
    for (const auto& [topic, policy] : config.map("relay.topics.*.on_unpublishable")) {
        publisher.unpublishable.by_topic.emplace(topic, policy_of(policy));
    }
    return options;
}

ProjectionOptions projection_options(const Config& config, const Installation& installation,
                                     const std::string& instance, const std::string& name) {
    ProjectionOptions options;
    options.session = session_options(config);
    options.kafka = kafka_options(config, installation, instance);
    options.thread_count = thread_count_of(config, name);
    options.batch = {
        .event_count = static_cast<size_t>(config.count("projections.batch.events")),
        .byte_count = static_cast<size_t>(config.bytes("projections.batch.bytes")),
        .linger = config.duration("projections.batch.linger")};
    options.session_timeout = config.duration("projections.session_timeout");
    options.retry_count = config.count("projections.retry.count");
    options.retry_backoff = config.duration("projections.retry.backoff");
    options.statement_timeout = config.duration("projections.statement_timeout");
    options.on_gap = config.text("projections.on_gap") == "count" ? OnGap::kCount : OnGap::kHalt;
    options.letters = {.on_poison = on_poison_of(config, name),
                       .letter_count_max = config.count("projections.caps.letters"),
                       .parked_count_max = config.count("projections.caps.parked"),
                       .copies_to_kafka = config.boolean("projections.dlq_topics")};
    options.storm = {
        .share = config.share("projections.storm.share"),
        .event_count_window = static_cast<size_t>(config.count("projections.storm.window")),
        .in_a_row = static_cast<size_t>(config.count("projections.storm.in_a_row"))};
    options.overrides = class_overrides_of(config, name);
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
                  // The main one, the body, the reaper.
                  .thread_count = 3 + kAdminThreads + kProbeCount,
                  .client_count = 1};
    if (config.boolean("relay.enabled")) {
        const int publishers = config.count("relay.publishers");
        // Beside the publishers: lease and keeper, and the thread that looks after all. A keeper
        // that settles a dead publisher has two producers too. Who begins two producers has a
        // second thread meanwhile.
        all.session_count += publishers + 2;
        all.thread_count += 2 * publishers + 4;
        all.client_count += 2 * publishers + 3;
    }
    if (config.boolean("projections.enabled")) {
        ++all.session_count;
        ++all.thread_count;
    }
    for (const ProjectionFile& file : configured_projections(config)) {
        if (!is_chosen(config, file.name)) continue;
        const int threads = thread_count_of(config, file.name);
        all.session_count += threads;
        all.thread_count += threads + 1;
        all.client_count += threads;
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
