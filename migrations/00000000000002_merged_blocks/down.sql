DROP INDEX event_blocks_small_idx;
ALTER TABLE event_blocks
    DROP COLUMN merged_last_offset,
    DROP COLUMN merged_commit_id,
    DROP COLUMN merged_committed_at;
