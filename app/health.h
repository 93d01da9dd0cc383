#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace millrace {

enum class Server { kPostgres, kKafka };

// What a look at the threads of a component shows.
struct LoopStatus {
    std::vector<std::string> reasons;  // Why some of them do no work, as sentences.
    std::chrono::milliseconds longest_silence{0};
};

struct Readiness {
    bool postgres_up = false;
    bool kafka_up = false;
    // Why it is not ready, or works in part only.
    std::vector<std::string> reasons;

    // One halted lane must not hold up a rolling update, so a degraded process is ready.
    bool is_ready() const { return postgres_up && kafka_up; }
    bool is_degraded() const { return !reasons.empty(); }
};

// What the process knows of its own health: loops write it, the admin server reads it. Thread-safe;
// no call blocks. A server counts as up while its last answer is younger than 5 s, so that a
// hanging look at it makes it down.
class Health {
  public:
    void note_answer(Server server);
    void note_failure(Server server, const std::string& why);
    // What the process waits for before it begins; empty once it has begun.
    void set_start(const std::string& waits_for);
    // Everything of the installation that is halted, in words.
    void set_halted(std::vector<std::string> halted);
    // `look` is called from other threads and must outlive this.
    void watch(std::function<LoopStatus()> look);

    Readiness readiness() const;
    // Of the thread of ours that was silent longest.
    std::chrono::milliseconds longest_silence() const;

  private:
    using Clock = std::chrono::steady_clock;
    struct ServerState {
        std::optional<Clock::time_point> answered_at;
        std::string why = "not asked yet";
    };

    bool is_up(const ServerState& state) const;
    std::vector<LoopStatus> look() const;

    mutable std::mutex mutex_;
    std::array<ServerState, 2> servers_;
    std::string waits_for_ = "starting";
    std::vector<std::string> halted_;
    std::vector<std::function<LoopStatus()>> looks_;
};

}  // namespace millrace
