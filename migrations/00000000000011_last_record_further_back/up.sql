-- A position may have been moved past offsets that hold no record.

COMMENT ON COLUMN stream_positions.last_record_offset IS
    'Offset of the last record before next_offset, or of an earlier one if a version that did not know this column has moved the position on';
