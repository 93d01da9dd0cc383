#include "core/kafka/producer.h"

#include <array>
#include <tuple>

#include "core/kafka/handles.h"

namespace millrace::kafka {

namespace {

constexpr int kFlushSliceMs = 100;
constexpr std::chrono::milliseconds kCauseWait(500);

// A record that was given up because its transaction had failed.
bool is_purge(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR__PURGE_QUEUE || code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
}

// Why a transaction that can only be aborted failed: librdkafka refuses to begin another with that
// error. In one that has not failed this changes nothing either.
Error cause_of_failure(rd_kafka_t* client) { return Error(rd_kafka_begin_transaction(client)); }

bool is_topic_refused(const Error& cause) {
    return cause != nullptr &&
           rd_kafka_error_code(cause.get()) == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
}

// Settling decides what a code can't, so retriable, abortable and fatal are all one: unknown.
void throw_if(rd_kafka_error_t* raw, const char* what) {
    if (raw == nullptr) return;
    const Error error(raw);
    const std::string detail = std::string(what) + ": " + rd_kafka_error_string(raw) + " (" +
                               rd_kafka_error_name(raw) + ")";
    switch (static_cast<int>(rd_kafka_error_code(raw))) {
        case RD_KAFKA_RESP_ERR__FENCED:
        case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
        case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
            throw lost("kafka_fenced", detail);
        case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
            throw unknown("kafka_not_authorised", detail);
        case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
            throw unknown("topic_not_authorised", detail);
        default:
            throw unknown("kafka_transaction", detail);
    }
}

Properties fixed_properties(const std::string& transactional_id) {
    const auto timeout = std::chrono::milliseconds(kTransactionTimeout).count();
    return {
        {"transactional.id", transactional_id},
        {"transaction.timeout.ms", std::to_string(timeout)},
        {"enable.idempotence", "true"},
        {"acks", "all"},
    };
}

// What a user may set otherwise.
ClientOptions with_defaults(ClientOptions options) {
    for (const auto& [name, value] : Properties{
             {"linger.ms", "0"},
             {"batch.num.messages", "10000"},
             {"queue.buffering.max.messages", "1000000"},
             {"queue.buffering.max.kbytes", "1048576"},
             {"compression.codec", "lz4"},
             // The topic's own limit decides what is too large, not the client's default.
             {"message.max.bytes", "67108864"},
         }) {
        options.properties.emplace(name, value);
    }
    return options;
}

}  // namespace

Producer::Producer(const ClientOptions& options, const std::string& transactional_id,
                   Reaper& reaper)
    : state_(std::make_shared<State>()), client_(nullptr, Bury{&reaper, state_}) {
    Conf conf = make_conf(with_defaults(options), fixed_properties(transactional_id));
    RequestCounts::intercept(conf.get(), state_->counts);
    // Without a delivery report callback each commit waits in slices of 10 ms.
    rd_kafka_conf_set_dr_msg_cb(conf.get(), on_delivery);
    rd_kafka_conf_set_opaque(conf.get(), state_.get());
    client_.reset(make_client(RD_KAFKA_PRODUCER, std::move(conf)));
}

Producer::~Producer() {
    for (const auto& [name, topic] : topics_) rd_kafka_topic_destroy(topic);
}

void Producer::init(std::chrono::milliseconds timeout) {
    throw_if(rd_kafka_init_transactions(client_.get(), static_cast<int>(timeout.count())),
             "init_transactions");
}

void Producer::warm_up(const std::vector<std::string>& topics, std::chrono::milliseconds limit) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (const std::string& topic : topics) {
        const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (rest.count() <= 0) return;
        const rd_kafka_metadata_t* metadata = nullptr;
        const rd_kafka_resp_err_t code =
            rd_kafka_metadata(client_.get(), /*all_topics=*/0, topic_handle(topic), &metadata,
                              static_cast<int>(rest.count()));
        // A broker has answered for others; it is the limit that cut this question short.
        if (code == RD_KAFKA_RESP_ERR__TIMED_OUT && &topic != &topics.front()) return;
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) throw failure_of(code, "metadata of " + topic);
        rd_kafka_metadata_destroy(metadata);
    }
}

