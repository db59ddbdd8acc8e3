-- Who may do what in adflux's database. Run it as the owner of the schema, who must be allowed to create roles (or have
-- someone who is create the three first), after the first `adflux migrate` and after each that has run a migration:
--
--     psql -v ON_ERROR_STOP=1 -f docs/roles.sql 'postgres://owner@host/campaigns'
--
-- Then give a role to each user that logs in:
--
--     CREATE ROLE counting LOGIN PASSWORD '…' IN ROLE adflux_processor;    -- adflux process --no-migrate
--     CREATE ROLE answering LOGIN PASSWORD '…' IN ROLE adflux_api;         -- adflux serve --no-migrate
--     CREATE ROLE importing LOGIN PASSWORD '…' IN ROLE adflux_importer;    -- adflux import, rates, expect

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['adflux_processor', 'adflux_api', 'adflux_importer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    -- Somebody else has made them at the same moment.
    NULL;
END
$$;

GRANT USAGE ON SCHEMA public TO adflux_processor, adflux_api, adflux_importer;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO adflux_processor, adflux_api, adflux_importer;

-- `adflux process` counts, merges blocks, carries sums, evaluates alert rules, publishes dead letters; `adflux dlq redrive`
-- sends them back, and what cannot be read is skipped by command.
REVOKE SELECT ON api_keys, cursor_key FROM adflux_processor;
GRANT INSERT, UPDATE ON stream_positions, campaigns, dead_letters, dead_letter_publications, sum_fresh_from TO adflux_processor;
GRANT INSERT ON late_events, skipped_offsets, report_definitions, report_files TO adflux_processor;
GRANT INSERT, UPDATE ON report_rows, campaign_names TO adflux_processor;
GRANT INSERT, DELETE ON report_history TO adflux_processor;
GRANT UPDATE ON store_identity TO adflux_processor;
GRANT DELETE ON receipts TO adflux_processor;
GRANT INSERT, DELETE ON event_blocks, sum_parts, sum_chunks TO adflux_processor;
GRANT INSERT, UPDATE, DELETE ON partition_states, alerts, alert_rules, alert_mutes, alert_webhooks,
    alert_deliveries TO adflux_processor;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO adflux_processor;

-- `adflux serve` reads, and keeps what is said of alerts through the API: rules, mutes, and that one has been seen. Without these
-- lines it answers all the same.
GRANT INSERT, UPDATE, DELETE ON alert_rules, alert_mutes TO adflux_api;
GRANT UPDATE ON alerts TO adflux_api;

-- And what is sent through the API has a receipt. Without this line it takes neither events nor reports.
GRANT INSERT ON receipts TO adflux_api;

-- `adflux serve --originals` keeps files that are sent, too; what is in them it need not read.
GRANT INSERT, UPDATE ON report_files, report_imports TO adflux_api;
GRANT INSERT ON report_file_chunks TO adflux_api;

-- `adflux import` compares with what is known, and keeps the files and as what they were imported; nobody else needs what is in
-- them.
REVOKE SELECT ON api_keys, cursor_key FROM adflux_importer;
REVOKE SELECT ON report_file_chunks FROM adflux_processor, adflux_api;
GRANT SELECT (file_id) ON report_file_chunks TO adflux_api;
GRANT INSERT, UPDATE ON report_files, report_imports TO adflux_importer;
GRANT INSERT ON report_file_chunks TO adflux_importer;

-- So does `adflux rates import` with its rates.
GRANT INSERT ON rate_files TO adflux_importer;
GRANT INSERT, UPDATE ON exchange_rates TO adflux_importer;
