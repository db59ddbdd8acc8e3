DO $$
BEGIN
    IF EXISTS (SELECT FROM shard) THEN
        RAISE 'this database has a range of partitions (shard), and the version before would count all of the topic: there is no way back';
    END IF;
END
$$;

DROP TABLE shard;
