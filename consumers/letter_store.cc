#include "consumers/letter_store.h"

#include <algorithm>

#include "core/check.h"
#include "schema/plain_text.h"

namespace millrace {

namespace {

constexpr int64_t kPage = 500;

constexpr std::string_view kList = R"(
    SELECT id, projection, version, topic, partition, record_offset, key, event_type, parks, class,
           reason, sqlstate, constraint_name, statement, error, attempts,
           to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), redrives, quarantined,
           CASE WHEN parks THEN (
               SELECT count(*)
               FROM millrace.parked_events AS e
               WHERE e.projection = l.projection AND e.version = l.version AND e.topic = l.topic
                 AND e.partition = l.partition AND e.key_digest = l.key_digest)
           ELSE 0 END,
           event_id
    FROM millrace.matching_letters($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS l
    WHERE id > $11
    ORDER BY id
    LIMIT $12)";

constexpr std::string_view kCount = R"(
    SELECT count(*), coalesce(max(id), 0)
    FROM millrace.matching_letters($1, $2, $3, $4, $5, $6, $7, $8, $9, $10))";

constexpr std::string_view kSummary = R"(
    SELECT projection, reason, sqlstate, constraint_name, event_type, count(*),
           count(*) FILTER (WHERE quarantined),
           to_char(min(since) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), min(id)
    FROM millrace.matching_letters($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    GROUP BY projection, reason, sqlstate, constraint_name, event_type
    ORDER BY count(*) DESC, projection, reason, sqlstate, constraint_name, event_type)";

constexpr std::string_view kOpen = R"(
    SELECT p.projection, sum(p.letter_count)::bigint, sum(p.parked_count)::bigint,
           (SELECT count(*) FROM millrace.parked_keys AS k WHERE k.projection = p.projection),
           coalesce(extract(epoch FROM clock_timestamp() - (
               SELECT min(l.since)
               FROM millrace.dead_letters AS l
               WHERE l.projection = p.projection)), 0)::float8
    FROM millrace.positions AS p
    GROUP BY p.projection
    ORDER BY p.projection)";

constexpr std::string_view kRecords = R"(
    SELECT id, record_offset, record_time, key, value, headers::text
    FROM millrace.dead_letters
    WHERE id = ANY($1)
    ORDER BY record_offset)";

constexpr std::string_view kKeysWithoutLetter = R"(
    SELECT k.projection, k.version, k.topic, k.partition, k.key
    FROM millrace.parked_keys AS k
    WHERE ($1::text IS NULL OR k.projection = $1)
      AND ($2::bytea IS NULL OR k.key_digest = sha256($2))
      AND NOT EXISTS (
          SELECT
          FROM millrace.dead_letters AS l
          WHERE l.projection = k.projection AND l.version = k.version AND l.topic = k.topic
            AND l.partition = k.partition AND l.key_digest = k.key_digest AND l.parks)
    ORDER BY k.projection, k.version, k.topic, k.partition, k.key_digest)";

constexpr std::string_view kQueue = R"(
    SELECT id, record_offset, record_time, key, value, headers::text, found_count
    FROM (
        SELECT *, count(*) OVER () AS found_count,
               sum(coalesce(octet_length(value), 0)) OVER (
                   ORDER BY record_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               ) AS bytes_before
        FROM (
            SELECT *
            FROM (
                SELECT id, record_offset, record_time, key, value, headers
                FROM millrace.dead_letters
                WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4 AND parks
                  AND key_digest = ANY(ARRAY(SELECT sha256(k) FROM unnest($5::bytea[]) AS k))
                UNION ALL
                SELECT NULL, record_offset, record_time, key, value, headers
                FROM millrace.parked_events
                WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4
                  AND key_digest = ANY(ARRAY(SELECT sha256(k) FROM unnest($5::bytea[]) AS k))
            ) AS queued
            ORDER BY record_offset
            LIMIT $6
        ) AS front
    ) AS measured
    WHERE coalesce(bytes_before, 0) < 8388608
    ORDER BY record_offset)";

