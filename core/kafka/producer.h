#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/reaper.h"
#include "core/kafka/request_counts.h"

namespace millrace::kafka {

// An open transaction holds back every read_committed reader of its partitions, so it is short.
constexpr std::chrono::seconds kTransactionTimeout{15};

struct Record {
    std::string_view topic;
    int32_t partition = 0;
    std::optional<std::string_view> key;
    std::optional<std::string_view> value;
    std::chrono::milliseconds timestamp{0};  // 0: now.
    rd_kafka_headers_t* headers = nullptr;   // Ownership passes to produce().
};

// One transactional id. Not thread-safe: one loop. init() once; then for each transaction begin(),
// produce() for each record, flush(), commit(). After any Failure only abort() and destruction are
// allowed; the reaper does the rest. Blocks at most kTransactionTimeout plus the time of one
// request. Fenced is kLost `kafka_fenced`; a record that is refused for what it is, kPoison
// (`topic_missing`, `topic_invalid`, `task_too_large`, `task_refused`); everything else that is not
// a clean end, kUnknown (PROTOCOL 3.7).
class Producer {
  public:
    Producer(const ClientOptions& options, const std::string& transactional_id, Reaper& reaper);
    ~Producer();

    // Fences the predecessor and ends its open transaction (PROTOCOL 4.2).
    void init(std::chrono::milliseconds timeout);
    // Asks for the topics, so that the first transaction does not wait a second for them. Those not
    // asked for within `limit` are left to that transaction. Throws as failure_of() when no broker
    // answers.
    void warm_up(const std::vector<std::string>& topics, std::chrono::milliseconds limit);

    void begin();
    // Copies the record; waits for room, as long as the transaction may last. Throws kPoison
    // `task_too_large` when librdkafka refuses its size, and what flush() would when the broker has
    // refused one before.
    void produce(const Record& record);
    // Waits for the delivery reports of all that was produced.
    void flush();
    void commit();
    // After a refused record: asks the broker to end the transaction, so that the next init() of
    // this id does not wait half a second for that. Best effort, within `limit`; init() ends what
    // this did not, and fences a request that comes late. Only destruction is allowed afterwards.
    void abort(std::chrono::milliseconds limit) noexcept;

    // True if the record that failed this transaction was one of this topic. For use after kPoison.
    bool has_refused(std::string_view topic) const;
    // True if a request of the last transaction failed or was sent once more than needed, though
    // its end was clean: this producer must not be used again (PROTOCOL 3.7).
    bool is_tainted() const;

    rd_kafka_t* raw() const { return client_.get(); }

  private:
    // The record of this transaction that failed first, or one that was purged until that is known.
    struct DeliveryError {
        rd_kafka_resp_err_t code;
        std::string topic;
        int32_t partition;
    };

    // What callbacks write, and produce() where librdkafka itself refuses. Lives as long as the
    // client, which the reaper destroys later.
    struct State {
        RequestCounts counts;
        std::optional<DeliveryError> delivery_error;
    };

    static void on_delivery(rd_kafka_t* client, const rd_kafka_message_t* message,
                            void* opaque) noexcept;
    rd_kafka_topic_t* topic_handle(std::string_view topic);
    void await_cause();
    void throw_if_refused() const;

    std::shared_ptr<State> state_;
    Client client_;
    std::map<std::string, rd_kafka_topic_t*, std::less<>> topics_;
    int64_t transaction_count_ = 0;
};

}  // namespace millrace::kafka
