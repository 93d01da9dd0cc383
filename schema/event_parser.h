#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "schema/event.h"

namespace millrace {

// Reads a message in either of the formats that the relay writes:
//
//   message  = payload | envelope
//   payload  = any bytes; the event's facts stand in the headers id, type, tenant, actor
//   envelope = a JSON object that begins with the bytes {"event_id":" and has exactly the members
//              event_id, event_type, service_id, tenant_id, timestamp, actor_id, metadata and
//              one of payload and payload_base64, each once; if the message has a header id,
//              it is equal to event_id
//
// Whatever is no envelope by this rule is a payload, so each message has one reading: a payload
// that merely resembles an envelope lacks the id that the relay gave to its own message. A value
// that is null is a tombstone in both. Messages of other producers, without our headers, are read
// the same way; what they do not say is empty. Never throws for what a message holds. Keeps
// buffers: one per loop, not thread-safe.
class EventParser {
  public:
    EventParser();
    ~EventParser();
    EventParser(EventParser&& other) noexcept;
    EventParser& operator=(EventParser&& other) noexcept;

    // Completes an event that holds what the message has: place, key, timestamp, headers, and its
    // value as payload. The views it adds are valid until the next call.
    void parse(Event& event);

  private:
    class EnvelopeReader;

    std::unique_ptr<EnvelopeReader> envelope_reader_;
};

// The value of the first header of that name.
std::optional<std::string_view> find_header(const Event& event, std::string_view name);

}  // namespace millrace
