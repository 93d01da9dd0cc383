#include "app/health.h"

#include <algorithm>

namespace millrace {

namespace {

constexpr std::chrono::seconds kFresh{5};

size_t index_of(Server server) { return server == Server::kPostgres ? 0 : 1; }

}  // namespace

void Health::note_answer(Server server) {
    const std::lock_guard lock(mutex_);
    // Read once this answer is too old, by a look that has no answer yet.
    servers_[index_of(server)] = {Clock::now(),
                                  "no answer for " + std::to_string(kFresh.count()) + " s"};
}

void Health::note_failure(Server server, const std::string& why) {
    const std::lock_guard lock(mutex_);
    servers_[index_of(server)] = {std::nullopt, why};
}

void Health::set_start(const std::string& waits_for) {
    const std::lock_guard lock(mutex_);
    waits_for_ = waits_for;
}

void Health::set_halted(std::vector<std::string> halted) {
    const std::lock_guard lock(mutex_);
    halted_ = std::move(halted);
}

void Health::watch(std::function<LoopStatus()> look) {
    const std::lock_guard lock(mutex_);
    looks_.push_back(std::move(look));
}

Readiness Health::readiness() const {
    Readiness readiness;
    {
        const std::lock_guard lock(mutex_);
        const ServerState& postgres = servers_[index_of(Server::kPostgres)];
        const ServerState& kafka = servers_[index_of(Server::kKafka)];
        if (!waits_for_.empty()) {
            readiness.reasons.push_back("waits for its start: " + waits_for_);
            return readiness;
        }
        readiness.postgres_up = is_up(postgres);
        readiness.kafka_up = is_up(kafka);
        if (!readiness.postgres_up) {
            readiness.reasons.push_back("PostgreSQL does not answer: " + postgres.why);
        }
        if (!readiness.kafka_up) {
            readiness.reasons.push_back("Kafka does not answer: " + kafka.why);
        }
        readiness.reasons.insert(readiness.reasons.end(), halted_.begin(), halted_.end());
    }
    for (const LoopStatus& status : look()) {
        readiness.reasons.insert(readiness.reasons.end(), status.reasons.begin(),
                                 status.reasons.end());
    }
    return readiness;
}

std::chrono::milliseconds Health::longest_silence() const {
    std::chrono::milliseconds longest{0};
    for (const LoopStatus& status : look()) longest = std::max(longest, status.longest_silence);
    return longest;
}

bool Health::is_up(const ServerState& state) const {
    return state.answered_at && Clock::now() - *state.answered_at < kFresh;
}

std::vector<LoopStatus> Health::look() const {
    const std::lock_guard lock(mutex_);
    std::vector<LoopStatus> all;
    for (const auto& look : looks_) all.push_back(look());
    return all;
}

}  // namespace millrace
