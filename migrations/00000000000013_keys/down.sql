DELETE FROM api_keys WHERE scopes <@ ARRAY['dead-letters'];
UPDATE api_keys SET scopes = array_remove(scopes, 'dead-letters');
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes_known;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes_known
    CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'admin']);
COMMENT ON COLUMN api_keys.scopes IS 'What it may do: read, write, admin';

DROP TABLE cursor_key;
