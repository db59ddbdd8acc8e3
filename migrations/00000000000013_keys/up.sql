CREATE TABLE cursor_key (
    only_one boolean NOT NULL DEFAULT true,
    secret   bytea   NOT NULL DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
    CONSTRAINT cursor_key_pkey PRIMARY KEY (only_one),
    CONSTRAINT cursor_key_only_one CHECK (only_one),
    CONSTRAINT cursor_key_is_long CHECK (octet_length(secret) = 32)
);
COMMENT ON TABLE cursor_key IS
    'What servers sign the cursors of the API with, all of them with the same: a page that one began, another goes on with. Only they read it.';
COMMENT ON COLUMN cursor_key.only_one IS 'There is one row';
COMMENT ON COLUMN cursor_key.secret IS
    'Random bits. UPDATE cursor_key SET secret = DEFAULT makes new ones: within a minute no cursor from before is taken any more';
INSERT INTO cursor_key DEFAULT VALUES;

-- Whoever may read what could not be counted may read what nobody meant to send.
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes_known;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes_known
    CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'dead-letters', 'admin']);
COMMENT ON COLUMN api_keys.scopes IS 'What it may do: read, write, dead-letters, admin';
