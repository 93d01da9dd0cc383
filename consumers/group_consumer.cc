#include "consumers/group_consumer.h"

#include <algorithm>
#include <thread>

#include "core/log.h"

// What librdkafka makes necessary here:
// - A record carries no mark of the stretch it was fetched for. Before a partition is read anew,
//   drain() empties the queue: what is of that partition is dropped, what is of others keeps the
//   generation it had. What a broker thread has not queued yet, librdkafka itself drops.
// - Resuming a partition that is not paused drops what was read ahead, and a pause survives its
//   assignment: so the two are paired.
// - A closing consumer's queue must be polled for events, not callbacks: records in it would end
//   the process.
// - A broker answers one request of a connection after the other: a question behind a long poll
//   waits for it. So positions are taken and checked first, then all partitions are read.
// - It goes on in a topic that was deleted and made again, at the old offset: topic_watch.h.
// - Records go before the consumer they came from.

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;
using kafka::Error;
using kafka::Message;
using kafka::Partitions;
using kafka::Queue;

// An outage that ended leaves no trace in an idle topic, so what was said of it grows old.
constexpr std::chrono::seconds kTroubleLasts{10};
// To end the client once the group knows, and to answer what the group asks until then.
constexpr std::chrono::seconds kCloseLimit{1};
// For a stretch to begin, once the one before has ended.
constexpr std::chrono::milliseconds kSeekLimit{100};
constexpr std::chrono::milliseconds kSeekAgainAfter{2};

// With auto.offset.reset=error librdkafka tells of every refusal by one code; which one it was
// stands in the text, in the words of its own code.
bool is_truncation(const std::string& detail) {
    return detail.find(rd_kafka_err2str(RD_KAFKA_RESP_ERR__LOG_TRUNCATION)) != std::string::npos;
}

Partitions make_list(int size) {
    return Partitions(rd_kafka_topic_partition_list_new(size));
}

Partitions list_of(const TopicPartition& where) {
    Partitions list = make_list(1);
    rd_kafka_topic_partition_list_add(list.get(), where.topic.c_str(), where.partition);
    return list;
}

void throw_if(rd_kafka_error_t* raw, const std::string& what) {
    const Error error(raw);
    if (error) throw kafka::failure_of(rd_kafka_error_code(error.get()), what);
}

kafka::Properties fixed_properties(const GroupOptions& options) {
    const auto timeout = options.session_timeout.count();
    return {
        {"group.id", options.group},
        {"isolation.level", "read_committed"},
        {"partition.assignment.strategy", "cooperative-sticky"},
        {"auto.offset.reset", "error"},
        {"check.crcs", "true"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"session.timeout.ms", std::to_string(timeout)},
        {"heartbeat.interval.ms", std::to_string(std::max<int64_t>(1, timeout / 10))},
    };
}

// What suits most, and is the user's to change. New topics and partitions are noticed by the
// refresh; the queue's bound keeps a worker that is far behind from filling its memory.
kafka::ClientOptions with_defaults(kafka::ClientOptions options) {
    options.properties.emplace("fetch.wait.max.ms", "100");
    // A statement may run for an hour: given away meanwhile, its partition would only be applied by
    // two workers in turn, each ending the other. A worker that hangs is /livez's to find.
    options.properties.emplace("max.poll.interval.ms", "86400000");
    options.properties.emplace("fetch.queue.backoff.ms", "2");
    options.properties.emplace("queued.max.messages.kbytes", "16384");
    options.properties.emplace("topic.metadata.refresh.interval.ms", "5000");
    return options;
}

TopicPartition place_of(const rd_kafka_topic_partition_t& entry) {
    return {.topic = entry.topic, .partition = entry.partition};
}

}  // namespace

GroupConsumer::GroupConsumer(const GroupOptions& options, kafka::Reaper& reaper)
    : state_(std::make_shared<State>()), client_(make(options, state_, reaper)) {
    rd_kafka_poll_set_consumer(client_.get());
    const Partitions topics = make_list(static_cast<int>(options.topics.size()));
    for (const std::string& topic : options.topics) {
        rd_kafka_topic_partition_list_add(topics.get(), topic.c_str(), RD_KAFKA_PARTITION_UA);
    }
    const rd_kafka_resp_err_t code = rd_kafka_subscribe(client_.get(), topics.get());
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(code, "subscribe");
}

