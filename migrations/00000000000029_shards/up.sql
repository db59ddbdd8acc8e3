-- Where one database is not enough, each of several has a range of the topic's partitions.

CREATE TABLE shard (
    is_this         boolean NOT NULL DEFAULT true,
    first_partition integer NOT NULL,
    last_partition  integer NOT NULL,
    partitions      integer NOT NULL,
    CONSTRAINT shard_pkey PRIMARY KEY (is_this),
    CONSTRAINT shard_is_one CHECK (is_this),
    CONSTRAINT shard_is_a_range CHECK
        (0 <= first_partition AND first_partition <= last_partition AND last_partition < partitions AND partitions <= 20000)
);
COMMENT ON TABLE shard IS
    'The range of the topic''s partitions that this database has, one of several; without a row it has all. Written by adflux migrate --shard';
COMMENT ON COLUMN shard.is_this IS 'Always true: there is at most one row';
COMMENT ON COLUMN shard.first_partition IS 'The first partition';
COMMENT ON COLUMN shard.last_partition IS 'The last partition';
COMMENT ON COLUMN shard.partitions IS 'How many partitions the topic has, and keeps';
