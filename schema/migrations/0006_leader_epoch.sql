-- The epoch is that of a leader whose log reached next_offset, so it moves with it: kept behind
-- markers of a later epoch it would look as if the log had been cut (PROTOCOL 7.2).

CREATE OR REPLACE FUNCTION millrace.move_position(
    p_projection text, p_version integer, p_topic text, p_partition integer,
    p_expected bigint, p_epoch bigint, p_next bigint, p_leader_epoch integer) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    UPDATE millrace.positions
    SET next_offset = p_next,
        leader_epoch = p_leader_epoch,
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

-- What was written before may be of such an older epoch.
UPDATE millrace.positions SET leader_epoch = NULL;