Fetched GroupConsumer::poll(std::chrono::milliseconds limit) {
    if (drained_.empty()) return next(limit);
    Fetched fetched = std::move(drained_.front());
    drained_.pop_front();
    return fetched;
}

Fetched GroupConsumer::next(std::chrono::milliseconds limit) {
    Message message(rd_kafka_consumer_poll(client_.get(), static_cast<int>(limit.count())));
    if (message) return judge(std::move(message));
    state_->ended.clear();
    return {};
}

// What it belongs to is decided when it leaves the queue.
Fetched GroupConsumer::judge(Message polled) {
    Fetched fetched;
    fetched.message = std::move(polled);
    const rd_kafka_message_t& message = *fetched.message;
    switch (static_cast<int>(message.err)) {  // A foreign enum: most values fall under default.
        case RD_KAFKA_RESP_ERR_NO_ERROR: fetched.kind = Fetched::Kind::kRecord; break;
        case RD_KAFKA_RESP_ERR__PARTITION_EOF: fetched.kind = Fetched::Kind::kEnd; break;
        case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        case RD_KAFKA_RESP_ERR__LOG_TRUNCATION:
        case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
            fetched.kind = Fetched::Kind::kRefused;
            fetched.detail = rd_kafka_message_errstr(&message);
            fetched.is_truncated = is_truncation(fetched.detail);
            break;
        case RD_KAFKA_RESP_ERR__FATAL:
            throw transient("kafka_client_failed", rd_kafka_message_errstr(&message));
        default: note_trouble(message); return {};
    }
    fetched.offset = message.offset;
    fetched.generation = generation_of(message);
    // Of a stretch that has ended: librdkafka drops such by itself, but losing a range in silence
    // is not left to it (PROTOCOL 7.4).
    if (fetched.generation == 0) return {};
    return fetched;
}

std::vector<AssignmentChange> GroupConsumer::take_changes() {
    return std::exchange(state_->changes, {});
}

uint64_t GroupConsumer::fetch_from(const TopicPartition& where, int64_t offset,
                                   std::optional<int32_t> leader_epoch) {
    stop_fetching(where);
    if (state_->ended.contains(where)) drain();
    // The answer to the group ran in there.
    for (const AssignmentChange& change : state_->changes) {
        if (change.where == where && !change.is_gained) return 0;
    }
    const Partitions list = list_of(where);
    list->elems[0].offset = offset;
    // The epoch lets the broker tell that the log was cut below what we have read (PROTOCOL 7.2).
    if (leader_epoch) {
        rd_kafka_topic_partition_set_leader_epoch(&list->elems[0], *leader_epoch);
    }
    throw_if(rd_kafka_incremental_assign(client_.get(), list.get()), "assign " + where.text());
    state_->fetching[where] = ++generation_count_;
    if (leader_epoch) validate(list.get(), where);
    return generation_count_;
}

// librdkafka does not look at the epoch of an assignment. That of a seek it does: it asks the
// leader where the epoch ended (KIP-320) before it fetches.
void GroupConsumer::validate(rd_kafka_topic_partition_list_t* list, const TopicPartition& where) {
    const auto deadline = Clock::now() + kSeekLimit;
    for (;;) {
        const Error error(rd_kafka_seek_partitions(client_.get(), list,
                                                   static_cast<int>(kSeekLimit.count())));
        const rd_kafka_resp_err_t code =
            error ? rd_kafka_error_code(error.get()) : list->elems[0].err;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return;
        // The stretch before has not ended yet, so this one has not begun.
        const bool is_early = code == RD_KAFKA_RESP_ERR__STATE ||
                              code == RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS;
        if (!is_early || Clock::now() >= deadline) {
            throw kafka::failure_of(code, "seek " + where.text());
        }
        std::this_thread::sleep_for(kSeekAgainAfter);
    }
}

