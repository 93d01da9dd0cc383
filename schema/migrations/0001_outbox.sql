-- The outbox: what writers meet. Run with millrace.lane_count set for the transaction.

CREATE TABLE millrace.installation (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id               uuid NOT NULL,
    name             text NOT NULL,
    prefix           text NOT NULL,
    kafka_cluster_id text,
    system_identifier bigint NOT NULL,
    database_oid     bigint NOT NULL,
    lane_count       integer NOT NULL CHECK (lane_count BETWEEN 1 AND 64),
    key_order        text NOT NULL CHECK (key_order IN ('key')),
    schema_version   integer NOT NULL
);

-- One definition of how keys map to lanes, in the database alone, so that no two programs can
-- differ.
DO $make$
BEGIN
    EXECUTE format(
        'CREATE FUNCTION millrace.lane_count() RETURNS integer '
        'LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$ SELECT %s $body$',
        current_setting('millrace.lane_count')::integer);
END
$make$;

CREATE FUNCTION millrace.lane_of(key text, event_id uuid) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT ((hashtext(coalesce(key, event_id::text)) & 2147483647)
            % millrace.lane_count())::smallint
$body$;

-- A row is pending because it is there. xid stands before id, id is drawn one by one and by nobody
-- else: the floor of the claim rests on it (PROTOCOL 6).
CREATE TABLE millrace.pending_tasks (
    xid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    lane          smallint NOT NULL GENERATED ALWAYS AS (millrace.lane_of(key, event_id)) STORED,
    id            bigint NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1),
    event_id      uuid NOT NULL DEFAULT gen_random_uuid(),
    topic         text NOT NULL CHECK (topic <> ''),
    key           text,
    task_type     text NOT NULL,
    tenant_id     text,
    actor_id      text,
    payload       json,
    payload_bytes bytea,
    headers       json CHECK (json_typeof(headers) = 'object'),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- What a claim is cut by. The stored size would not do: compressed, it can be a hundredth.
    byte_count    integer NOT NULL GENERATED ALWAYS AS (
        coalesce(octet_length(payload::text), 0) + coalesce(octet_length(payload_bytes), 0)
        + coalesce(octet_length(headers::text), 0)) STORED,
    -- It becomes Kafka's timestamp, which can't be negative or infinite.
    CONSTRAINT created_at_in_range CHECK (
        created_at >= '1970-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'),
    CONSTRAINT one_payload CHECK (payload IS NULL OR payload_bytes IS NULL),
    -- The only index: the claim reads each lane in id order.
    PRIMARY KEY (lane, id)
) WITH (
    -- Rows live for milliseconds: vacuum by the number that died, not by the share of a table that
    -- is nearly empty.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0
);

-- What an application's role is granted. Roles belong to the cluster, so another database's
-- migration may have made it.
DO $make$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millrace_app') THEN
        CREATE ROLE millrace_app NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- Made at the same moment by somebody else.
END
$make$;

GRANT USAGE ON SCHEMA millrace TO millrace_app;
GRANT INSERT (event_id, topic, key, task_type, tenant_id, actor_id, payload, payload_bytes, headers,
              created_at) ON millrace.pending_tasks TO millrace_app;

CREATE TABLE millrace.operator_acts (
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    who    text NOT NULL DEFAULT session_user,
    verb   text NOT NULL,
    object text NOT NULL,
    reason text
);
