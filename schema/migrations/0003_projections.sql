-- Read models: which there are, how far each is, and the one way to move on.

CREATE TABLE millrace.projections (
    name          text NOT NULL,
    version       integer NOT NULL CHECK (version >= 1),
    definition    text NOT NULL,  -- The file's whole text, which is what is served.
    hash          text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    start_at      text NOT NULL,  -- earliest, latest or a time; not part of the hash.
    state         text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'halted')),
    halted_reason text,
    halted_at     timestamptz,
    CHECK ((state = 'halted') = (halted_reason IS NOT NULL)),
    CHECK ((state = 'halted') = (halted_at IS NOT NULL)),
    -- The only index: a handful of rows, looked up by name and version.
    PRIMARY KEY (name, version)
);

CREATE TABLE millrace.positions (
    projection    text NOT NULL,
    version       integer NOT NULL,
    topic         text NOT NULL,
    partition     integer NOT NULL CHECK (partition >= 0),
    next_offset   bigint NOT NULL CHECK (next_offset >= 0),
    topic_id      uuid,         -- Kafka's: a topic deleted and made again has another.
    leader_epoch  integer,
    epoch         bigint NOT NULL DEFAULT 0,
    owner         uuid,         -- One loop's, not the process's.
    owner_pid     integer,
    owner_started timestamptz,
    applied_at    timestamptz,  -- When next_offset last moved.
    -- The only index: each batch finds its row by it. None may cover next_offset, or the updates
    -- stop being heap-only.
    PRIMARY KEY (projection, version, topic, partition)
) WITH (
    -- One update a batch: room on the page keeps row versions there, and vacuum goes by number.
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- Moves a position by compare-and-set, first in the batch's transaction. It raises where it moved
-- no row: a pipeline would else run what follows (PROTOCOL 7.1).
CREATE FUNCTION millrace.move_position(
    p_projection text, p_version integer, p_topic text, p_partition integer,
    p_expected bigint, p_epoch bigint, p_next bigint, p_leader_epoch integer) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE millrace.positions
    SET next_offset = p_next,
        leader_epoch = coalesce(p_leader_epoch, leader_epoch),
        applied_at = clock_timestamp()
    WHERE projection = p_projection
      AND version = p_version
      AND topic = p_topic
      AND partition = p_partition
      AND next_offset = p_expected
      AND epoch = p_epoch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'position of % version % on %-% is not at % in epoch %',
            p_projection, p_version, p_topic, p_partition, p_expected, p_epoch
            USING ERRCODE = 'MR001';
    END IF;
END
$body$;

-- For readers: every event below applied_to is in the read model.
CREATE VIEW millrace.projection_lag AS
SELECT projection, version, topic, partition, next_offset AS applied_to, applied_at
FROM millrace.positions;

GRANT SELECT ON millrace.projection_lag TO PUBLIC;