void GroupConsumer::stop_fetching(const TopicPartition& where) {
    state_->last_topic = nullptr;
    if (state_->fetching.erase(where) == 0) return;
    state_->ended.insert(where);
    resume(where);
    throw_if(rd_kafka_incremental_unassign(client_.get(), list_of(where).get()),
             "unassign " + where.text());
}

void GroupConsumer::pause(const TopicPartition& where) {
    if (!state_->paused.insert(where).second) return;
    rd_kafka_pause_partitions(client_.get(), list_of(where).get());
}

// In librdkafka a pause outlives its assignment, and resuming what is not paused drops what was
// read ahead: so it is undone exactly once, before the stretch ends.
void GroupConsumer::resume(const TopicPartition& where) {
    if (state_->paused.erase(where) == 0) return;
    rd_kafka_resume_partitions(client_.get(), list_of(where).get());
}

void GroupConsumer::commit_later(const std::map<TopicPartition, int64_t>& next_offsets) {
    if (next_offsets.empty()) return;
    const Partitions list = make_list(static_cast<int>(next_offsets.size()));
    for (const auto& [where, offset] : next_offsets) {
        rd_kafka_topic_partition_list_add(list.get(), where.topic.c_str(), where.partition)
            ->offset = offset;
    }
    const rd_kafka_resp_err_t code = rd_kafka_commit(client_.get(), list.get(), /*async=*/1);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        log(LogLevel::kDebug, "consumers", "offsets for lag tools not written",
            {{"why", rd_kafka_err2name(code)}});
    }
}

void GroupConsumer::close(std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    // Closed as it is, a member without partitions goes without a word to the group, which waits
    // for its session to end. One that unsubscribes tells it, once a rebalance that is under way
    // has let it in again (PROTOCOL 7.2b). What is read meanwhile is left to the next owner.
    rd_kafka_unsubscribe(client_.get());
    while (is_member() && Clock::now() < deadline - kCloseLimit) {
        const Message left_unread(rd_kafka_consumer_poll(client_.get(), 10));
    }
    const Queue queue(rd_kafka_queue_new(client_.get()));
    const Error error(rd_kafka_consumer_close_queue(client_.get(), queue.get()));
    if (error) {
        log(LogLevel::kWarn, "consumers", "could not leave the group",
            {{"why", rd_kafka_error_string(error.get())}});
        return;
    }
    // As events, not by callbacks: the queue gets the last records too, which no callback takes.
    while (rd_kafka_consumer_closed(client_.get()) == 0 && Clock::now() < deadline) {
        const kafka::Event event(rd_kafka_queue_poll(queue.get(), 10));
        if (rd_kafka_event_type(event.get()) != RD_KAFKA_EVENT_REBALANCE) continue;
        on_rebalance(client_.get(), rd_kafka_event_error(event.get()),
                     rd_kafka_event_topic_partition_list(event.get()), state_.get());
    }
}

bool GroupConsumer::is_member() const {
    char* id = rd_kafka_memberid(client_.get());
    const bool is_member = id != nullptr && *id != '\0';
    if (id != nullptr) rd_kafka_mem_free(client_.get(), id);
    return is_member;
}

std::string GroupConsumer::trouble() const {
    if (!state_->topic_troubles.empty()) return state_->topic_troubles.begin()->second;
    if (Clock::now() - state_->client_trouble_at < kTroubleLasts) return state_->client_trouble;
    return "";
}