void Producer::begin() {
    state_->delivery_error.reset();
    throw_if(rd_kafka_begin_transaction(client_.get()), "begin_transaction");
    ++transaction_count_;
}

void Producer::produce(const Record& record) {
    // Freed unless librdkafka takes them.
    std::unique_ptr<rd_kafka_headers_t, decltype(&rd_kafka_headers_destroy)> headers(
        record.headers, &rd_kafka_headers_destroy);
    std::array<rd_kafka_vu_t, 7> fields{};
    size_t count = 0;
    const auto add = [&](rd_kafka_vtype_t type) -> rd_kafka_vu_t& {
        fields[count].vtype = type;
        return fields[count++];
    };
    add(RD_KAFKA_VTYPE_RKT).u.rkt = topic_handle(record.topic);
    add(RD_KAFKA_VTYPE_PARTITION).u.i32 = record.partition;
    add(RD_KAFKA_VTYPE_MSGFLAGS).u.i = RD_KAFKA_MSG_F_COPY;
    add(RD_KAFKA_VTYPE_TIMESTAMP).u.i64 = record.timestamp.count();
    // librdkafka takes the bytes as not its own to change; its interface only lacks the const. An
    // empty value is not a null one, so it needs an address.
    const auto memory = [](std::string_view bytes) -> void* {
        return const_cast<char*>(bytes.data() != nullptr ? bytes.data() : "");
    };
    if (record.key) {
        auto& field = add(RD_KAFKA_VTYPE_KEY);
        field.u.mem.ptr = memory(*record.key);
        field.u.mem.size = record.key->size();
    }
    if (record.value) {
        auto& field = add(RD_KAFKA_VTYPE_VALUE);
        field.u.mem.ptr = memory(*record.value);
        field.u.mem.size = record.value->size();
    }
    if (headers) add(RD_KAFKA_VTYPE_HEADERS).u.headers = headers.get();

    Error error(rd_kafka_produceva(client_.get(), fields.data(), count));
    // A claim may be larger than what the client takes at a time. A record that an empty queue does
    // not take never fits.
    bool was_empty = false;
    const auto deadline = std::chrono::steady_clock::now() + kTransactionTimeout;
    while (error && rd_kafka_error_code(error.get()) == RD_KAFKA_RESP_ERR__QUEUE_FULL &&
           !state_->delivery_error && !was_empty && std::chrono::steady_clock::now() < deadline) {
        rd_kafka_poll(client_.get(), kFlushSliceMs);
        was_empty = rd_kafka_outq_len(client_.get()) == 0;
        error.reset(rd_kafka_produceva(client_.get(), fields.data(), count));
    }
    if (!error) {
        std::ignore = headers.release();
        return;
    }
    const rd_kafka_resp_err_t code = rd_kafka_error_code(error.get());
    const bool never_fits = was_empty && code == RD_KAFKA_RESP_ERR__QUEUE_FULL;
    if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || never_fits) {
        state_->delivery_error = DeliveryError{RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
                                               std::string(record.topic), record.partition};
    }
    if (code == RD_KAFKA_RESP_ERR__STATE) await_cause();
    throw_if_refused();
    throw_if(error.release(), "produce");
}

// The client ends the transaction, and purges what waits, a moment before it gives the report of
// the record that was refused.
void Producer::await_cause() {
    const auto deadline = std::chrono::steady_clock::now() + kCauseWait;
    while ((!state_->delivery_error || is_purge(state_->delivery_error->code)) &&
           rd_kafka_fatal_error(client_.get(), nullptr, 0) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           // A topic that may not be written to has no report of its own: the others are purged.
           !is_topic_refused(cause_of_failure(client_.get())) &&
           std::chrono::steady_clock::now() < deadline) {
        rd_kafka_poll(client_.get(), 10);
    }
}

