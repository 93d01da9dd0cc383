#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "core/pg/session.h"
#include "relay/outbox.h"
#include "tests/support/checker.h"
#include "tests/support/floor_rules.h"
#include "tests/support/outbox_run.h"

namespace millrace::test {

struct ClaimOptions {
    int32_t count_max = 1000;
    int bytes_max = 1'000'000;
    bool is_rolled_back = false;
};

struct ClaimResult {
    ClaimFacts facts;
    std::vector<int64_t> ids;
};

// One of the numbered publishers, with lanes of its own (PROTOCOL 2 and 3). Under the relay's floor
// it probes and claims through the relay's Outbox, under a model's by statements of the same shape.
// Single thread.
class ModelPublisher {
  public:
    ModelPublisher(OutboxRun& run, int16_t number, const MakeRule& make_rule);

    ClaimResult claim(const ClaimOptions& options = {});
    // Whether some lane has a row to claim.
    bool probe();
    // As at a take-over: nothing in doubt, memory cleared.
    void settle();
    // Takes what is free of these; returns how many it got.
    int take_lanes(const std::vector<int16_t>& lanes);
    void give_lanes(const std::vector<int16_t>& lanes);

    const FloorRule& rule() const { return *rule_; }
    int backend_pid() const { return session_.backend_pid(); }
    const std::vector<int16_t>& lanes() const { return state_.lanes; }

  private:
    ClaimResult claim_as_relay(const ClaimOptions& options, std::vector<SeenTask>& tasks);
    ClaimResult claim_as_model(const ClaimOptions& options, std::vector<SeenTask>& tasks);
    bool probe_as_model();
    void change_lanes(std::string_view sql, const std::vector<int16_t>& lanes);
    void read_lanes();

    OutboxRun& run_;
    pg::Session session_;
    Outbox outbox_;
    std::unique_ptr<FloorRule> rule_;
    PublisherState state_;
    std::set<int16_t> seen_filled_;  // Lanes in which the model's last probe saw rows.
};

}  // namespace millrace::test
