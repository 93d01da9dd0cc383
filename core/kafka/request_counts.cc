#include "core/kafka/request_counts.h"

#include "core/check.h"

namespace millrace::kafka {

void RequestCounts::intercept(rd_kafka_conf_t* conf, RequestCounts& counts) {
    const rd_kafka_resp_err_t added =
        rd_kafka_conf_interceptor_add_on_new(conf, "millrace", on_new, &counts);
    MILLRACE_CHECK(added == RD_KAFKA_RESP_ERR_NO_ERROR, "an interceptor can be added");
}

int64_t RequestCounts::end_txn_sent() const { return counts_[kEndTxn].sent.load(); }

bool RequestCounts::has_trouble() const {
    for (const Count& count : counts_) {
        if (count.failed.load() > 0) return true;
        if (count.sent.load() > count.answered.load()) return true;
    }
    return false;
}

// Api keys of the Kafka protocol: https://kafka.apache.org/protocol#protocol_api_keys.
int RequestCounts::kind_of(int16_t api_key) {
    switch (api_key) {
        case 0: return kProduce;
        case 22: return kInitProducerId;
        case 24: return kAddPartitionsToTxn;
        case 26: return kEndTxn;
        default: return -1;
    }
}

rd_kafka_resp_err_t RequestCounts::on_new(rd_kafka_t* client, const rd_kafka_conf_t* /*conf*/,
                                          void* opaque, char* /*error*/,
                                          size_t /*error_size*/) noexcept {
    rd_kafka_resp_err_t added =
        rd_kafka_interceptor_add_on_request_sent(client, "millrace", on_request, opaque);
    if (added != RD_KAFKA_RESP_ERR_NO_ERROR) return added;
    return rd_kafka_interceptor_add_on_response_received(client, "millrace", on_response, opaque);
}

rd_kafka_resp_err_t RequestCounts::on_request(rd_kafka_t* /*client*/, int /*socket*/,
                                              const char* /*broker*/, int32_t /*broker_id*/,
                                              int16_t api_key, int16_t /*api_version*/,
                                              int32_t /*correlation_id*/, size_t /*size*/,
                                              void* opaque) noexcept {
    const int kind = kind_of(api_key);
    if (kind >= 0) ++static_cast<RequestCounts*>(opaque)->counts_[static_cast<size_t>(kind)].sent;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

rd_kafka_resp_err_t RequestCounts::on_response(rd_kafka_t* /*client*/, int /*socket*/,
                                               const char* /*broker*/, int32_t /*broker_id*/,
                                               int16_t api_key, int16_t /*api_version*/,
                                               int32_t /*correlation_id*/, size_t /*size*/,
                                               int64_t /*rtt*/, rd_kafka_resp_err_t error,
                                               void* opaque) noexcept {
    const int kind = kind_of(api_key);
    if (kind < 0) return RD_KAFKA_RESP_ERR_NO_ERROR;
    Count& count = static_cast<RequestCounts*>(opaque)->counts_[static_cast<size_t>(kind)];
    ++(error == RD_KAFKA_RESP_ERR_NO_ERROR ? count.answered : count.failed);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

}  // namespace millrace::kafka
