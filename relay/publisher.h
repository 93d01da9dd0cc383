#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "core/backoff.h"
#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/pg/session.h"
#include "relay/counters.h"
#include "relay/floor.h"
#include "relay/ledger_reader.h"
#include "relay/members.h"
#include "relay/message.h"
#include "relay/outbox.h"
#include "relay/producer_pair.h"
#include "relay/publishers.h"
#include "relay/relay_metrics.h"
#include "schema/installation.h"

namespace millrace {

struct PublisherOptions {
    pg::SessionOptions session;
    kafka::ClientOptions kafka;
    ClaimLimits batch{.task_count = 2000, .byte_count = 4 << 20};
    std::chrono::milliseconds linger{0};  // Least time between the starts of two transactions.
    std::chrono::milliseconds poll_min{1};
    std::chrono::milliseconds poll_max{20};
    MessageFormat message_format = MessageFormat::kPayload;
};

// What all publisher threads of a process share.
struct RelayShared {
    const Installation& installation;
    LedgerReader& ledger;
    Lease& lease;
    kafka::Reaper& reaper;
    RelayMetrics& metrics;
};

// Runs one publisher: takes a free one, settles it, publishes its lanes' tasks in order, each
// exactly once (PROTOCOL 3), keeps its share of the lanes, hands over on stop. One thread, one
// session, two producers. Every step ends within the time of one Kafka transaction (15 s) or one
// session call.
class Publisher {
  public:
    Publisher(PublisherOptions options, RelayShared shared, PublisherWatch& watch);

    // Returns on stop, with lanes and publisher given back; throws only kFatal.
    void run(std::stop_token stop);

  private:
    // What is kept of a task once its claim is gone: enough to halt its lane and to name it.
    struct TaskMark {
        int16_t lane = 0;
        int64_t id = 0;
        std::string correlation_id{};
    };

    using Clock = std::chrono::steady_clock;

    // The loop: take and settle, then serve until stop or a Failure.
    void serve(std::stop_token stop);
    void take_and_settle(std::stop_token stop);
    bool try_take(std::stop_token stop);
    void settle();
    void hand_over();

    // One look for work; returns how many tasks it published.
    size_t step();
    size_t publish(const Claim& claim);
    void note_duration(const Claim& claim, Clock::duration taken) const;
    void commit_to_kafka(kafka::Producer& producer, const Claim& claim);
    void produce_all(kafka::Producer& producer, const Claim& claim);
    void produce_ledger_record(kafka::Producer& producer, const Claim& claim);
    void confirmed(const Claim& claim);
    bool decide_topic();
    void forget_old_misses();
    int32_t partition_count(std::string_view topic);

    // Between two transactions: gives and takes lanes, lets halted and paused ones go.
    void balance();
    void reload();
    void sweep();
    void halt_lane(const TaskMark& task, const std::string& reason, const std::string& why);

    void recover(const Failure& failure, std::stop_token stop);
    void note_poison(const Failure& failure);
    void halve_claims();
    void note_again(const Failure& failure);
    void leave_unread(const std::string& reason);
    void drop_everything();
    void show(const std::string& waiting);
    void show_lanes(size_t count);

    PublisherOptions options_;
    RelayShared shared_;
    PublisherWatch& watch_;
    Backoff backoff_;

    std::optional<pg::Session> session_;
    std::optional<Outbox> outbox_;
    std::optional<Publishers> publishers_;
    ProducerPair producers_;
    std::optional<MessageWriter> writer_;

    // Remembered also after an error, so that this thread may take its own publisher again.
    std::optional<PublisherState> state_;
    bool is_settled_ = false;
    bool is_in_kafka_ = false;  // A Kafka transaction was begun and its end is not confirmed.
    Floor floor_;
    Counters counters_;
    std::map<std::string, int32_t, std::less<>> partition_counts_;

    // Halved by each batch that the broker refuses, until one task stands alone; doubled by each
    // that is committed.
    int32_t task_limit_;
    struct Suspect {
        TaskMark task;
        std::string reason;
        std::string detail;
    };
    std::optional<Suspect> suspect_;  // Declared after the settle (PROTOCOL 5.1).
    struct MissingTopic {
        std::string topic;
        TaskMark task;
    };
    std::optional<MissingTopic> missing_;  // A topic that the broker says does not exist.
    // Waited for once, not again for each lane that names it.
    std::map<std::string, Clock::time_point, std::less<>> missing_since_;
    size_t shown_lanes_ = 0;
    bool expects_more_ = false;  // The last claim had kBusyClaim tasks, or all it was allowed.
    size_t produced_count_ = 0;  // Of the transaction in progress.
    TaskMark first_;             // Its first task.
    std::map<int16_t, Clock::time_point> not_before_;  // Its record can't be read: not for 10 s.
    Clock::time_point next_balance_{};
    Clock::time_point next_sweep_{};
    Clock::time_point last_start_{};
    std::chrono::milliseconds idle_wait_{1};
};

}  // namespace millrace