constexpr std::string_view kRemoveLetters =
    "DELETE FROM millrace.dead_letters WHERE id = ANY($1)";

constexpr std::string_view kRemoveParked = R"(
    DELETE FROM millrace.parked_events
    WHERE projection = $1 AND version = $2 AND topic = $3 AND partition = $4
      AND (key_digest, record_offset) IN (
          SELECT sha256(r.key), r.record_offset
          FROM unnest($5::bytea[], $6::bigint[]) AS r(key, record_offset)))";

constexpr std::string_view kCountRemoved =
    "SELECT millrace.count_set_aside($1, $2, $3, $4, -$5::bigint, -$6::bigint, 0, 0)";

constexpr std::string_view kNoteFailure = R"(
    UPDATE millrace.dead_letters
    SET class = $2, reason = $3, sqlstate = $4, constraint_name = $5, statement = $6, error = $7,
        attempts = attempts + 1, redrives = redrives + 1,
        quarantined = redrives + 1 >= $8
    WHERE id = $1)";

constexpr std::string_view kFreeKeys = R"(
    DELETE FROM millrace.parked_keys AS k
    WHERE k.projection = $1 AND k.version = $2 AND k.topic = $3 AND k.partition = $4
      AND k.key_digest = ANY(ARRAY(SELECT sha256(b) FROM unnest($5::bytea[]) AS b))
      AND NOT EXISTS (
          SELECT
          FROM millrace.dead_letters AS l
          WHERE l.projection = k.projection AND l.version = k.version AND l.topic = k.topic
            AND l.partition = k.partition AND l.key_digest = k.key_digest AND l.parks)
      AND NOT EXISTS (
          SELECT
          FROM millrace.parked_events AS e
          WHERE e.projection = k.projection AND e.version = k.version AND e.topic = k.topic
            AND e.partition = k.partition AND e.key_digest = k.key_digest))";

pg::Params params_of(const LetterFilter& filter) {
    pg::Params params;
    params.optional_text(filter.projection);
    if (filter.ids.empty()) {
        params.null_array(pg::Type::kInt8);
    } else {
        pg::ArrayBuilder ids(pg::Type::kInt8);
        for (const int64_t id : filter.ids) ids.add_int8(id);
        params.array(ids);
    }
    params.optional_text(filter.failure_class)
        .optional_text(filter.reason)
        .optional_text(filter.sqlstate)
        .optional_text(filter.constraint)
        .optional_bytea(filter.key)
        .optional_text(filter.type)
        .optional_text(filter.since)
        .optional_text(filter.until);
    return params;
}

pg::ArrayBuilder bytes_of(const std::vector<std::string>& keys) {
    pg::ArrayBuilder array(pg::Type::kBytea);
    for (const std::string& key : keys) array.add_bytes(key);
    return array;
}

std::vector<StoredRecord> records_of(const pg::Result& rows) {
    std::vector<StoredRecord> records;
    for (int row = 0; row < rows.row_count(); ++row) {
        StoredRecord record;
        if (!rows.is_null(row, 0)) record.letter_id = rows.integer(row, 0);
        record.offset = rows.integer(row, 1);
        record.time = pg::time_of(rows.integer(row, 2));
        record.key = rows.optional_text(row, 3);
        record.value = rows.optional_text(row, 4);
        auto headers = decode_headers(rows.bytes(row, 5));
        MILLRACE_CHECK(headers.has_value(), "headers are stored as they are read");
        record.headers = *std::move(headers);
        records.push_back(std::move(record));
    }
    return records;
}

}  // namespace

std::string LetterFilter::text() const {
    std::string text;
    const auto add = [&text](std::string_view name, const std::optional<std::string>& value) {
        if (value) text += (text.empty() ? "--" : " --") + std::string(name) + " " + *value;
    };
    add("projection", projection);
    for (const int64_t id : ids) add("id", std::to_string(id));
    add("class", failure_class);
    add("cause", reason);
    add("sqlstate", sqlstate);
    add("constraint", constraint);
    if (key) add("key", as_plain_text(*key));
    add("type", type);
    add("since", since);
    add("until", until);
    return text;
}

