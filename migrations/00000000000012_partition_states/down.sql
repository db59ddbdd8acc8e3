DROP TABLE skipped_offsets;
DROP TABLE partition_states;
CREATE TABLE standstills (
    cluster_id text        NOT NULL,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    owner      text        NOT NULL,
    cause      text        NOT NULL,
    message    text        NOT NULL,
    CONSTRAINT standstills_pkey PRIMARY KEY (cluster_id, topic, partition)
);
COMMENT ON TABLE standstills IS
    'Partitions that cannot be counted because the database is not as it must be. A row goes when the partition is counted, or claimed anew.';
COMMENT ON COLUMN standstills.cluster_id IS 'The Kafka cluster''s own id';
COMMENT ON COLUMN standstills.topic IS 'Topic';
COMMENT ON COLUMN standstills.partition IS 'Partition';
COMMENT ON COLUMN standstills.since IS 'When it was first refused';
COMMENT ON COLUMN standstills.owner IS 'The process that tried, host:pid';
COMMENT ON COLUMN standstills.cause IS 'The constraint that failed, or schema, or privileges';
COMMENT ON COLUMN standstills.message IS 'What PostgreSQL said';
