ALTER TABLE store_identity ADD COLUMN generation bigint NOT NULL DEFAULT 1;
COMMENT ON COLUMN store_identity.generation IS
    'Raised when what was read from this database may be wrong by now: positions went back, or a cache did not take what changed';
