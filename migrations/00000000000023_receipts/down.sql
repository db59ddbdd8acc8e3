DELETE FROM api_keys WHERE scopes <@ ARRAY['ingest'];
UPDATE api_keys SET scopes = array_remove(scopes, 'ingest');
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes_known;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes_known
    CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'dead-letters', 'admin']);
COMMENT ON COLUMN api_keys.scopes IS 'What it may do: read, write, dead-letters, admin';

DROP TABLE receipts;