void StoredRecord::fill(const TopicPartition& where, Event& event) const {
    event.topic = where.topic;
    event.partition = where.partition;
    event.offset = offset;
    event.timestamp = time;
    event.key = key;
    event.payload = value;
    event.headers.clear();
    for (const RawHeader& header : headers) {
        event.headers.push_back({.name = header.name, .value = header.value});
    }
}

std::vector<LetterLine> LetterStore::list(const LetterFilter& filter, int64_t after,
                                          int64_t count_max) {
    const pg::Result rows =
        session_.execute(kList, params_of(filter).int8(after).int8(count_max));
    std::vector<LetterLine> lines;
    for (int row = 0; row < rows.row_count(); ++row) {
        LetterLine line;
        line.id = rows.integer(row, 0);
        line.projection = {rows.text(row, 1), static_cast<int32_t>(rows.integer(row, 2))};
        line.where = {rows.text(row, 3), static_cast<int32_t>(rows.integer(row, 4))};
        line.offset = rows.integer(row, 5);
        line.key = rows.optional_text(row, 6);
        line.event_type = rows.text(row, 7);
        line.parks = rows.boolean(row, 8);
        line.failure_class = rows.text(row, 9);
        line.reason = rows.text(row, 10);
        line.sqlstate = rows.optional_text(row, 11);
        line.constraint = rows.optional_text(row, 12);
        line.statement = rows.optional_text(row, 13);
        line.error = rows.text(row, 14);
        line.attempt_count = static_cast<int>(rows.integer(row, 15));
        line.since = rows.text(row, 16);
        line.redrive_count = static_cast<int>(rows.integer(row, 17));
        line.is_quarantined = rows.boolean(row, 18);
        line.parked_count = rows.integer(row, 19);
        if (!rows.is_null(row, 20)) line.event_id = rows.uuid(row, 20);
        lines.push_back(std::move(line));
    }
    return lines;
}

void LetterStore::for_each_page(const LetterFilter& filter, int64_t count_max,
                                const OnPage& on_page) {
    int64_t after = 0;
    for (int64_t left = count_max; left > 0;) {
        const std::vector<LetterLine> page = list(filter, after, std::min(left, kPage));
        if (page.empty()) return;
        on_page(page);
        after = page.back().id;
        left -= static_cast<int64_t>(page.size());
    }
}

LetterCount LetterStore::count(const LetterFilter& filter) {
    const pg::Result row = session_.execute(kCount, params_of(filter));
    return {.letter_count = row.integer(0, 0), .newest_id = row.integer(0, 1)};
}

std::vector<LetterGroup> LetterStore::summary(const LetterFilter& filter) {
    const pg::Result rows = session_.execute(kSummary, params_of(filter));
    std::vector<LetterGroup> groups;
    for (int row = 0; row < rows.row_count(); ++row) {
        groups.push_back({.projection = rows.text(row, 0),
                          .reason = rows.text(row, 1),
                          .sqlstate = rows.optional_text(row, 2),
                          .constraint = rows.optional_text(row, 3),
                          .event_type = rows.text(row, 4),
                          .letter_count = rows.integer(row, 5),
                          .quarantined_count = rows.integer(row, 6),
                          .oldest = rows.text(row, 7),
                          .example_id = rows.integer(row, 8)});
    }
    return groups;
}

std::vector<OpenLetters> LetterStore::open() {
    const pg::Result rows = session_.execute_repeated(kOpen);
    std::vector<OpenLetters> open;
    for (int row = 0; row < rows.row_count(); ++row) {
        open.push_back({.projection = rows.text(row, 0),
                        .letter_count = rows.integer(row, 1),
                        .parked_event_count = rows.integer(row, 2),
                        .parked_key_count = rows.integer(row, 3),
                        .oldest_seconds = rows.number(row, 4)});
    }
    return open;
}

