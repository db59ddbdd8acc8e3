DROP TABLE standstills;

CREATE TABLE partition_states (
    cluster_id text        NOT NULL,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    state      text        NOT NULL,
    since      timestamptz NOT NULL,
    cause      text,
    message    text,
    is_still   boolean     NOT NULL,
    log_end    bigint,
    owner      text        NOT NULL,
    seen_at    timestamptz NOT NULL,
    CONSTRAINT partition_states_pkey PRIMARY KEY (cluster_id, topic, partition),
    CONSTRAINT partition_states_known CHECK (state IN ('counting', 'catching_up', 'idle', 'waiting', 'stopped')),
    CONSTRAINT partition_states_caused CHECK ((cause IS NOT NULL) = (state IN ('waiting', 'stopped')))
) WITH (fillfactor = 50);
COMMENT ON TABLE partition_states IS
    'What each partition is doing, as its processor reports it every few seconds. A report is of its seen_at: one that is old says that no processor reports.';
COMMENT ON COLUMN partition_states.cluster_id IS 'The Kafka cluster''s own id';
COMMENT ON COLUMN partition_states.topic IS 'Topic';
COMMENT ON COLUMN partition_states.partition IS 'Partition';
COMMENT ON COLUMN partition_states.state IS 'counting, catching_up, idle, waiting (goes on by itself), stopped (does not)';
COMMENT ON COLUMN partition_states.since IS 'When it became so';
COMMENT ON COLUMN partition_states.cause IS 'One word for what is in the way: a constraint that failed, postgresql, no_leader, unreadable, …';
COMMENT ON COLUMN partition_states.message IS 'What is in the way, in full';
COMMENT ON COLUMN partition_states.is_still IS 'Whether it stands still: stopped, or waiting for too long';
COMMENT ON COLUMN partition_states.log_end IS 'Where the log ended then: the offset of the next record to be written';
COMMENT ON COLUMN partition_states.owner IS 'The process that reports, host:pid';
COMMENT ON COLUMN partition_states.seen_at IS 'When it was reported';

CREATE TABLE skipped_offsets (
    stream_id    integer     NOT NULL REFERENCES stream_positions (stream_id),
    first_offset bigint      NOT NULL,
    next_offset  bigint      NOT NULL,
    reason       text        NOT NULL,
    skipped_by   text        NOT NULL,
    skipped_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT skipped_offsets_pkey PRIMARY KEY (stream_id, first_offset),
    CONSTRAINT skipped_offsets_some CHECK (first_offset < next_offset)
);
COMMENT ON TABLE skipped_offsets IS
    'Offsets that a person gave up: they were never read, so they are neither events nor duplicates nor dead letters. Positions went past them.';
COMMENT ON COLUMN skipped_offsets.stream_id IS 'The partition, as stream_positions numbers it';
COMMENT ON COLUMN skipped_offsets.first_offset IS 'The first offset that was skipped: the position then';
COMMENT ON COLUMN skipped_offsets.next_offset IS 'The offset after the last one that was skipped';
COMMENT ON COLUMN skipped_offsets.reason IS 'Why they were given up';
COMMENT ON COLUMN skipped_offsets.skipped_by IS 'The process that did it, host:pid, or who told it to';
COMMENT ON COLUMN skipped_offsets.skipped_at IS 'When';
