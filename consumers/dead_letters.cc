#include "consumers/dead_letters.h"

#include <algorithm>

#include "consumers/letter_copy.h"
#include "core/uuid.h"
#include "schema/base64.h"
#include "schema/plain_text.h"
#include "schema/raw_headers.h"
#include "schema/topic_name.h"

namespace millrace {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTimeMost{253'402'300'799'000};  // The end of the year 9999.

constexpr std::string_view kParkedKeys = R"(
    SELECT key
    FROM millrace.parked_keys
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4)";

constexpr std::string_view kInsertLetters = R"(
    WITH made AS (
        INSERT INTO millrace.dead_letters
            (projection, version, topic, partition, record_offset, record_time, key, value, headers,
             event_id, event_type, parks, class, reason, sqlstate, constraint_name, statement,
             error, attempts)
        SELECT $1, $2, $3, $4, b.*
        FROM unnest($7::bigint[], $8::timestamptz[], $9::bytea[], $10::bytea[], $11::json[],
                    $12::uuid[], $13::text[], $14::boolean[], $15::text[], $16::text[],
                    $17::text[], $18::text[], $19::text[], $20::text[], $21::integer[]) AS b
        ON CONFLICT DO NOTHING
        RETURNING 1)
    SELECT millrace.count_set_aside($1, $2, $3, $4, (SELECT count(*) FROM made), 0, $5, $6))";

constexpr std::string_view kInsertParked = R"(
    WITH made AS (
        INSERT INTO millrace.parked_events
            (projection, version, topic, partition, record_offset, record_time, key, value, headers)
        SELECT $1, $2, $3, $4, b.*
        FROM unnest($7::bigint[], $8::timestamptz[], $9::bytea[], $10::bytea[], $11::json[]) AS b
        ON CONFLICT DO NOTHING
        RETURNING 1)
    SELECT millrace.count_set_aside($1, $2, $3, $4, 0, (SELECT count(*) FROM made), $5, $6))";

constexpr std::string_view kInsertKeys = R"(
    INSERT INTO millrace.parked_keys (projection, version, topic, partition, key)
    SELECT DISTINCT $1, $2, $3, $4::integer, b.key
    FROM unnest($5::bytea[]) AS b(key)
    ON CONFLICT DO NOTHING)";

constexpr std::string_view kPublishCopies =
    "SELECT count(*) FROM millrace.publish_many($1, $2, $3, NULL, $4, NULL, NULL, $5, $6)";

void add_text_or_null(pg::ArrayBuilder& array, const std::string& text) {
    if (text.empty()) {
        array.add_null();
    } else {
        array.add_bytes(as_plain_text(text));
    }
}

// The columns that letters and parked events have in common.
struct RecordArrays {
    pg::ArrayBuilder offsets{pg::Type::kInt8};
    pg::ArrayBuilder times{pg::Type::kTimestamptz};
    pg::ArrayBuilder keys{pg::Type::kBytea};
    pg::ArrayBuilder values{pg::Type::kBytea};
    pg::ArrayBuilder headers{pg::Type::kJson};

    void add(const Event& event) {
        offsets.add_int8(event.offset);
        // Kafka takes any number for a time, PostgreSQL does not.
        times.add_int8(pg::timestamp_of(
            std::clamp<milliseconds>(event.timestamp, milliseconds(0), kTimeMost)));
        keys.add_optional_bytes(event.key);
        values.add_optional_bytes(event.payload);
        headers.add_bytes(encode_headers(event.headers));
    }
    void bind(pg::Params& params) {
        params.array(offsets).array(times).array(keys).array(values).array(headers);
    }
};

// The columns that only letters have.
struct LetterArrays {
    pg::ArrayBuilder ids{pg::Type::kUuid};
    pg::ArrayBuilder types{pg::Type::kText};
    pg::ArrayBuilder parks{pg::Type::kBool};
    pg::ArrayBuilder classes{pg::Type::kText};
    pg::ArrayBuilder reasons{pg::Type::kText};
    pg::ArrayBuilder sqlstates{pg::Type::kText};
    pg::ArrayBuilder constraints{pg::Type::kText};
    pg::ArrayBuilder statements{pg::Type::kText};
    pg::ArrayBuilder errors{pg::Type::kText};
    pg::ArrayBuilder attempts{pg::Type::kInt4};

