-- Receipts: what was sent through the API and where it landed, so that who sent it can ask what became of it.

CREATE TABLE receipts (
    receipt_id uuid        NOT NULL DEFAULT gen_random_uuid(),
    kind       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cluster_id text        NOT NULL,
    topic      text        NOT NULL,
    partitions integer[]   NOT NULL,
    offsets    bigint[]    NOT NULL,
    numbers    bigint[],
    CONSTRAINT receipts_pkey PRIMARY KEY (receipt_id),
    CONSTRAINT receipts_kind_known CHECK (kind IN ('events', 'reports')),
    CONSTRAINT receipts_columns_same_length CHECK (
        cardinality(partitions) > 0
        AND cardinality(offsets) = cardinality(partitions)
        AND (numbers IS NULL OR cardinality(numbers) = cardinality(partitions))
    )
);
-- Old ones are deleted.
CREATE INDEX receipts_created_at_idx ON receipts (created_at);

COMMENT ON TABLE receipts IS
    'What was sent through the API, a row a request. Nothing rests on it: after 30 days a processor deletes it.';
COMMENT ON COLUMN receipts.receipt_id IS 'Its name, which only who sent it was told';
COMMENT ON COLUMN receipts.kind IS 'events or reports';
COMMENT ON COLUMN receipts.created_at IS 'When the broker had acknowledged all of it';
COMMENT ON COLUMN receipts.cluster_id IS 'The cluster that did';
COMMENT ON COLUMN receipts.topic IS 'Topic';
COMMENT ON COLUMN receipts.partitions IS 'The partition of each record, in the order of the request';
COMMENT ON COLUMN receipts.offsets IS 'The offset of each there';
COMMENT ON COLUMN receipts.numbers IS
    'Which of the request each is: its line or row, or its place in a JSON array, from 1; null: 1, 2, 3, …';

-- Whoever sends need not be able to change anything else.
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes_known;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes_known
    CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'write', 'ingest', 'dead-letters', 'admin']);
COMMENT ON COLUMN api_keys.scopes IS 'What it may do: read, write, ingest, dead-letters, admin';
