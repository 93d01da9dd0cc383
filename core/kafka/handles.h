#pragma once

#include <librdkafka/rdkafka.h>

#include <memory>

namespace millrace::kafka {

template <typename Thing, auto destroy>
struct Destroy {
    void operator()(Thing* thing) const { destroy(thing); }
};

// What librdkafka hands out and wants back. Must be gone before its client is.
template <typename Thing, auto destroy>
using Handle = std::unique_ptr<Thing, Destroy<Thing, destroy>>;

using Error = Handle<rd_kafka_error_t, rd_kafka_error_destroy>;
using Event = Handle<rd_kafka_event_t, rd_kafka_event_destroy>;
using Message = Handle<rd_kafka_message_t, rd_kafka_message_destroy>;
using Metadata = Handle<const rd_kafka_metadata_t, rd_kafka_metadata_destroy>;
using Partitions = Handle<rd_kafka_topic_partition_list_t, rd_kafka_topic_partition_list_destroy>;
using Queue = Handle<rd_kafka_queue_t, rd_kafka_queue_destroy>;
using Topic = Handle<rd_kafka_topic_t, rd_kafka_topic_destroy>;
using Topics = Handle<rd_kafka_TopicCollection_t, rd_kafka_TopicCollection_destroy>;

}  // namespace millrace::kafka
