-- What a projection set aside: dead letters, and the events that wait behind them (PROTOCOL 7.5,
-- 7.7).

-- How many are open in the partition, so that a cap costs no count(*). Whoever sets aside or takes
-- back holds the lock of the position's row.
ALTER TABLE millrace.positions
    ADD COLUMN letter_count bigint NOT NULL DEFAULT 0,
    ADD COLUMN parked_count bigint NOT NULL DEFAULT 0;

-- Records as Kafka had them, byte for byte. Keys may be longer than an index takes, so it has their
-- digest.
CREATE TABLE millrace.dead_letters (
    id              bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    projection      text NOT NULL,
    version         integer NOT NULL,
    topic           text NOT NULL,
    partition       integer NOT NULL,
    record_offset   bigint NOT NULL,
    record_time     timestamptz NOT NULL,  -- Kafka's.
    key             bytea,
    key_digest      bytea GENERATED ALWAYS AS (sha256(key)) STORED,
    value           bytea,
    headers         json NOT NULL,         -- As schema/raw_headers.h says.
    event_id        uuid,
    event_type      text NOT NULL,
    parks           boolean NOT NULL,      -- Later events of its key wait behind it.
    class           text NOT NULL,         -- Of the error: record or overload.
    reason          text NOT NULL,
    sqlstate        text,
    constraint_name text,
    statement       text,                  -- Of the projection file: its line.
    error           text NOT NULL,
    attempts        integer NOT NULL,
    since           timestamptz NOT NULL DEFAULT clock_timestamp(),
    redrives        integer NOT NULL DEFAULT 0,
    quarantined     boolean NOT NULL DEFAULT false,
    -- A record has one letter, whatever is delivered twice.
    PRIMARY KEY (projection, version, topic, partition, record_offset),
    -- By this number operators name it.
    UNIQUE (id)
);
-- Whether a key has a letter that others wait behind.
CREATE INDEX dead_letters_of_key
ON millrace.dead_letters (projection, version, topic, partition, key_digest, record_offset)
WHERE parks;

CREATE TABLE millrace.parked_events (
    projection    text NOT NULL,
    version       integer NOT NULL,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    record_offset bigint NOT NULL,
    record_time   timestamptz NOT NULL,
    key           bytea NOT NULL,
    key_digest    bytea NOT NULL GENERATED ALWAYS AS (sha256(key)) STORED,
    value         bytea,
    headers       json NOT NULL,
    -- The queue of a key, in order; and a record waits once.
    PRIMARY KEY (projection, version, topic, partition, key_digest, record_offset)
);

-- The keys whose events wait, which the partition's owner keeps in memory: made by a batch, removed
-- by whoever empties the key's queue, under the position's lock and with its epoch moved on.
CREATE TABLE millrace.parked_keys (
    projection text NOT NULL,
    version    integer NOT NULL,
    topic      text NOT NULL,
    partition  integer NOT NULL,
    key        bytea NOT NULL,
    key_digest bytea NOT NULL GENERATED ALWAYS AS (sha256(key)) STORED,
    PRIMARY KEY (projection, version, topic, partition, key_digest)
);

-- Counts what a batch set aside. Raises MR004 where a cap is passed: a pipeline would else commit
-- behind it.
CREATE FUNCTION millrace.count_set_aside(
    p_projection text, p_version integer, p_topic text, p_partition integer,
    p_letters bigint, p_parked bigint, p_letters_max bigint, p_parked_max bigint) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    letters_open bigint;
    events_parked bigint;
BEGIN
    UPDATE millrace.positions
    SET letter_count = letter_count + p_letters,
        parked_count = parked_count + p_parked
    WHERE projection = p_projection
      AND version = p_version
      AND topic = p_topic
      AND partition = p_partition;
    SELECT sum(letter_count), sum(parked_count) INTO letters_open, events_parked
    FROM millrace.positions
    WHERE projection = p_projection
      AND version = p_version;
    IF p_letters > 0 AND letters_open > p_letters_max THEN
        RAISE EXCEPTION '% dead letters would be open, projections.caps.letters is %',
            letters_open, p_letters_max USING ERRCODE = 'MR004';
    END IF;
    IF p_parked > 0 AND events_parked > p_parked_max THEN
        RAISE EXCEPTION '% events would be parked, projections.caps.parked is %',
            events_parked, p_parked_max USING ERRCODE = 'MR004';
    END IF;
END
$body$;

-- What an operator means: a parameter that is null leaves its condition out.
CREATE FUNCTION millrace.matching_letters(
    p_projection text, p_ids bigint[], p_class text, p_reason text, p_sqlstate text,
    p_constraint text, p_key bytea, p_type text, p_since text, p_until text)
RETURNS SETOF millrace.dead_letters
LANGUAGE sql STABLE AS $body$
    SELECT *
    FROM millrace.dead_letters
    WHERE (p_projection IS NULL OR projection = p_projection)
      AND (p_ids IS NULL OR id = ANY(p_ids))
      AND (p_class IS NULL OR class = p_class)
      AND (p_reason IS NULL OR reason = p_reason)
      AND (p_sqlstate IS NULL OR sqlstate = p_sqlstate)
      AND (p_constraint IS NULL OR constraint_name = p_constraint)
      AND (p_key IS NULL OR key_digest = sha256(p_key))
      AND (p_type IS NULL OR event_type = p_type)
      AND (p_since IS NULL OR since >= p_since::timestamptz)
      AND (p_until IS NULL OR since < p_until::timestamptz)
$body$;
