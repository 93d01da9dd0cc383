#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/kafka/client.h"
#include "core/kafka/producer.h"

namespace millrace::test {

// The broker that MILLRACE_TEST_KAFKA names; throws std::runtime_error when it is not set.
std::string brokers();
kafka::ClientOptions kafka_options();

// A name no other test uses, fit for a topic and for an installation.
std::string fresh_name(const std::string& stem);

void create_topic(const std::string& name, int partition_count,
                  const std::map<std::string, std::string>& config = {});
void delete_topic(const std::string& name);
void set_topic_config(const std::string& topic, const std::string& name, const std::string& value);
void add_partitions(const std::string& topic, int partition_count);
// As retention does: the partition begins at `offset` afterwards.
void delete_records(const std::string& topic, int32_t partition, int64_t offset);

// Ends the producer's open transaction; throws std::runtime_error if the broker refuses.
void abort_transaction(kafka::Producer& producer);

// All that there are.
std::set<std::string> topic_names();

// A record as a read_committed reader sees it.
struct SeenRecord {
    int32_t partition = 0;
    int64_t offset = 0;
    std::optional<std::string> key;
    std::optional<std::string> value;
    int64_t timestamp_ms = 0;
    std::map<std::string, std::string> headers;
};

// Everything committed in the topic, partition after partition, each in order of offsets. Waits
// while a transaction is open in it, at most 60 s.
std::vector<SeenRecord> read_topic(const std::string& topic);
// How many committed records a topic has, without waiting for open transactions.
size_t count_records(const std::string& topic);

// Where millrace-seq of a publisher jumps, repeats or goes back within a partition; empty if it
// never does. Counts from 1 on.
std::vector<std::string> sequence_breaks(const std::vector<SeenRecord>& records);

}  // namespace millrace::test
