-- What is asked to be forgotten is erased, and what was read still adds up.

-- Processors in flight end first, and new ones wait at their first statement.
LOCK TABLE stream_positions IN EXCLUSIVE MODE;

ALTER TABLE stream_positions
    ADD COLUMN erased bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT stream_positions_erased_not_negative CHECK (erased >= 0),
    DROP CONSTRAINT stream_positions_every_record_accounted_for,
    ADD CONSTRAINT stream_positions_every_record_accounted_for
        CHECK (records = events + duplicates + dead_letters + unchanged + superseded + erased);
COMMENT ON COLUMN stream_positions.records IS
    'Records read: events + duplicates + dead_letters + unchanged + superseded + erased';
COMMENT ON COLUMN stream_positions.erased IS
    'Records that were events or dead letters until adflux erase removed them';
COMMENT ON COLUMN stream_positions.campaigns_moved IS
    'Rises when another partition takes over a campaign of this one, or one is erased; part of the fence';
COMMENT ON COLUMN event_blocks.first_offset IS
    'Offset of the first event; of a block that events were erased from, that of the first there was';
COMMENT ON COLUMN event_blocks.last_offset IS
    'Offset of the last event; of a block that events were erased from, that of the last there was';

CREATE TABLE erasures (
    erasure_id     integer     GENERATED ALWAYS AS IDENTITY,
    kind           text        NOT NULL,
    subject_sha256 bytea       NOT NULL,
    asked_by       text        NOT NULL DEFAULT session_user,
    begun_at       timestamptz NOT NULL,
    finished_at    timestamptz,
    removed        jsonb       NOT NULL,
    CONSTRAINT erasures_pkey PRIMARY KEY (erasure_id),
    CONSTRAINT erasures_kind_known CHECK (kind IN ('campaign', 'account', 'dead_letters')),
    CONSTRAINT erasures_sha256_is_one CHECK (length(subject_sha256) = 32),
    CONSTRAINT erasures_times_ordered CHECK (finished_at >= begun_at)
);
COMMENT ON TABLE erasures IS 'What adflux erase has removed, without saying of whom.';
COMMENT ON COLUMN erasures.erasure_id IS 'Its number, which the certificate has too';
COMMENT ON COLUMN erasures.kind IS 'campaign, account or dead_letters';
COMMENT ON COLUMN erasures.subject_sha256 IS
    'SHA-256 of the campaign''s id, of PLATFORM:ACCOUNT, or of the time before which dead letters were erased';
COMMENT ON COLUMN erasures.asked_by IS 'The role that asked';
COMMENT ON COLUMN erasures.begun_at IS 'When it was removed from the tables';
COMMENT ON COLUMN erasures.finished_at IS
    'When it was gone from Redis and from where originals are kept, too; null: run adflux erase once more with the same arguments';
COMMENT ON COLUMN erasures.removed IS 'What was removed, counted';
