#include "relay/topic_scan.h"

#include <numeric>
#include <optional>
#include <set>

#include "core/kafka/admin.h"
#include "core/kafka/handles.h"
#include "schema/event_parser.h"

namespace millrace {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRequestMilliseconds = 10'000;
constexpr int kPollMilliseconds = 100;
constexpr std::chrono::seconds kSilenceMax{30};
constexpr std::chrono::seconds kProgressEvery{2};

kafka::Properties scan_properties() {
    return {{"group.id", "millrace-scan"},  // Required by librdkafka; no group is ever joined.
            {"isolation.level", "read_committed"},
            {"enable.auto.commit", "false"},
            {"enable.auto.offset.store", "false"},
            {"enable.partition.eof", "true"},
            {"auto.offset.reset", "error"},
            {"check.crcs", "true"}};
}

// The id that the relay gave to it, if any.
std::optional<Uuid> event_of(const rd_kafka_message_t& message, EventParser& parser, Event& event) {
    event.headers.clear();
    event.payload.reset();
    if (message.payload != nullptr) {
        event.payload =
            std::string_view(static_cast<const char*>(message.payload), message.len);
    }
    rd_kafka_headers_t* headers = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    // The relay's own stands first; a row may have one of that name, too.
    if (rd_kafka_message_headers(&message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
        rd_kafka_header_get(headers, 0, "id", &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        event.headers.push_back(
            {.name = "id", .value = std::string_view(static_cast<const char*>(value), size)});
    }
    parser.parse(event);
    return Uuid::parse(event.event_id);
}

}  // namespace

TopicScan::TopicScan(const kafka::ClientOptions& options, kafka::Reaper& reaper)
    : client_(kafka::make_client(RD_KAFKA_CONSUMER, kafka::make_conf(options, scan_properties())),
              kafka::Bury{&reaper, nullptr}) {
    rd_kafka_poll_set_consumer(client_.get());
}

void TopicScan::run(const std::vector<std::string>& topics, std::chrono::milliseconds since,
                    const std::function<void(const Uuid&)>& on_event,
                    const std::function<void(const Progress&)>& on_progress) {
    for (const std::string& topic : topics) {
        // One that does not exist holds nothing.
        if (const auto count = kafka::Admin(client_.get()).partition_count(topic)) {
            run_one(topic, *count, since, on_event, on_progress);
        }
    }
}

void TopicScan::run_one(const std::string& topic, int32_t partition_count,
                        std::chrono::milliseconds since,
                        const std::function<void(const Uuid&)>& on_event,
                        const std::function<void(const Progress&)>& on_progress) {
    std::vector<int32_t> partitions(static_cast<size_t>(partition_count));
    std::iota(partitions.begin(), partitions.end(), 0);
    const auto ends = kafka::Admin(client_.get()).last_stable_offsets(topic, partitions);
    if (ends.size() != partitions.size()) {
        throw transient("kafka_unreachable", "no broker tells the end of all partitions of " + topic);
    }
    const kafka::Partitions starts(rd_kafka_topic_partition_list_new(partition_count));
    for (const int32_t partition : partitions) {
        rd_kafka_topic_partition_list_add(starts.get(), topic.c_str(), partition)->offset =
            since.count();
    }
    const rd_kafka_resp_err_t asked =
        rd_kafka_offsets_for_times(client_.get(), starts.get(), kRequestMilliseconds);
    if (asked != RD_KAFKA_RESP_ERR_NO_ERROR) throw kafka::failure_of(asked, "offsets of " + topic);

    Progress progress{.topic = topic};
    std::map<int32_t, int64_t> left;  // The end of each partition that is being read.
    const kafka::Partitions assigned(rd_kafka_topic_partition_list_new(partition_count));
    for (int i = 0; i < starts->cnt; ++i) {
        const rd_kafka_topic_partition_t& start = starts->elems[i];
        if (start.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            throw kafka::failure_of(start.err, "offsets of " + topic);
        }
        const int64_t end = ends.at(start.partition);
        // A negative one: nothing is that young.
        if (start.offset < 0 || start.offset >= end) continue;
        rd_kafka_topic_partition_list_add(assigned.get(), topic.c_str(), start.partition)->offset =
            start.offset;
        left.emplace(start.partition, end);
        progress.total_count += end - start.offset;
    }
    const rd_kafka_resp_err_t assigning = rd_kafka_assign(client_.get(), assigned.get());
    if (assigning != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw kafka::failure_of(assigning, "reading " + topic);
    }
    EventParser parser;
    Event event;
    Clock::time_point answered_at = Clock::now();
    Clock::time_point told_at = answered_at;
    while (!left.empty()) {
        const kafka::Message message(rd_kafka_consumer_poll(client_.get(), kPollMilliseconds));
        const Clock::time_point now = Clock::now();
        if (now - told_at >= kProgressEvery) {
            on_progress(progress);
            told_at = now;
        }
        if (!message) {
            if (now - answered_at < kSilenceMax) continue;
            throw transient("kafka_timeout", "topic " + topic + " can't be read to its end");
        }
        const auto end = left.find(message->partition);
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            answered_at = now;
            // Transaction markers have offsets, too: what is behind the last record is read.
            if (end != left.end() && message->offset >= end->second) left.erase(end);
            continue;
        }
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            if (now - answered_at < kSilenceMax) continue;
            throw kafka::failure_of(message->err, "reading " + topic);
        }
        answered_at = now;
        ++progress.read_count;
        if (const auto id = event_of(*message, parser, event)) on_event(*id);
        if (end != left.end() && message->offset + 1 >= end->second) left.erase(end);
    }
    rd_kafka_assign(client_.get(), nullptr);
}

}  // namespace millrace
