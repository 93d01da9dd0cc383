-- An array that is too short would have made tombstones, or tasks without a key, of what lacks an
-- element.
CREATE OR REPLACE FUNCTION millrace.publish_many(
    topics text[], keys text[], task_types text[], payloads json[], headers json[] DEFAULT NULL,
    tenant_ids text[] DEFAULT NULL, actor_ids text[] DEFAULT NULL,
    payloads_bytes bytea[] DEFAULT NULL, event_ids uuid[] DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE plpgsql AS $body$
DECLARE
    other record;
BEGIN
    FOR other IN
        SELECT a.name, a.size
        FROM (VALUES ('keys', cardinality(keys)),
                     ('task_types', cardinality(task_types)),
                     ('payloads', cardinality(payloads)),
                     ('headers', cardinality(headers)),
                     ('tenant_ids', cardinality(tenant_ids)),
                     ('actor_ids', cardinality(actor_ids)),
                     ('payloads_bytes', cardinality(payloads_bytes)),
                     ('event_ids', cardinality(event_ids))) AS a(name, size)
        WHERE a.size <> cardinality(topics)
    LOOP
        RAISE EXCEPTION 'publish_many: % topics, but % %: each array has one element a task',
            cardinality(topics), other.size, other.name
            USING ERRCODE = 'invalid_parameter_value';
    END LOOP;
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
