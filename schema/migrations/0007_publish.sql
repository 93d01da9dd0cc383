-- Publishing from SQL: a task each, or many at once.

-- The transaction's commit waits for its flush from here on, whatever the session was set to: what
-- is published must not have been undone by a crash (PROTOCOL 7.6). Never made weaker.
CREATE FUNCTION millrace.require_flush() RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$body$;

-- Returns the event's id.
CREATE FUNCTION millrace.publish(
    topic text, key text, task_type text, payload json, headers json DEFAULT NULL,
    tenant_id text DEFAULT NULL, actor_id text DEFAULT NULL, payload_bytes bytea DEFAULT NULL,
    event_id uuid DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql AS $body$
#variable_conflict use_variable
DECLARE
    made_id uuid := coalesce(event_id, gen_random_uuid());
BEGIN
    PERFORM millrace.require_flush();
    INSERT INTO millrace.pending_tasks
        (event_id, topic, key, task_type, tenant_id, actor_id, payload, payload_bytes, headers)
    VALUES (made_id, topic, key, task_type, tenant_id, actor_id, payload, payload_bytes, headers);
    RETURN made_id;
END
$body$;

-- One task for each element, in their order; an array that is left out is null for all. Returns the
-- ids in the same order.
CREATE FUNCTION millrace.publish_many(
    topics text[], keys text[], task_types text[], payloads json[], headers json[] DEFAULT NULL,
    tenant_ids text[] DEFAULT NULL, actor_ids text[] DEFAULT NULL,
    payloads_bytes bytea[] DEFAULT NULL, event_ids uuid[] DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM millrace.require_flush();
    RETURN QUERY
    INSERT INTO millrace.pending_tasks AS t
        (event_id, topic, key, task_type, tenant_id, actor_id, payload, payload_bytes, headers)
    SELECT coalesce(b.event_id, gen_random_uuid()), b.topic, b.key, b.task_type, b.tenant_id,
           b.actor_id, b.payload, b.payload_bytes, b.headers
    FROM unnest(publish_many.topics, publish_many.keys, publish_many.task_types,
                publish_many.payloads, publish_many.headers, publish_many.tenant_ids,
                publish_many.actor_ids, publish_many.payloads_bytes, publish_many.event_ids)
         WITH ORDINALITY AS b(topic, key, task_type, payload, headers, tenant_id, actor_id,
                              payload_bytes, event_id, number)
    ORDER BY b.number
    RETURNING t.event_id;
END
$body$;

-- By default everybody may call a function.
REVOKE EXECUTE ON FUNCTION millrace.require_flush() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION millrace.publish(text, text, text, json, json, text, text, bytea, uuid)
    FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION millrace.publish_many(
    text[], text[], text[], json[], json[], text[], text[], bytea[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.require_flush() TO millrace_app;
GRANT EXECUTE ON FUNCTION millrace.publish(text, text, text, json, json, text, text, bytea, uuid)
    TO millrace_app;
GRANT EXECUTE ON FUNCTION millrace.publish_many(
    text[], text[], text[], json[], json[], text[], text[], bytea[], uuid[]) TO millrace_app;