void Producer::flush() {
    // The client gives its records up after the transaction's time-out, so this only adds a margin.
    const auto limit = std::chrono::milliseconds(kTransactionTimeout) + std::chrono::seconds(2);
    const auto deadline = std::chrono::steady_clock::now() + limit;
    // Once a record is refused the others are not sent any more, and would be waited for in vain.
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    while (code == RD_KAFKA_RESP_ERR__TIMED_OUT && !state_->delivery_error &&
           std::chrono::steady_clock::now() < deadline) {
        code = rd_kafka_flush(client_.get(), kFlushSliceMs);
    }
    if (state_->delivery_error) await_cause();
    throw_if_refused();
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw unknown("kafka_transaction", std::string("flush: ") + rd_kafka_err2str(code));
    }
}

void Producer::commit() {
    Error error(rd_kafka_commit_transaction(client_.get(), -1));
    if (!error) return;
    if (state_->delivery_error) await_cause();
    throw_if_refused();
    throw_if(error.release(), "commit_transaction");
}

void Producer::abort(std::chrono::milliseconds limit) noexcept {
    const Error ignored(
        rd_kafka_abort_transaction(client_.get(), static_cast<int>(limit.count())));
}

bool Producer::is_tainted() const {
    return state_->counts.has_trouble() || state_->counts.end_txn_sent() != transaction_count_;
}

void Producer::on_delivery(rd_kafka_t* /*client*/, const rd_kafka_message_t* message,
                           void* opaque) noexcept {
    State& state = *static_cast<State*>(opaque);
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) return;
    if (state.delivery_error && !is_purge(state.delivery_error->code)) return;
    state.delivery_error = DeliveryError{message->err, rd_kafka_topic_name(message->rkt),
                                         message->partition};
}

rd_kafka_topic_t* Producer::topic_handle(std::string_view topic) {
    if (const auto known = topics_.find(topic); known != topics_.end()) return known->second;
    const std::string name(topic);
    rd_kafka_topic_t* handle = rd_kafka_topic_new(client_.get(), name.c_str(), nullptr);
    if (handle == nullptr) {
        throw poison("topic_invalid", "'" + name + "' can't be the name of a topic");
    }
    topics_.emplace(name, handle);
    return handle;
}

bool Producer::has_refused(std::string_view topic) const {
    return state_->delivery_error && state_->delivery_error->topic == topic;
}

void Producer::throw_if_refused() const {
    if (!state_->delivery_error) return;
    const DeliveryError& error = *state_->delivery_error;
    std::array<char, 512> fatal{};
    if (rd_kafka_fatal_error(client_.get(), fatal.data(), fatal.size()) ==
        RD_KAFKA_RESP_ERR__FENCED) {
        throw lost("kafka_fenced", fatal.data());
    }
    if (is_purge(error.code)) {
        Error cause = cause_of_failure(client_.get());
        if (is_topic_refused(cause)) throw_if(cause.release(), "transaction");
    }
    const std::string detail = error.topic + "-" + std::to_string(error.partition) + ": " +
                               rd_kafka_err2str(error.code) + " (" +
                               rd_kafka_err2name(error.code) + ")";
    switch (static_cast<int>(error.code)) {
        case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
            throw poison("task_too_large", detail);
        // What one record is, not how the cluster is: a null key in a compacted topic, a timestamp
        // out of the topic's range.
        case RD_KAFKA_RESP_ERR_INVALID_MSG:
        case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
        case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
        case RD_KAFKA_RESP_ERR_INVALID_RECORD:
        case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
        case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
            throw poison("task_refused", detail);
        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
            throw poison("topic_missing", detail);
        case RD_KAFKA_RESP_ERR__FENCED:
        case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
            throw lost("kafka_fenced", detail);
        case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
            throw unknown("topic_not_authorised", detail);
        default:
            throw unknown("kafka_delivery", detail);
    }
}

}  // namespace millrace::kafka
