#include "relay/ledger_topic.h"

#include <cstdlib>
#include <thread>

#include "core/kafka/admin.h"
#include "core/kafka/producer.h"
#include "core/log.h"
#include "relay/ledger_reader.h"
#include "relay/publishers.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kReadLimit{15};
constexpr std::chrono::seconds kInitLimit{15};
constexpr std::chrono::seconds kClaimLimit{30};
constexpr std::chrono::milliseconds kBetweenTries{200};
// A broker that has just begun takes its time.
constexpr int kLooksMax = 100;

Failure wrong_topic(const std::string& topic, const std::string& why) {
    return misconfigured("ledger_topic", "ledger topic " + topic + " " + why);
}

void check_facts(kafka::Admin& admin, const std::string& topic, const kafka::TopicFacts& facts) {
    if (facts.partition_count < kPublisherCount) {
        throw wrong_topic(topic, "has " + std::to_string(facts.partition_count) +
                                     " partitions, it needs " + std::to_string(kPublisherCount) +
                                     ", one a publisher: add partitions");
    }
    auto config = admin.topic_config(topic);
    const std::string& policy = config["cleanup.policy"];
    if (policy != "compact") {
        throw wrong_topic(topic, "has cleanup.policy=" + policy +
                                     ", it must be exactly compact: with delete, the record of an "
                                     "idle publisher would vanish");
    }
    const int in_sync = std::atoi(config["min.insync.replicas"].c_str());
    if (facts.replication < 2 || in_sync < 2) {
        log(LogLevel::kWarn, "relay",
            "the ledger topic is not replicated enough to survive the loss of a broker",
            {{"topic", topic}, {"replication", facts.replication}, {"min_insync", in_sync}});
    }
}

void check_claim(const Installation& installation, const ClaimRecord& claim) {
    if (claim.installation == installation.id) return;
    throw misconfigured(
        "prefix_taken",
        "the prefix '" + installation.prefix + "' belongs to installation " +
            claim.installation.text() + ", ours is " + installation.id.text() +
            ": if ours is new, run 'millrace migrate up --name ANOTHER', with another "
            "kafka.prefix if one is configured; or, if the other is gone, stop its processes, "
            "delete the topic " +
            installation.ledger_topic() + " and run 'millrace migrate up'");
}

// Fenced means that another migrator writes its claim: read again and see whose it is.
void write_claim(const kafka::ClientOptions& options, const Installation& installation,
                 LedgerReader& reader, kafka::Reaper& reaper) {
    const auto deadline = std::chrono::steady_clock::now() + kClaimLimit;
    for (;;) {
        kafka::Producer producer(options, installation.prefix + ".claim", reaper);
        try {
            producer.init(kInitLimit);
            if (const auto claim = reader.claim(kReadLimit)) {
                check_claim(installation, *claim);
                return;
            }
            const std::string topic = installation.ledger_topic();
            const std::string value = encode(ClaimRecord{
                installation.id, installation.system_identifier, installation.database_oid});
            producer.begin();
            producer.produce(
                {.topic = topic, .partition = 0, .key = kClaimKey, .value = value});
            producer.flush();
            producer.commit();
            return;
        } catch (const Failure& failure) {
            if (failure.kind() == FailureKind::kFatal) throw;
            if (std::chrono::steady_clock::now() >= deadline) throw;
        }
        // A topic made a moment ago may have no leader yet.
        std::this_thread::sleep_for(kBetweenTries);
    }
}

}  // namespace

void check_prefix(const kafka::ClientOptions& options, const Installation& installation,
                  kafka::Reaper& reaper) {
    LedgerReader reader(options, installation.ledger_topic(), installation.id, reaper);
    if (!kafka::Admin(reader.raw()).topic_facts(installation.ledger_topic())) return;
    if (const auto claim = reader.claim(kReadLimit)) check_claim(installation, *claim);
}

void ensure_ledger_topic(const kafka::ClientOptions& options, const Installation& installation,
                         int replication, kafka::Reaper& reaper) {
    LedgerReader reader(options, installation.ledger_topic(), installation.id, reaper);
    kafka::Admin admin(reader.raw());
    const std::string topic = installation.ledger_topic();
    admin.create_topic({.name = topic,
                        .partition_count = kPublisherCount,
                        .replication = static_cast<int16_t>(replication),
                        .config = {{"cleanup.policy", "compact"},
                                   {"min.compaction.lag.ms", "3600000"}}});
    std::optional<kafka::TopicFacts> facts = admin.topic_facts(topic);
    for (int look = 0; !facts && look < kLooksMax; ++look) {
        // The broker that answers may not have heard of the new topic yet.
        std::this_thread::sleep_for(kBetweenTries);
        facts = admin.topic_facts(topic);
    }
    if (!facts) throw transient("kafka_timeout", "the new ledger topic did not appear");
    check_facts(admin, topic, *facts);
    write_claim(options, installation, reader, reaper);
}

std::string ledger_topic_id(rd_kafka_t* client, const Installation& installation) {
    const auto facts = kafka::Admin(client).topic_facts(installation.ledger_topic());
    if (!facts) {
        throw transient("ledger_topic", "the ledger topic " + installation.ledger_topic() +
                                            " does not exist: run 'millrace migrate up', then see "
                                            "'millrace ledger status'");
    }
    return facts->topic_id;
}

void check_ledger_topic(const kafka::ClientOptions& options, const Installation& installation,
                        kafka::Reaper& reaper) {
    LedgerReader reader(options, installation.ledger_topic(), installation.id, reaper);
    kafka::Admin admin(reader.raw());
    const std::string topic = installation.ledger_topic();
    const std::optional<kafka::TopicFacts> facts = admin.topic_facts(topic);
    if (!facts) throw wrong_topic(topic, "does not exist: run 'millrace migrate up'");
    check_facts(admin, topic, *facts);
    const auto claim = reader.claim(kReadLimit);
    // Without a claim the topic was made again; settling finds the contradiction, if there is one.
    if (claim) check_claim(installation, *claim);
}

}  // namespace millrace
