#pragma once

#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "schema/event.h"

namespace millrace {

// Reads a message in either of the formats that the relay writes:
//
//   message  = payload | envelope
//   payload  = any bytes; the event's facts stand in the headers id, type, tenant, actor
//   envelope = a JSON object that begins with the bytes {"event_id":" and has exactly the members
//              event_id, event_type, service_id, tenant_id, timestamp, actor_id, metadata and one
// of
//              payload and payload_base64, each once; if the message has a header id, it is equal
// to
//              event_id
//
// Whatever is no envelope by this rule is a payload, so each message has one reading: a payload
// that merely resembles an envelope lacks the id that the relay gave to its own message. A value
// that is null is a tombstone in both. Messages of other producers, without our headers, are read
// the same way; what they do not say is empty. Never throws for what a message holds. Keeps
// simdjson's buffers: one per loop, not thread-safe.
class EventParser {
  public:
    // Completes an event that holds what the message has: place, key, timestamp, headers, and its
    // value as payload. The views it adds are valid until the next call.
    void parse(Event& event);

  private:
    struct Envelope {
        std::string_view event_id;
        std::string_view event_type;
        std::optional<std::string_view> tenant;
        std::optional<std::string_view> actor;
        std::string_view payload;
        std::vector<Header> metadata;
    };

    // Nothing if the value is no envelope.
    std::optional<Envelope> read_envelope(std::string_view value);
    void read_member(std::string_view name, simdjson::ondemand::value member, Envelope& envelope);
    void read_metadata(simdjson::ondemand::value member, Envelope& envelope);
    std::string_view decode_base64(std::string_view text);

    simdjson::ondemand::parser parser_;
    std::string padded_;
    std::string decoded_;
};

// The value of the first header of that name.
std::optional<std::string_view> find_header(const Event& event, std::string_view name);

}  // namespace millrace
