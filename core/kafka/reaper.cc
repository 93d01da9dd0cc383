#include "core/kafka/reaper.h"

#include <tuple>

namespace millrace::kafka {

Reaper::Reaper() : thread_([this](std::stop_token stop) { run(std::move(stop)); }) {}

void Reaper::bury(rd_kafka_t* client, std::shared_ptr<void> state) {
    {
        const std::lock_guard lock(mutex_);
        waiting_.emplace_back(client, std::move(state));
    }
    changed_.notify_one();
}

void Reaper::run(std::stop_token stop) {
    for (;;) {
        rd_kafka_t* client = nullptr;
        std::shared_ptr<void> state;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, stop, [this] { return !waiting_.empty(); });
            if (waiting_.empty()) return;
            std::tie(client, state) = std::move(waiting_.front());
            waiting_.pop_front();
        }
        if (rd_kafka_type(client) == RD_KAFKA_PRODUCER) {
            rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
            rd_kafka_destroy(client);
        } else {
            rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        }
    }
}

}  // namespace millrace::kafka