// The group waits for the answer, so it is given at once: what was gained is acknowledged without
// being read, since its position is not known yet, and the loop takes it (PROTOCOL 7.2) without
// holding the others up while PostgreSQL is away.
void GroupConsumer::on_rebalance(rd_kafka_t* client, rd_kafka_resp_err_t code,
                                 rd_kafka_topic_partition_list_t* partitions,
                                 void* opaque) noexcept {
    State& state = *static_cast<State*>(opaque);
    const bool is_gained = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    const Partitions to_change = make_list(partitions->cnt);
    state.last_topic = nullptr;
    for (int i = 0; i < partitions->cnt; ++i) {
        const TopicPartition where = place_of(partitions->elems[i]);
        state.changes.push_back({where, is_gained});
        if (is_gained) state.topic_troubles.erase(where.topic);
        if (is_gained || state.fetching.erase(where) == 0) continue;
        state.ended.insert(where);
        if (state.paused.erase(where) > 0) {
            rd_kafka_resume_partitions(client, list_of(where).get());
        }
        rd_kafka_topic_partition_list_add(to_change.get(), where.topic.c_str(), where.partition);
    }
    const Error error(is_gained ? rd_kafka_incremental_assign(client, to_change.get())
                                : rd_kafka_incremental_unassign(client, to_change.get()));
    if (error) {
        log(LogLevel::kWarn, "consumers", "rebalance not acknowledged",
            {{"why", rd_kafka_error_string(error.get())}});
    }
}

void GroupConsumer::on_error(rd_kafka_t*, int code, const char* reason, void* opaque) noexcept {
    State& state = *static_cast<State*>(opaque);
    state.client_trouble =
        std::string("kafka_unreachable: ") + reason + " (" +
        rd_kafka_err2name(static_cast<rd_kafka_resp_err_t>(code)) + ")";
    state.client_trouble_at = Clock::now();
}

kafka::Client GroupConsumer::make(const GroupOptions& options, const std::shared_ptr<State>& state,
                                  kafka::Reaper& reaper) {
    kafka::Conf conf = kafka::make_conf(with_defaults(options.kafka), fixed_properties(options));
    rd_kafka_conf_set_opaque(conf.get(), state.get());
    rd_kafka_conf_set_rebalance_cb(conf.get(), on_rebalance);
    rd_kafka_conf_set_error_cb(conf.get(), on_error);
    return {kafka::make_client(RD_KAFKA_CONSUMER, std::move(conf)), kafka::Bury{&reaper, state}};
}

// A record carries no mark of the stretch it was fetched for. So before a partition is read anew,
// everything leaves the queue that stands in it: what is of that partition is of the stretch that
// has ended, since no other is open (PROTOCOL 7.4).
void GroupConsumer::drain() {
    const Queue queue(rd_kafka_queue_get_consumer(client_.get()));
    for (size_t left = rd_kafka_queue_length(queue.get()); left > 0; --left) {
        Message message(rd_kafka_consumer_poll(client_.get(), 0));
        if (!message) break;
        Fetched fetched = judge(std::move(message));
        if (fetched.kind != Fetched::Kind::kNothing) drained_.push_back(std::move(fetched));
    }
    state_->ended.clear();
}

uint64_t GroupConsumer::generation_of(const rd_kafka_message_t& message) {
    State& state = *state_;
    if (message.rkt == state.last_topic && message.partition == state.last_partition) {
        return state.last_generation;
    }
    const auto found = state.fetching.find(
        TopicPartition{.topic = rd_kafka_topic_name(message.rkt), .partition = message.partition});
    if (found == state.fetching.end()) return 0;
    state.last_topic = message.rkt;
    state.last_partition = message.partition;
    state.last_generation = found->second;
    return found->second;
}

void GroupConsumer::note_trouble(const rd_kafka_message_t& message) {
    const std::string topic = message.rkt == nullptr ? "" : rd_kafka_topic_name(message.rkt);
    const rd_kafka_resp_err_t code = message.err;
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC) {
        note_topic_trouble(topic, "kafka_topic_missing: topic '" + topic + "' does not exist");
        return;
    }
    if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
        note_topic_trouble(topic, "kafka_not_authorised: topic '" + topic + "'");
        return;
    }
    state_->client_trouble =
        kafka::failure_of(code, topic.empty() ? "consumer" : "topic " + topic).what();
    state_->client_trouble_at = Clock::now();
}

// librdkafka says it again with each look at the topics.
void GroupConsumer::note_topic_trouble(const std::string& topic, const std::string& why) {
    std::string& known = state_->topic_troubles[topic];
    if (known == why) return;
    known = why;
    log(LogLevel::kWarn, "consumers", "topic can't be read", {{"topic", topic}, {"why", why}});
}

}  // namespace millrace
