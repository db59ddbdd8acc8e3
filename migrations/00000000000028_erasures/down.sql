LOCK TABLE stream_positions IN EXCLUSIVE MODE;
DROP TABLE erasures;
ALTER TABLE stream_positions DROP CONSTRAINT stream_positions_every_record_accounted_for;
UPDATE stream_positions SET records = records - erased WHERE erased > 0;
ALTER TABLE stream_positions
    DROP COLUMN erased,
    ADD CONSTRAINT stream_positions_every_record_accounted_for
        CHECK (records = events + duplicates + dead_letters + unchanged + superseded);
COMMENT ON COLUMN stream_positions.records IS 'Records read: events + duplicates + dead_letters + unchanged + superseded';
COMMENT ON COLUMN stream_positions.campaigns_moved IS 'Rises when another partition takes over a campaign of this one; part of the fence';
COMMENT ON COLUMN event_blocks.first_offset IS 'Offset of the first event';
COMMENT ON COLUMN event_blocks.last_offset IS 'Offset of the last event';
