#include "app/server_probes.h"

#include <optional>

#include "core/kafka/admin.h"
#include "core/log.h"
#include "core/stop.h"
#include "projections/catalog.h"
#include "relay/operator.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kEvery{1};
constexpr std::chrono::seconds kAnswerLimit{4};

}  // namespace

PostgresProbe::PostgresProbe(pg::SessionOptions options, Health& health, Metrics& metrics)
    : options_(std::move(options)),
      health_(health),
      up_(metrics.gauge("millrace_postgres_up", "1 if the last look at PostgreSQL succeeded.")) {
    options_.application_name += " probe";
    options_.connect_timeout = kAnswerLimit;
    options_.call_timeout = kAnswerLimit;
}

void PostgresProbe::run(std::stop_token stop) {
    std::optional<pg::Session> session;
    bool was_up = true;
    do {
        try {
            if (!session) session.emplace(options_);
            std::vector<std::string> halted = Operator(*session).halted();
            for (const HaltedProjection& projection : halted_projections(*session)) {
                halted.push_back("projection " + projection.name +
                                 " is halted: " + projection.reason);
            }
            health_.set_halted(std::move(halted));
            health_.note_answer(Server::kPostgres);
            up_.Set(1);
            if (!was_up) log(LogLevel::kInfo, "probe", "PostgreSQL answers again");
            was_up = true;
        } catch (const Failure& failure) {
            session.reset();
            health_.note_failure(Server::kPostgres, failure.detail());
            up_.Set(0);
            if (was_up) {
                log(LogLevel::kWarn, "probe", "PostgreSQL does not answer",
                    {{"reason", failure.reason()}, {"detail", failure.detail()}});
            }
            was_up = false;
        }
    } while (wait_for(stop, kEvery));
}

KafkaProbe::KafkaProbe(const kafka::ClientOptions& options, std::string ledger_topic,
                       Health& health, Metrics& metrics, kafka::Reaper& reaper)
    : ledger_topic_(std::move(ledger_topic)),
      health_(health),
      up_(metrics.gauge("millrace_kafka_up", "1 if the last look at Kafka succeeded.")),
      client_(kafka::make_client(RD_KAFKA_PRODUCER, kafka::make_conf(options, {})),
              kafka::Bury{&reaper, nullptr}) {}

void KafkaProbe::run(std::stop_token stop) {
    bool was_up = true;
    do {
        try {
            kafka::Admin(client_.get()).partition_count(ledger_topic_);
            health_.note_answer(Server::kKafka);
            up_.Set(1);
            if (!was_up) log(LogLevel::kInfo, "probe", "Kafka answers again");
            was_up = true;
        } catch (const Failure& failure) {
            health_.note_failure(Server::kKafka, failure.detail());
            up_.Set(0);
            if (was_up) {
                log(LogLevel::kWarn, "probe", "Kafka does not answer",
                    {{"reason", failure.reason()}, {"detail", failure.detail()}});
            }
            was_up = false;
        }
        // Serves the client's own log lines.
        rd_kafka_poll(client_.get(), 0);
    } while (wait_for(stop, kEvery));
}

}  // namespace millrace
