-- What is gathered cannot be told apart again.
DELETE FROM alert_deliveries;
ALTER TABLE alert_deliveries
    ADD COLUMN alert_id uuid NOT NULL,
    ADD COLUMN body     text NOT NULL,
    DROP COLUMN rule_name,
    DROP COLUMN alerts,
    DROP COLUMN alert_count,
    DROP COLUMN gathered_at,
    ADD CONSTRAINT alert_deliveries_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES alerts,
    ADD CONSTRAINT alert_deliveries_once UNIQUE (alert_id, event, webhook);
DROP TABLE alert_mutes;
ALTER TABLE alerts DROP COLUMN severity, DROP COLUMN acknowledged_at, DROP COLUMN acknowledged_by;
ALTER TABLE alert_rules DROP COLUMN severity, DROP COLUMN written_by;