std::optional<StoredRecord> LetterStore::record(int64_t id) {
    std::vector<StoredRecord> found = records({id});
    if (found.empty()) return std::nullopt;
    return std::move(found.front());
}

std::vector<ParkedKey> LetterStore::keys_without_letter(
    const std::optional<std::string>& projection, const std::optional<std::string>& key) {
    const pg::Result rows = session_.execute(
        kKeysWithoutLetter, pg::Params().optional_text(projection).optional_bytea(key));
    std::vector<ParkedKey> keys;
    for (int row = 0; row < rows.row_count(); ++row) {
        keys.push_back(
            {.projection = {rows.text(row, 0), static_cast<int32_t>(rows.integer(row, 1))},
             .where = {rows.text(row, 2), static_cast<int32_t>(rows.integer(row, 3))},
             .key = rows.text(row, 4)});
    }
    return keys;
}

QueuePart LetterStore::queue(const ProjectionName& projection, const TopicPartition& where,
                             const std::vector<std::string>& keys, int64_t count_max) {
    if (keys.empty()) return {};
    pg::ArrayBuilder array = bytes_of(keys);
    const pg::Result rows =
        session_.execute(kQueue, place_of(projection, where).array(array).int8(count_max));
    QueuePart part{.records = records_of(rows)};
    if (part.records.empty()) return part;
    const int64_t found_count = rows.integer(0, 6);
    part.is_cut = found_count == count_max || found_count > rows.row_count();
    return part;
}

std::vector<StoredRecord> LetterStore::records(const std::vector<int64_t>& ids) {
    pg::ArrayBuilder array(pg::Type::kInt8);
    for (const int64_t id : ids) array.add_int8(id);
    return records_of(session_.execute(kRecords, pg::Params().array(array)));
}

void LetterStore::remove(const ProjectionName& projection, const TopicPartition& where,
                         const std::vector<StoredRecord>& records) {
    pg::ArrayBuilder ids(pg::Type::kInt8);
    pg::ArrayBuilder keys(pg::Type::kBytea);
    pg::ArrayBuilder offsets(pg::Type::kInt8);
    for (const StoredRecord& record : records) {
        if (record.letter_id) {
            ids.add_int8(*record.letter_id);
        } else {
            keys.add_bytes(*record.key);
            offsets.add_int8(record.offset);
        }
    }
    const int64_t letters =
        session_.execute(kRemoveLetters, pg::Params().array(ids)).affected_count();
    const int64_t parked =
        session_.execute(kRemoveParked, place_of(projection, where).array(keys).array(offsets))
            .affected_count();
    session_.execute(kCountRemoved, place_of(projection, where).int8(letters).int8(parked));
}

void LetterStore::note_failure(int64_t id, const Cause& cause, int redrives_max) {
    const auto text_or_null = [](const std::string& text) {
        return text.empty() ? std::nullopt : std::optional<std::string>(as_plain_text(text));
    };
    session_.execute(kNoteFailure, pg::Params()
                                       .int8(id)
                                       .text(name_of(cause.failure_class))
                                       .text(std::string_view(cause.reason))
                                       .optional_text(text_or_null(cause.sqlstate))
                                       .optional_text(text_or_null(cause.constraint))
                                       .optional_text(text_or_null(cause.statement))
                                       .text(std::string_view(as_plain_text(cause.error)))
                                       .int4(redrives_max));
}

int64_t LetterStore::free_keys(const ProjectionName& projection, const TopicPartition& where,
                               const std::vector<std::string>& keys) {
    if (keys.empty()) return 0;
    pg::ArrayBuilder array = bytes_of(keys);
    const int64_t freed =
        session_.execute(kFreeKeys, place_of(projection, where).array(array)).affected_count();
    if (freed > 0) move_epoch(session_, projection, where);
    return freed;
}

}  // namespace millrace
