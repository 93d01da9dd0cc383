#include "schema/event_parser.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/uuid.h"
#include "schema/base64.h"

namespace millrace {

namespace {

constexpr std::string_view kEnvelopeBegin = "{\"event_id\":\"";
constexpr std::array<std::string_view, 9> kMembers{
    "event_id", "event_type", "service_id", "tenant_id",     "timestamp",
    "actor_id", "metadata",   "payload",    "payload_base64"};
constexpr unsigned kAllButPayload = 0b0'0111'1111;
constexpr unsigned kPayload = 1U << 7;
constexpr unsigned kPayloadBase64 = 1U << 8;

struct Envelope {
    std::string_view event_id;
    std::string_view event_type;
    std::optional<std::string_view> tenant;
    std::optional<std::string_view> actor;
    std::string_view payload;
    std::vector<Header> metadata;
};

[[noreturn]] void refuse() { throw simdjson::simdjson_error(simdjson::INCORRECT_TYPE); }

std::optional<std::string_view> string_or_null(simdjson::ondemand::value value) {
    if (value.is_null()) return std::nullopt;
    return std::string_view(value.get_string());
}

std::string_view trim(std::string_view text) {
    const size_t last = text.find_last_not_of(" \t\r\n");
    return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

// A value's JSON as it stands in the message.
std::string_view raw_json(simdjson::ondemand::value value) {
    switch (value.type().value()) {
        case simdjson::ondemand::json_type::object: return value.get_object().value().raw_json();
        case simdjson::ondemand::json_type::array: return value.get_array().value().raw_json();
        case simdjson::ondemand::json_type::string:
        case simdjson::ondemand::json_type::number:
        case simdjson::ondemand::json_type::boolean:
        case simdjson::ondemand::json_type::null: break;
    }
    return trim(value.raw_json_token());
}

std::string_view uuid_or_empty(std::string_view text) {
    return Uuid::parse(text) ? text : std::string_view();
}

void read_metadata(simdjson::ondemand::value member, Envelope& envelope) {
    for (simdjson::ondemand::field field : member.get_object()) {
        const std::string_view name = field.unescaped_key();
        simdjson::ondemand::value value = field.value();
        const bool is_string = value.type() == simdjson::ondemand::json_type::string;
        const std::string_view text =
            is_string ? std::string_view(value.get_string()) : raw_json(value);
        envelope.metadata.push_back({.name = name, .value = text});
    }
}

}  // namespace

// Views it gives point into its buffers, until the next call.
class EventParser::EnvelopeReader {
  public:
    // Nothing if the value is no envelope.
    std::optional<Envelope> read(std::string_view value);

  private:
    void read_member(std::string_view name, simdjson::ondemand::value member, Envelope& envelope);
    std::string_view decode(std::string_view base64);

    simdjson::ondemand::parser parser_;
    std::string padded_;
    std::string decoded_;
};

EventParser::EventParser() : envelope_reader_(std::make_unique<EnvelopeReader>()) {}
EventParser::~EventParser() = default;
EventParser::EventParser(EventParser&& other) noexcept = default;
EventParser& EventParser::operator=(EventParser&& other) noexcept = default;

void EventParser::parse(Event& event) {
    event.event_id = {};
    event.type = {};
    event.tenant.reset();
    event.actor.reset();
    for (auto header = event.headers.rbegin(); header != event.headers.rend(); ++header) {
        // From the last to the first: a row's own header of the same name stands behind ours.
        if (!header->value) continue;
        if (header->name == "id") event.event_id = uuid_or_empty(*header->value);
        if (header->name == "type") event.type = *header->value;
        if (header->name == "tenant") event.tenant = header->value;
        if (header->name == "actor") event.actor = header->value;
    }
    if (!event.payload || !event.payload->starts_with(kEnvelopeBegin)) return;

    const std::optional<Envelope> envelope = envelope_reader_->read(*event.payload);
    if (!envelope) return;
    const std::optional<std::string_view> id = find_header(event, "id");
    if (id && *id != envelope->event_id) return;
    event.event_id = uuid_or_empty(envelope->event_id);
    event.type = envelope->event_type;
    event.tenant = envelope->tenant;
    event.actor = envelope->actor;
    event.payload = envelope->payload;
    for (const Header& header : envelope->metadata) {
        if (!find_header(event, header.name)) event.headers.push_back(header);
    }
}

std::optional<Envelope> EventParser::EnvelopeReader::read(std::string_view value) {
    padded_.reserve(value.size() + simdjson::SIMDJSON_PADDING);
    padded_.assign(value);
    Envelope envelope;
    unsigned seen = 0;
    try {
        simdjson::ondemand::document document =
            parser_.iterate(padded_.data(), value.size(), padded_.capacity());
        for (simdjson::ondemand::field field : document.get_object()) {
            const std::string_view name = field.unescaped_key();
            const auto known = std::find(kMembers.begin(), kMembers.end(), name);
            if (known == kMembers.end()) return std::nullopt;
            const unsigned bit = 1U << (known - kMembers.begin());
            if ((seen & bit) != 0) return std::nullopt;
            seen |= bit;
            read_member(*known, field.value(), envelope);
        }
        // Anything but the end: something stands behind the object.
        if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) return std::nullopt;
    } catch (const simdjson::simdjson_error&) {
        return std::nullopt;
    }
    if (seen != (kAllButPayload | kPayload) && seen != (kAllButPayload | kPayloadBase64)) {
        return std::nullopt;
    }
    return envelope;
}

void EventParser::EnvelopeReader::read_member(std::string_view name,
                                              simdjson::ondemand::value member,
                                              Envelope& envelope) {
    if (name == "event_id") {
        envelope.event_id = member.get_string();
    } else if (name == "event_type") {
        envelope.event_type = member.get_string();
    } else if (name == "tenant_id") {
        envelope.tenant = string_or_null(member);
    } else if (name == "actor_id") {
        envelope.actor = string_or_null(member);
    } else if (name == "payload") {
        envelope.payload = raw_json(member);
    } else if (name == "payload_base64") {
        envelope.payload = decode(member.get_string());
    } else if (name == "metadata") {
        read_metadata(member, envelope);
    } else {
        // The key is the message's, the time is Kafka's: these two are for people.
        string_or_null(member);
    }
}

std::string_view EventParser::EnvelopeReader::decode(std::string_view base64) {
    std::optional<std::string> bytes = decode_base64(base64);
    if (!bytes) refuse();
    decoded_ = *std::move(bytes);
    return decoded_;
}

std::optional<std::string_view> find_header(const Event& event, std::string_view name) {
    for (const Header& header : event.headers) {
        if (header.name == name) return header.value;
    }
    return std::nullopt;
}

}  // namespace millrace
