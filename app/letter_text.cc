#include "app/letter_text.h"

#include "app/table.h"
#include "schema/base64.h"
#include "schema/plain_text.h"

namespace millrace {

std::string shown_text(const std::string& text) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string shown;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7F) {
            shown += c;
            continue;
        }
        shown += "\\x";
        shown += kDigits[byte >> 4];
        shown += kDigits[byte & 0x0F];
    }
    return shown;
}

std::string shown_bytes(const std::optional<std::string>& bytes) {
    if (!bytes) return "-";
    return is_plain_text(*bytes) ? shown_text(*bytes) : "base64 " + encode_base64(*bytes);
}

nlohmann::ordered_json bytes_json(const std::optional<std::string>& bytes) {
    if (!bytes) return nullptr;
    if (is_plain_text(*bytes)) return *bytes;
    return {{"base64", encode_base64(*bytes)}};
}

std::string cause_text(const LetterLine& letter) {
    return Cause{.reason = letter.reason,
                 .sqlstate = letter.sqlstate.value_or(""),
                 .constraint = letter.constraint.value_or("")}
        .text();
}

std::string advice_for(const LetterLine& letter) {
    const bool is_overtaken = !letter.parks && letter.key;
    const std::string redrive = "millrace dlq redrive --id " + std::to_string(letter.id) +
                                (is_overtaken ? " --out-of-order" : "");
    const std::string discard =
        "millrace dlq discard --id " + std::to_string(letter.id) + " --reason TEXT";
    if (letter.reason == "unparsable_event") {
        return "its columns can't be read from it, and no re-drive mends that while the projection "
               "file is the same. Give it up: " +
               discard + ". A mended event that the producer sends is applied in its turn then";
    }
    if (letter.is_quarantined) {
        return "it failed " + std::to_string(letter.redrive_count) +
               " re-drives; when its cause is mended: " + redrive + "; else: " + discard;
    }
    if (letter.sqlstate && *letter.sqlstate == "23503") {
        return "a row it points to was missing: once that is there, " + redrive;
    }
    if (letter.failure_class == "overload") {
        return "its statement took too long or too much memory: raise "
               "projections.statement_timeout or mend the statement's plan, then " +
               redrive;
    }
    return "mend the table, its constraints or triggers, then " + redrive + "; or " + discard;
}

nlohmann::ordered_json letter_json(const LetterLine& letter, const StoredRecord& record) {
    nlohmann::ordered_json headers = nlohmann::ordered_json::array();
    for (const RawHeader& header : record.headers) {
        headers.push_back({{"name", bytes_json(header.name)}, {"value", bytes_json(header.value)}});
    }
    return {{"id", letter.id},
            {"projection", letter.projection.name},
            {"version", letter.projection.version},
            {"topic", letter.where.topic},
            {"partition", letter.where.partition},
            {"offset", letter.offset},
            {"timestamp_ms", record.time.count()},
            {"event_id", letter.event_id ? Table::Cell(letter.event_id->text()) : Table::Cell()},
            {"type", letter.event_type},
            {"class", letter.failure_class},
            {"reason", letter.reason},
            {"sqlstate", cell_of(letter.sqlstate)},
            {"constraint", cell_of(letter.constraint)},
            {"statement", cell_of(letter.statement)},
            {"error", letter.error},
            {"attempts", letter.attempt_count},
            {"since", letter.since},
            {"redrives", letter.redrive_count},
            {"quarantined", letter.is_quarantined},
            {"parked", letter.parked_count},
            {"key", bytes_json(record.key)},
            {"value", bytes_json(record.value)},
            {"headers", headers}};
}

}  // namespace millrace
