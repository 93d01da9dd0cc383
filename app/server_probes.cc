#include "app/server_probes.h"

#include <optional>

#include "consumers/letter_store.h"
#include "core/kafka/admin.h"
#include "core/log.h"
#include "core/stop.h"
#include "projections/catalog.h"
#include "relay/operator.h"

namespace millrace {

namespace {

constexpr std::chrono::seconds kEvery{1};
constexpr std::chrono::seconds kAnswerLimit{4};
// A look at the dead letters counts rows.
constexpr int kLettersEvery = 10;

}  // namespace

PostgresProbe::PostgresProbe(pg::SessionOptions options, Health& health, Metrics& metrics)
    : options_(std::move(options)),
      health_(health),
      metrics_(metrics),
      up_(metrics.gauge("millrace_postgres_up", "1 if the last look at PostgreSQL succeeded.")) {
    options_.application_name += " probe";
    options_.connect_timeout = kAnswerLimit;
    options_.call_timeout = kAnswerLimit;
}

void PostgresProbe::run(std::stop_token stop) {
    std::optional<pg::Session> session;
    bool was_up = true;
    int looks = 0;
    do {
        try {
            if (!session) session.emplace(options_);
            std::vector<std::string> halted = Operator(*session).halted();
            for (const HaltedProjection& projection : halted_projections(*session)) {
                halted.push_back("projection " + projection.name +
                                 " is halted: " + projection.reason);
            }
            health_.set_halted(std::move(halted));
            if (looks++ % kLettersEvery == 0) show_letters(*session);
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

void PostgresProbe::show_letters(pg::Session& session) {
    // One that was removed has none.
    for (auto& [projection, open] : shown_) open = {.projection = projection};
    for (OpenLetters& open : LetterStore(session).open()) {
        shown_.insert_or_assign(open.projection, std::move(open));
    }
    for (const auto& [projection, open] : shown_) {
        const Metrics::Labels labels{{"projection", open.projection}};
        metrics_
            .gauge("millrace_projection_letters_open",
                   "Dead letters that wait for an operator, of the installation.", labels)
            .Set(static_cast<double>(open.letter_count));
        metrics_
            .gauge("millrace_projection_oldest_letter_seconds", "Age of the oldest of them.",
                   labels)
            .Set(open.oldest_seconds);
        metrics_
            .gauge("millrace_projection_keys_parked", "Keys whose events wait behind one.", labels)
            .Set(static_cast<double>(open.parked_key_count));
        metrics_
            .gauge("millrace_projection_events_parked", "Events that wait behind one.", labels)
            .Set(static_cast<double>(open.parked_event_count));
    }
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
