COMMENT ON COLUMN stream_positions.last_record_offset IS
    'Offset of the record whose time is in last_record_time. It is only of use while it is next_offset - 1: a version that did not know these columns may have moved the position on';
