ALTER TABLE stream_positions
    DROP COLUMN last_record_offset,
    DROP COLUMN last_record_time;
