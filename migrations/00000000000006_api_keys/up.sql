-- Who may ask the API, when it is told to let only those in.

CREATE TABLE api_keys (
    key_id         text        COLLATE "C" NOT NULL,
    name           text        NOT NULL,
    scopes         text[]      NOT NULL,
    key_hash       bytea       NOT NULL,
    previous_hash  bytea,
    previous_until timestamptz,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    rotated_at     timestamptz,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_keys_name_not_empty CHECK (name <> ''),
    CONSTRAINT api_keys_scopes_known CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'admin']),
    CONSTRAINT api_keys_hash_is_sha256 CHECK (octet_length(key_hash) = 32 AND octet_length(previous_hash) = 32),
    CONSTRAINT api_keys_previous_has_an_end CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
);
COMMENT ON TABLE api_keys IS 'Who may ask the API. A key is not in here: only its hash is.';
COMMENT ON COLUMN api_keys.key_id IS 'The public part of the key, by which it is found and spoken of';
COMMENT ON COLUMN api_keys.name IS 'Whose it is, for people';
COMMENT ON COLUMN api_keys.scopes IS 'What it may do: read, write, admin';
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key. A key is 256 random bits, so a slow hash would protect nothing more';
COMMENT ON COLUMN api_keys.previous_hash IS 'SHA-256 of the key before the last rotation; null if there was none';
COMMENT ON COLUMN api_keys.previous_until IS 'How long the key before the last rotation is still good';
COMMENT ON COLUMN api_keys.created_at IS 'When it was created';
COMMENT ON COLUMN api_keys.rotated_at IS 'When it was last rotated; null if never';
COMMENT ON COLUMN api_keys.expires_at IS 'Not good from then on; null: does not end';
COMMENT ON COLUMN api_keys.revoked_at IS 'Revoked then; null: it is good';
