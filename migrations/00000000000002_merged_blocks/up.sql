-- Small blocks are merged into larger ones. What a merged block says of its commits is kept, so that
-- "what was known at that instant" can still be answered exactly.

ALTER TABLE event_blocks
    ADD COLUMN merged_last_offset  bigint[],
    ADD COLUMN merged_commit_id    bigint[],
    ADD COLUMN merged_committed_at timestamptz[],
    ADD CONSTRAINT event_blocks_merged_same_length CHECK (
        num_nulls(merged_last_offset, merged_commit_id, merged_committed_at) = 3
        OR (num_nulls(merged_last_offset, merged_commit_id, merged_committed_at) = 0
            AND cardinality(merged_commit_id) = cardinality(merged_last_offset)
            AND cardinality(merged_committed_at) = cardinality(merged_last_offset)
            AND merged_last_offset[cardinality(merged_last_offset)] = last_offset)
    );
COMMENT ON COLUMN event_blocks.merged_last_offset IS 'Of a block that was merged from several: the last offset of each, ascending; null otherwise';
COMMENT ON COLUMN event_blocks.merged_commit_id IS 'Of a merged block: the commit_id of each; commit_id is the largest';
COMMENT ON COLUMN event_blocks.merged_committed_at IS 'Of a merged block: the committed_at of each; committed_at is the latest';

-- A block is small below a quarter of the largest size (store::blocks::MAX_BLOCK_EVENTS). At full
-- speed no block is, and the index costs nothing.
CREATE INDEX event_blocks_small_idx ON event_blocks (stream_id, first_offset)
    INCLUDE (last_offset, event_count, committed_at, lookup_span) WHERE event_count < 8192;
COMMENT ON INDEX event_blocks_small_idx IS 'Where the blocks are that may be merged';
