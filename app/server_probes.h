#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "app/health.h"
#include "consumers/letter_store.h"
#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/metrics.h"
#include "core/pg/session.h"

namespace millrace {

// Asks PostgreSQL each second whether it answers and what is halted, and now and then what was set
// aside, through a session of its own, so that no request of /readyz or /metrics ever waits for it.
// One thread.
class PostgresProbe {
  public:
    PostgresProbe(pg::SessionOptions options, Health& health, Metrics& metrics);

    // Returns on stop, within 5 s.
    void run(std::stop_token stop);

  private:
    void show_letters(pg::Session& session);

    pg::SessionOptions options_;
    Health& health_;
    Metrics& metrics_;
    prometheus::Gauge& up_;
    std::map<std::string, OpenLetters> shown_;  // By projection.
};

// The same for Kafka, by the metadata of the ledger topic. One thread, a client of its own.
class KafkaProbe {
  public:
    KafkaProbe(const kafka::ClientOptions& options, std::string ledger_topic, Health& health,
               Metrics& metrics, kafka::Reaper& reaper);

    // Returns on stop, within 10 s.
    void run(std::stop_token stop);

  private:
    std::string ledger_topic_;
    Health& health_;
    prometheus::Gauge& up_;
    kafka::Client client_;
};

}  // namespace millrace
