-- What can't be published: tasks that were set aside, and those that wait behind one of their key
-- (PROTOCOL 5).

-- Its rows never go back to pending_tasks: there they would stand below the floor, or
-- behind what came later (PROTOCOL 5.2).
CREATE TABLE millrace.dead_tasks (
    lane          smallint NOT NULL,
    id            bigint NOT NULL,
    event_id      uuid NOT NULL,
    topic         text NOT NULL,
    key           text,
    task_type     text NOT NULL,
    tenant_id     text,
    actor_id      text,
    payload       json,
    payload_bytes bytea,
    headers       json,
    created_at    timestamptz NOT NULL,
    byte_count    integer NOT NULL GENERATED ALWAYS AS (
        coalesce(octet_length(payload::text), 0) + coalesce(octet_length(payload_bytes), 0)
        + coalesce(octet_length(headers::text), 0)) STORED,
    reason        text NOT NULL,  -- `queued_behind`: nothing is wrong with the task itself.
    detail        text,
    since         timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The queue of its (topic, key), by the id of the task that began it: that one has its own id
    -- here. Null: nothing waits behind it.
    queued_behind bigint,
    -- An operator wants it tried again. In a queue it stands in the first row alone and speaks for
    -- all behind it, so that a long queue is released, and taken back, by one row.
    released_at   timestamptz,
    CHECK (queued_behind IS NULL OR key IS NOT NULL),
    -- By lane and id a settle finds what was published. The event id stands in it because ids come
    -- again after a crash or a setval: two rows of one id must not keep each other out.
    PRIMARY KEY (lane, id, event_id)
);

-- The first row of a queue, its next rows in order, and, hopping from queue to queue, which keys
-- are parked. Not the key itself: one of 20 kB would not fit into an index.
CREATE INDEX dead_tasks_queue ON millrace.dead_tasks (lane, queued_behind, id)
WHERE queued_behind IS NOT NULL;

-- What a claim takes first. Nearly always empty, so that claims don't walk over what stays dead.
CREATE INDEX dead_tasks_released ON millrace.dead_tasks (lane, id)
WHERE released_at IS NOT NULL;
