#include "relay/topic_scan.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <thread>

#include "core/kafka/admin.h"
#include "core/kafka/handles.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kRequestMilliseconds = 10'000;
constexpr int kPollMilliseconds = 100;
constexpr std::chrono::seconds kSilenceMax{30};
constexpr std::chrono::seconds kProgressEvery{2};
// One answer that a topic does not exist is not believed: a broker that began a moment ago knows of
// none.
constexpr std::chrono::seconds kMissingFor{10};

// Records that can't be read are passed over by librdkafka, and must not count as not there.
constexpr std::array kDamage{RD_KAFKA_RESP_ERR__BAD_MSG, RD_KAFKA_RESP_ERR__BAD_COMPRESSION,
                             RD_KAFKA_RESP_ERR_INVALID_MSG, RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET};

kafka::Properties scan_properties() {
    return {{"group.id", "millrace-scan"},  // Required by librdkafka; no group is ever joined.
            {"isolation.level", "read_committed"},
            {"enable.auto.commit", "false"},
            {"enable.auto.offset.store", "false"},
            {"enable.partition.eof", "true"},
            {"auto.offset.reset", "error"},
            {"check.crcs", "true"}};
}

std::string_view view_of(const void* value, size_t size) {
    return {static_cast<const char*>(value), size};
}

}  // namespace

TopicScan::TopicScan(const kafka::ClientOptions& options, std::string sequence_start,
                     kafka::Reaper& reaper)
    : client_(kafka::make_client(RD_KAFKA_CONSUMER, kafka::make_conf(options, scan_properties())),
              kafka::Bury{&reaper, nullptr}),
      sequence_start_(std::move(sequence_start)) {
    rd_kafka_poll_set_consumer(client_.get());
}

std::vector<std::string> TopicScan::run(const std::vector<std::string>& topics,
                                        milliseconds since, const OnEvent& on_event,
                                        const OnProgress& on_progress) {
    std::vector<std::string> remarks;
    for (const std::string& topic : topics) {
        const std::optional<int32_t> count = partition_count(topic);
        if (!count) {
            remarks.push_back("topic " + topic + " does not exist, so nothing of it is published");
            continue;
        }
        const auto config = kafka::Admin(client_.get()).topic_config(topic);
        const auto value = [&config](const std::string& name) {
            const auto found = config.find(name);
            return found == config.end() ? std::string() : found->second;
        };
        if (value("cleanup.policy").find("compact") != std::string::npos) {
            remarks.push_back("topic " + topic +
                              " is compacted: an event that a later one of its key replaced can't "
                              "be found, and is published again behind it");
        }
        const bool has_own_times = value("message.timestamp.type") != "LogAppendTime";
        Progress progress{.topic = topic};
        std::map<int32_t, int64_t> ends =
            assign(topic, *count, has_own_times ? since : milliseconds(0), progress.total_count);
        read_to(std::move(ends), std::move(progress), on_event, on_progress);
    }
    return remarks;
}

std::optional<int32_t> TopicScan::partition_count(const std::string& topic) {
    const Clock::time_point end = Clock::now() + kMissingFor;
    for (;;) {
        const auto count = kafka::Admin(client_.get()).partition_count(topic);
        if (count || Clock::now() >= end) return count;
        std::this_thread::sleep_for(milliseconds(500));
    }
}

