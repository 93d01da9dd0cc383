#pragma once

#include <string>
#include <string_view>

#include "consumers/positions.h"
#include "consumers/set_aside.h"
#include "core/uuid.h"
#include "schema/event.h"

namespace millrace {

// What a dead letter looks like on its topic.

// `<topic>.<projection>.dlq`
std::string letter_topic(std::string_view topic, std::string_view projection);

// The same for the same record, however often it is made (PROTOCOL 7.6).
Uuid letter_copy_id(const ProjectionName& projection, const Event& event);

// The task's headers: the record's own, byte for byte, then why it was set aside, three times over:
// for Kafka Connect's tools (`__connect.errors.*`), for Spring's (`kafka_dlt-*`) and by our own
// names (`millrace-dlq-*`). Sources: Kafka Connect's DeadLetterQueueReporter, and KafkaHeaders of
// Spring for Apache Kafka, whose numbers are big endian.
std::string letter_copy_headers(const ProjectionName& projection, const Event& event,
                                const Cause& cause);

}  // namespace millrace
