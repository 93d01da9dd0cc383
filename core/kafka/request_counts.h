#pragma once

#include <librdkafka/rdkafka.h>

#include <array>
#include <atomic>
#include <cstdint>

namespace millrace::kafka {

// Counts the requests of one producer that can do harm when librdkafka retries them unseen: a
// delayed EndTxn can end a later transaction (PROTOCOL 3.7). Written on librdkafka's threads by
// interceptors, read by the producer's loop. Must outlive the client.
class RequestCounts {
  public:
    // Registers the interceptors; `counts` must stay alive until the client is destroyed.
    static void intercept(rd_kafka_conf_t* conf, RequestCounts& counts);

    // EndTxn requests sent since the beginning.
    int64_t end_txn_sent() const;
    // True if one of the dangerous requests failed, or was sent without an answer so far.
    bool has_trouble() const;

  private:
    enum Kind { kProduce, kInitProducerId, kAddPartitionsToTxn, kEndTxn, kKindCount };
    struct Count {
        std::atomic<int64_t> sent{0};
        std::atomic<int64_t> answered{0};
        std::atomic<int64_t> failed{0};
    };

    static int kind_of(int16_t api_key);
    static rd_kafka_resp_err_t on_new(rd_kafka_t* client, const rd_kafka_conf_t* conf, void* opaque,
                                      char* error, size_t error_size) noexcept;
    static rd_kafka_resp_err_t on_request(rd_kafka_t* client, int socket, const char* broker,
                                          int32_t broker_id, int16_t api_key, int16_t api_version,
                                          int32_t correlation_id, size_t size,
                                          void* opaque) noexcept;
    static rd_kafka_resp_err_t on_response(rd_kafka_t* client, int socket, const char* broker,
                                           int32_t broker_id, int16_t api_key, int16_t api_version,
                                           int32_t correlation_id, size_t size, int64_t rtt,
                                           rd_kafka_resp_err_t error, void* opaque) noexcept;

    std::array<Count, kKindCount> counts_;
};

}  // namespace millrace::kafka