std::map<int32_t, int64_t> TopicScan::assign(const std::string& topic, int32_t partition_count,
                                             milliseconds since, int64_t& offset_count) {
    std::vector<int32_t> partitions(static_cast<size_t>(partition_count));
    std::iota(partitions.begin(), partitions.end(), 0);
    kafka::Admin admin(client_.get());
    // Somebody's open transaction ends what can be read, and not what we published: what is behind
    // it is waited for (PROTOCOL 4.6).
    const auto ends = admin.high_watermarks(topic, partitions);
    const auto readable_ends = admin.last_stable_offsets(topic, partitions);
    if (ends.size() != partitions.size() || readable_ends.size() != partitions.size()) {
        throw transient("kafka_unreachable",
                        "no broker tells the end of all partitions of " + topic);
    }
    const kafka::Partitions starts(rd_kafka_topic_partition_list_new(partition_count));
    for (const int32_t partition : partitions) {
        rd_kafka_topic_partition_list_add(starts.get(), topic.c_str(), partition)->offset =
            since.count();
    }
    const rd_kafka_resp_err_t asked =
        rd_kafka_offsets_for_times(client_.get(), starts.get(), kRequestMilliseconds);
    if (asked != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(asked, "offsets of " + topic);

    std::map<int32_t, int64_t> left;
    const kafka::Partitions assigned(rd_kafka_topic_partition_list_new(partition_count));
    for (int i = 0; i < starts->cnt; ++i) {
        const rd_kafka_topic_partition_t& start = starts->elems[i];
        if (start.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            throw kafka::failure_of(start.err, "offsets of " + topic);
        }
        // A negative one: nothing that can be read yet is that young.
        const int64_t from =
            start.offset >= 0 ? start.offset : readable_ends.at(start.partition);
        const int64_t end = ends.at(start.partition);
        if (from >= end) continue;
        rd_kafka_topic_partition_list_add(assigned.get(), topic.c_str(), start.partition)->offset =
            from;
        left.emplace(start.partition, end);
        offset_count += end - from;
    }
    const rd_kafka_resp_err_t assigning = rd_kafka_assign(client_.get(), assigned.get());
    if (assigning != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw kafka::failure_of(assigning, "reading " + topic);
    }
    return left;
}

void TopicScan::read_to(std::map<int32_t, int64_t> ends, Progress progress,
                        const OnEvent& on_event, const OnProgress& on_progress) {
    Clock::time_point moved_at = Clock::now();
    Clock::time_point told_at = moved_at;
    while (!ends.empty()) {
        const kafka::Message message(rd_kafka_consumer_poll(client_.get(), kPollMilliseconds));
        const Clock::time_point now = Clock::now();
        if (now - told_at >= kProgressEvery) {
            on_progress(progress);
            told_at = now;
        }
        if (!message || message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            if (message) {
                const auto end = ends.find(message->partition);
                // Transaction markers have offsets, too: what is behind the last record is read.
                if (end != ends.end() && message->offset >= end->second) {
                    ends.erase(end);
                    moved_at = now;
                }
            }
            if (now - moved_at < kSilenceMax) continue;
            throw transient("kafka_timeout",
                            "partition " + std::to_string(ends.begin()->first) + " of " +
                                progress.topic +
                                " can't be read to its end: a transaction of somebody's is open, "
                                "or its leader is silent");
        }
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            const bool is_damage =
                std::find(kDamage.begin(), kDamage.end(), message->err) != kDamage.end();
            if (!is_damage && now - moved_at < kSilenceMax) continue;
            throw kafka::failure_of(message->err, "reading " + progress.topic);
        }
        moved_at = now;
        ++progress.read_count;
        if (const auto event = event_of(*message)) on_event(*event);
        const auto end = ends.find(message->partition);
        if (end != ends.end() && message->offset + 1 >= end->second) ends.erase(end);
    }
    rd_kafka_assign(client_.get(), nullptr);
}

std::optional<PublishedEvent> TopicScan::event_of(const rd_kafka_message_t& message) const {
    rd_kafka_headers_t* headers = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return std::nullopt;
    }
    // The relay's own stands last; a row may have one of that name, too.
    if (rd_kafka_header_get_last(headers, "millrace-seq", &value, &size) !=
            RD_KAFKA_RESP_ERR_NO_ERROR ||
        value == nullptr || !view_of(value, size).starts_with(sequence_start_)) {
        return std::nullopt;
    }
    // And its own id first.
    if (rd_kafka_header_get(headers, 0, "id", &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        value == nullptr) {
        return std::nullopt;
    }
    const std::optional<Uuid> id = Uuid::parse(view_of(value, size));
    if (!id) return std::nullopt;
    rd_kafka_timestamp_type_t type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    const milliseconds time(rd_kafka_message_timestamp(&message, &type));
    return PublishedEvent{
        .topic = rd_kafka_topic_name(message.rkt),
        .event_id = *id,
        .created_at =
            type == RD_KAFKA_TIMESTAMP_CREATE_TIME ? std::optional(time) : std::nullopt};
}

}  // namespace millrace
