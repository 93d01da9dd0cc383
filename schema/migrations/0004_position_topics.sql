-- How many partitions of a topic a projection was given positions for. It tells a partition that
-- appears later, which begins at its first offset, from one whose position somebody has removed.

CREATE TABLE millrace.position_topics (
    projection      text NOT NULL,
    version         integer NOT NULL,
    topic           text NOT NULL,
    partition_count integer NOT NULL CHECK (partition_count >= 0),
    PRIMARY KEY (projection, version, topic)
);

INSERT INTO millrace.position_topics (projection, version, topic, partition_count)
SELECT projection, version, topic, max(partition) + 1
FROM millrace.positions
GROUP BY projection, version, topic;