    void add(const Event& event, const DeadLetter& letter) {
        ids.add_optional_uuid(Uuid::parse(event.event_id));
        types.add_bytes(as_plain_text(event.type));
        parks.add_bool(letter.parks);
        const Cause& cause = letter.cause;
        classes.add_bytes(name_of(cause.failure_class));
        reasons.add_bytes(cause.reason);
        add_text_or_null(sqlstates, cause.sqlstate);
        add_text_or_null(constraints, cause.constraint);
        add_text_or_null(statements, cause.statement);
        errors.add_bytes(as_plain_text(cause.error));
        attempts.add_int4(cause.attempt_count);
    }
    void bind(pg::Params& params) {
        params.array(ids).array(types).array(parks).array(classes).array(reasons);
        params.array(sqlstates).array(constraints).array(statements).array(errors).array(attempts);
    }
};

std::string key_text(const Event& event) {
    return is_plain_text(*event.key) ? std::string(*event.key) : encode_base64(*event.key);
}

}  // namespace

KeySet read_parked_keys(pg::Session& session, const ProjectionName& projection,
                        const TopicPartition& where) {
    const pg::Result rows = session.execute_repeated(kParkedKeys, place_of(projection, where));
    KeySet keys;
    keys.reserve(static_cast<size_t>(rows.row_count()));
    for (int row = 0; row < rows.row_count(); ++row) keys.emplace(rows.bytes(row, 0));
    return keys;
}

void DeadLetters::queue(pg::Pipeline& pipeline, const RecordsSetAside& records) {
    if (!records.letters.empty()) queue_letters(pipeline, records);
    if (!records.parked.empty()) queue_parked(pipeline, records);
}

void DeadLetters::queue_letters(pg::Pipeline& pipeline, const RecordsSetAside& records) {
    RecordArrays as_they_were;
    LetterArrays causes;
    pg::ArrayBuilder new_keys{pg::Type::kBytea};
    for (const DeadLetter& letter : records.letters) {
        records.fill(letter.index, event_);
        as_they_were.add(event_);
        if (letter.parks) new_keys.add_bytes(*event_.key);
        // Only now: an envelope gives the event other headers and another payload.
        parser_.parse(event_);
        causes.add(event_, letter);
    }
    pg::Params params = place_and_caps(records.where);
    as_they_were.bind(params);
    causes.bind(params);
    pipeline.queue(kInsertLetters, params);
    if (new_keys.size() > 0) {
        pipeline.queue(kInsertKeys, place_of(projection_, records.where).array(new_keys));
    }
}

void DeadLetters::queue_parked(pg::Pipeline& pipeline, const RecordsSetAside& records) {
    RecordArrays as_they_were;
    for (const size_t index : records.parked) {
        records.fill(index, event_);
        as_they_were.add(event_);
    }
    pg::Params params = place_and_caps(records.where);
    as_they_were.bind(params);
    pipeline.queue(kInsertParked, params);
}

void DeadLetters::queue_copies(pg::Pipeline& pipeline, const RecordsSetAside& records) {
    if (records.letters.empty() || !is_copied(records.where)) return;
    pg::ArrayBuilder topics{pg::Type::kText};
    pg::ArrayBuilder keys{pg::Type::kText};
    pg::ArrayBuilder types{pg::Type::kText};
    pg::ArrayBuilder headers{pg::Type::kJson};
    pg::ArrayBuilder values{pg::Type::kBytea};
    pg::ArrayBuilder ids{pg::Type::kUuid};
    for (const DeadLetter& letter : records.letters) {
        records.fill(letter.index, event_);
        topics.add_bytes(letter_topic(records.where.topic, projection_.name));
        keys.add_optional_bytes(event_.key ? std::optional(key_text(event_)) : std::nullopt);
        headers.add_bytes(letter_copy_headers(projection_, event_, letter.cause));
        values.add_optional_bytes(event_.payload);
        ids.add_uuid(letter_copy_id(projection_, event_));
        parser_.parse(event_);
        types.add_bytes(as_plain_text(event_.type));
    }
    pg::Params params;
    pipeline.queue(kPublishCopies, params.array(topics).array(keys).array(types).array(headers)
                                       .array(values).array(ids));
}

pg::Params DeadLetters::place_and_caps(const TopicPartition& where) const {
    pg::Params params = place_of(projection_, where);
    params.int8(options_.letter_count_max).int8(options_.parked_count_max);
    return params;
}

// What comes from a dead-letter topic would go round and round.
bool DeadLetters::is_copied(const TopicPartition& where) const {
    return options_.copies_to_kafka && !is_dead_letter_topic(where.topic);
}

}  // namespace millrace
