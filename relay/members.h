#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "core/backoff.h"
#include "core/loop_watch.h"
#include "core/pg/session.h"
#include "core/uuid.h"
#include "relay/outbox.h"

namespace millrace {

// What the threads of a relay process tell each other about its right to publish. Shared by design:
// every member is atomic or under the lock.
class Lease {
  public:
    // The member row's id; changes when the process had to register anew (PROTOCOL 2.9). Nothing
    // before the first registration.
    std::optional<Uuid> instance() const;
    void set_instance(const std::optional<Uuid>& instance);

    // Time since the process's last completed Kafka round trip; milliseconds::max() before the
    // first.
    std::chrono::milliseconds kafka_silence() const;
    void note_kafka_answer();

    // Kafka answers others and not us: no publisher is taken until it does (PROTOCOL 2.7).
    bool is_cut_off() const { return is_cut_off_; }
    void set_cut_off(bool is_cut_off) { is_cut_off_ = is_cut_off; }

  private:
    mutable std::mutex mutex_;
    std::optional<Uuid> instance_;
    std::atomic<int64_t> kafka_answered_at_ns_{0};  // Steady clock; 0: never.
    std::atomic<bool> is_cut_off_{false};
};

// What a publisher thread shows, so that one that hangs can be relieved (PROTOCOL 2.8), and its
// state can be told by /readyz. Written by its thread, read by others.
class PublisherWatch {
  public:
    explicit PublisherWatch(prometheus::Gauge& waiting_count) : loop(waiting_count) {}

    LoopWatch loop;

    // The publisher the thread has taken or, after an error, is about to take again. None while it
    // has no session.
    void set_publisher(const PublisherState& publisher, int64_t pid, int64_t started);
    void clear_publisher();
    struct Held {
        int16_t number;
        int64_t epoch;
        int64_t pid;
        int64_t started;
    };
    std::optional<Held> held() const;

  private:
    mutable std::mutex mutex_;
    std::optional<Held> held_;
};

struct LeaseOptions {
    pg::SessionOptions session;
    std::chrono::milliseconds lease{3000};
    std::chrono::milliseconds hung_after{60000};  // Without progress so long a thread is relieved.
    std::chrono::milliseconds stray_after{5000};  // Owned by us, run by no thread of ours.
    // So long without an answer while others got one; more than the 5 s for which theirs counts.
    std::chrono::milliseconds cut_off_after{30000};
};

// Keeps the process's row of relay_members through a session of its own, so that neither a claim in
// progress nor a broker outage delays it. One thread. All SQL on relay_members but the joins that
// ask who is alive.
class LeaseLoop {
  public:
    LeaseLoop(LeaseOptions options, Lease& lease, std::vector<PublisherWatch*> watches);

    // Returns on stop, after it has removed its row; outages are waited out.
    void run(std::stop_token stop);

  private:
    void keep(std::stop_token stop);
    void register_member(pg::Session& session);
    // False if the row had expired or vanished.
    bool renew(pg::Session& session, const Uuid& instance);
    void relieve_hung_publishers(pg::Session& session);
    // Gives up what this process holds while Kafka answers others and not us: as long as nobody is
    // answered, nobody could do better (PROTOCOL 2.7).
    void relieve_when_cut_off(pg::Session& session, const Uuid& instance);
    bool relieve(pg::Session& session, const PublisherWatch::Held& held);
    // Gives up publishers that are ours by the database and no thread's of this process: the answer
    // of their take was lost, or the thread gets no session. A living process's publisher is nobody
    // else's to settle.
    void relieve_stray_publishers(pg::Session& session, const Uuid& instance);

    LeaseOptions options_;
    Lease& lease_;
    std::vector<PublisherWatch*> watches_;
    Backoff backoff_{std::chrono::milliseconds(50), std::chrono::milliseconds(1000)};
    std::map<std::pair<int16_t, int64_t>, std::chrono::steady_clock::time_point> strays_;
    // Before its first answer a member is silent since then.
    const std::chrono::steady_clock::time_point begun_at_ = std::chrono::steady_clock::now();
};

}  // namespace millrace
