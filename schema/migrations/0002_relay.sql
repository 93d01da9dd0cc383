-- The relay: who publishes what (PROTOCOL 1 and 2).

CREATE TABLE millrace.relay_members (
    instance      uuid PRIMARY KEY,
    pid           integer NOT NULL,      -- Of the lease connection's backend.
    backend_start timestamptz NOT NULL,
    lease_until   timestamptz NOT NULL,
    kafka_ok_at   timestamptz
);

CREATE TABLE millrace.relay_publishers (
    number          smallint PRIMARY KEY CHECK (number BETWEEN 0 AND 31),
    epoch           bigint NOT NULL DEFAULT 0,
    seq             bigint NOT NULL DEFAULT 0,
    owner           uuid,
    pid             integer,             -- Of the session that claims.
    started         timestamptz,
    running         boolean NOT NULL DEFAULT false,
    version         bigint NOT NULL DEFAULT 0,
    halted          text,
    generation      integer NOT NULL DEFAULT 1,
    ledger_topic_id text
) WITH (
    -- Each claim writes a new version of its row: leave room for it on the page.
    fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0
);
INSERT INTO millrace.relay_publishers (number) SELECT generate_series(0, 31);

CREATE TABLE millrace.relay_lanes (
    lane      smallint PRIMARY KEY,
    publisher smallint,                  -- No foreign key: it would lock in another order.
    halted    text,
    paused    boolean NOT NULL DEFAULT false
) WITH (fillfactor = 20);
INSERT INTO millrace.relay_lanes (lane) SELECT generate_series(0, millrace.lane_count() - 1);

-- The source of millrace-seq.
CREATE TABLE millrace.relay_counters (
    publisher  smallint NOT NULL,
    topic      text NOT NULL,
    partition  integer NOT NULL,
    generation integer NOT NULL,
    n          bigint NOT NULL,
    PRIMARY KEY (publisher, topic, partition)
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- Why a publisher's transaction may not go on: MR002, it is not mine any more or halted; MR003,
-- something about my lanes changed. In a pipeline the error keeps what follows from running.
CREATE FUNCTION millrace.refuse_publisher(p_number smallint, p_epoch bigint) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    found_row millrace.relay_publishers;
BEGIN
    SELECT * INTO found_row FROM millrace.relay_publishers WHERE number = p_number;
    IF found_row.epoch = p_epoch AND found_row.halted IS NULL THEN
        RAISE EXCEPTION 'publisher % was changed to version %', p_number, found_row.version
            USING ERRCODE = 'MR003';
    END IF;
    RAISE EXCEPTION 'publisher % is at epoch %, not %', p_number, found_row.epoch, p_epoch
        USING ERRCODE = 'MR002', DETAIL = coalesce('halted: ' || found_row.halted, '');
END
$body$;

-- Locks the publisher's row for a transaction of its owner (PROTOCOL 2.6).
CREATE FUNCTION millrace.check_publisher(p_number smallint, p_epoch bigint, p_version bigint)
RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM FROM millrace.relay_publishers p
    WHERE p.number = p_number AND p.epoch = p_epoch AND p.version = p_version AND p.halted IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM millrace.refuse_publisher(p_number, p_epoch);
    END IF;
END
$body$;

-- The first statement of a claim (PROTOCOL 3.2): the publisher's next seq, and what the floor
-- needs.
CREATE FUNCTION millrace.move_publisher(p_number smallint, p_epoch bigint, p_version bigint,
    OUT seq bigint, OUT xid xid8, OUT snapshot pg_snapshot, OUT sequence_value bigint)
LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE millrace.relay_publishers p SET seq = p.seq + 1
    WHERE p.number = p_number AND p.epoch = p_epoch AND p.version = p_version AND p.halted IS NULL
    RETURNING p.seq INTO seq;
    IF NOT FOUND THEN
        PERFORM millrace.refuse_publisher(p_number, p_epoch);
    END IF;
    xid := pg_current_xact_id();
    snapshot := pg_current_snapshot();
    sequence_value := pg_sequence_last_value('millrace.pending_tasks_id_seq'::regclass);
END
$body$;

-- Locks a lane for anybody but its owner's thread, in the order publisher, lane (PROTOCOL 2.6), and
-- returns the publisher it belongs to, null if none. Whoever changes rows of pending_tasks, other
-- than by INSERT, calls it first (PROTOCOL 3.3).
CREATE FUNCTION millrace.lock_lane(p_lane smallint) RETURNS smallint
LANGUAGE plpgsql AS $body$
DECLARE
    owner_before smallint;
    owner_after smallint;
BEGIN
    LOOP
        SELECT publisher INTO STRICT owner_before FROM millrace.relay_lanes WHERE lane = p_lane;
        BEGIN
            IF owner_before IS NOT NULL THEN
                PERFORM FROM millrace.relay_publishers WHERE number = owner_before FOR UPDATE;
            END IF;
            SELECT publisher INTO STRICT owner_after FROM millrace.relay_lanes WHERE lane = p_lane
            FOR UPDATE;
            IF owner_after IS NOT DISTINCT FROM owner_before THEN
                RETURN owner_before;
            END IF;
            -- Leaving the block by an error frees both locks.
            RAISE EXCEPTION 'lane % moved', p_lane USING ERRCODE = 'MR000';
        EXCEPTION WHEN SQLSTATE 'MR000' THEN
            NULL;
        END;
    END LOOP;
END
$body$;
