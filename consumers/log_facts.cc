#include "consumers/log_facts.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "core/kafka/admin.h"
#include "core/kafka/client.h"
#include "core/kafka/handles.h"
#include "core/log.h"

namespace millrace {

namespace {

constexpr int kRequestMilliseconds = 10000;
constexpr std::chrono::seconds kEpochLimit{1};

}  // namespace

std::optional<LogTopic> LogFacts::find_topic(const std::string& topic) const {
    const std::optional<kafka::TopicFacts> facts = kafka::Admin(client_).topic_facts(topic);
    if (!facts) return std::nullopt;
    const std::optional<Uuid> id = parse_topic_id(facts->topic_id);
    if (!id) throw transient("kafka_unreachable", "topic " + topic + " has no id yet");
    return LogTopic{.id = *id, .partition_count = facts->partition_count};
}

bool LogFacts::is_compacted(const std::string& topic) const {
    try {
        const auto config = kafka::Admin(client_).topic_config(topic);
        const auto policy = config.find("cleanup.policy");
        return policy != config.end() && policy->second.find("compact") != std::string::npos;
    } catch (const Failure& failure) {
        if (failure.reason() != "kafka_not_authorised") throw;
        log(LogLevel::kWarn, "consumers", "no right to read the topic's configuration",
            {{"topic", topic}, {"then", "gaps in it are judged as if it were not compacted"}});
        return false;
    }
}

LogRange LogFacts::range(const TopicPartition& where) const {
    LogRange range;
    const rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(client_, where.topic.c_str(), where.partition,
                                         &range.start, &range.end, kRequestMilliseconds);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw kafka::failure_of(code, "offsets of " + where.text());
    }
    return range;
}

int64_t LogFacts::offset_at(const TopicPartition& where, std::chrono::milliseconds time) const {
    const kafka::Partitions list(rd_kafka_topic_partition_list_new(1));
    rd_kafka_topic_partition_t* entry =
        rd_kafka_topic_partition_list_add(list.get(), where.topic.c_str(), where.partition);
    entry->offset = time.count();
    rd_kafka_resp_err_t code =
        rd_kafka_offsets_for_times(client_, list.get(), kRequestMilliseconds);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) code = entry->err;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        throw kafka::failure_of(code, "offset by time of " + where.text());
    }
    if (entry->offset >= 0) return entry->offset;
    // The log's end is an answer, that there was none is not.
    if (entry->offset == RD_KAFKA_OFFSET_END) return range(where).end;
    throw transient("kafka_unreachable", "offset by time of " + where.text() + ": no answer");
}

std::optional<int32_t> LogFacts::leader_epoch_at(const TopicPartition& where,
                                                 int64_t offset) const {
    try {
        const kafka::LogEnd end =
            kafka::Admin(client_, kEpochLimit).last_stable_end(where.topic, where.partition);
        return end.offset >= offset ? end.leader_epoch : std::nullopt;
    } catch (const Failure& failure) {
        log(LogLevel::kDebug, "consumers", "leader epoch not told",
            {{"partition", where.text()}, {"why", failure.what()}});
        return std::nullopt;
    }
}

int64_t LogFacts::resolve(const TopicPartition& where, const StartAt& start) const {
    switch (start.kind) {
        case StartAt::Kind::kEarliest: return range(where).start;
        case StartAt::Kind::kLatest: return range(where).end;
        case StartAt::Kind::kTime: return offset_at(where, start.time);
    }
    return range(where).start;
}

std::optional<Uuid> parse_topic_id(std::string text) {
    if (text.size() != 22) return std::nullopt;
    std::replace(text.begin(), text.end(), '-', '+');
    std::replace(text.begin(), text.end(), '_', '/');
    text += "==";
    std::array<unsigned char, 18> bytes{};
    if (EVP_DecodeBlock(bytes.data(), reinterpret_cast<const unsigned char*>(text.data()),
                        static_cast<int>(text.size())) != 18) {
        return std::nullopt;
    }
    return Uuid::from_bytes(reinterpret_cast<const char*>(bytes.data()));
}

}  // namespace millrace
