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
#include "relay/dead_tasks.h"
#include "relay/floor.h"
#include "relay/ledger_reader.h"
#include "relay/members.h"
#include "relay/message.h"
#include "relay/outbox.h"
#include "relay/parked_keys.h"
#include "relay/producer_pair.h"
#include "relay/publishers.h"
#include "relay/relay_metrics.h"
#include "relay/known_topics.h"
#include "relay/unpublishable.h"
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
    UnpublishableOptions unpublishable;
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
    // What is kept of a task once its claim is gone: enough to set it aside and to name it.
    struct TaskMark {
        TaskId id;
        std::string topic{};
        bool was_dead = false;
        std::string correlation_id{};
    };

    using Clock = std::chrono::steady_clock;

    // The loop: take and settle, then serve until stop or a Failure.
    void serve(std::stop_token stop);
    void take_and_settle(std::stop_token stop);
    bool try_take(std::stop_token stop);
    void settle();
    void hand_over();

    // One look for work; returns how many tasks it published or set aside.
    size_t step();
    ClaimScope scope_of_claim(bool has_released, std::vector<std::string> topics_left_out);
    size_t publish(Claim& claim);
    size_t publish_claimed(const Claim& claim);
    void note_duration(const Claim& claim, Clock::duration taken) const;
    void commit_to_kafka(kafka::Producer& producer, const Claim& claim);
    void produce_all(kafka::Producer& producer, const Claim& claim);
    void produce_ledger_record(kafka::Producer& producer, const Claim& claim);
    void confirmed(const Claim& claim);
    TopicAnswer ask_for(const std::string& topic);

    // Between two transactions: gives and takes lanes, lets halted and paused ones go.
    void balance();
    void reload();
    void sweep();
    void halt_lane(const TaskMark& task, const std::string& reason, const std::string& why);

    // What can't be published (PROTOCOL 5): publisher_parking.cc.
    void load_parked();
    bool has_released(const std::vector<std::string>& topics_left_out);
    // Nothing: one of them is in the way of everything, and the claim was rolled back.
    std::optional<TopicFaults> look_at_topics(const Claim& claim);
    Parking set_aside_from(Claim& claim, const TopicFaults& faults);
    size_t park_alone(const Parking& parking);
    void note_parked(const Parking& parking);
    void set_aside(const TaskMark& task, const std::string& reason, const std::string& why);
    void take_back_topic(const std::string& topic, const TopicFault& fault);
    static TopicFault fault_of(std::string_view topic, TopicState state);
    bool is_parked(const Task& task) const;
    static TaskMark mark_of(const Task& task);
    void note_set_aside(const std::string& reason, const std::string& detail,
                        const TaskMark& first, int64_t count);

    void recover(const Failure& failure, std::stop_token stop);
    void note_poison(const Failure& failure);
    void note_refused_topic(const Claim& claim, const Failure& failure);
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
    std::optional<DeadTasks> dead_;
    ProducerPair producers_;
    std::optional<MessageWriter> writer_;

    // Remembered also after an error, so that this thread may take its own publisher again.
    std::optional<PublisherState> state_;
    bool is_settled_ = false;
    bool is_in_kafka_ = false;  // A Kafka transaction was begun and its end is not confirmed.
    Floor floor_;
    Counters counters_;
    KnownTopics topics_;
    ParkedKeys parked_;           // Of the lanes, at the version in state_.
    bool may_have_released_ = false;  // Something of the lanes' dead_tasks to be claimed.
    bool is_released_turn_ = false;

    // Halved by each batch that the broker refuses, until one task stands alone; doubled by each
    // that is committed.
    int32_t task_limit_;
    struct Suspect {
        TaskMark task;
        std::string reason;
        std::string detail;
    };
    std::optional<Suspect> suspect_;  // Declared after the settle (PROTOCOL 5.1).
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
