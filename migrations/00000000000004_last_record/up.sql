-- What the record before a position was, so that another log under the same name is noticed.

ALTER TABLE stream_positions
    ADD COLUMN last_record_offset bigint,
    ADD COLUMN last_record_time   bigint;
COMMENT ON COLUMN stream_positions.last_record_offset IS
    'Offset of the record whose time is in last_record_time. It is only of use while it is next_offset - 1: a version that did not know these columns may have moved the position on';
COMMENT ON COLUMN stream_positions.last_record_time IS
    'Kafka''s timestamp of the last record read, in microseconds since 1970 and beyond what timestamptz can hold; null if it had none';
