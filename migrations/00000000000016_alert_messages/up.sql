-- One message tells of many alerts. Rules say how grave they are and who wrote them, and can be muted; somebody can say
-- that an alert has been seen.

ALTER TABLE alert_rules
    ADD COLUMN severity   text,
    ADD COLUMN written_by text;
COMMENT ON COLUMN alert_rules.severity IS 'critical, warning or info; null: warning';
COMMENT ON COLUMN alert_rules.written_by IS 'The name of the API key it was last written with; null: of the file, or without a key';

ALTER TABLE alerts
    ADD COLUMN severity        text NOT NULL DEFAULT 'warning',
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by text,
    ADD CONSTRAINT alerts_severity_known CHECK (severity IN ('critical', 'warning', 'info')),
    ADD CONSTRAINT alerts_acknowledged_at_a_time CHECK (acknowledged_by IS NULL OR acknowledged_at IS NOT NULL);
COMMENT ON COLUMN alerts.campaign_id IS 'The campaign; empty: it is about the pipeline';
COMMENT ON COLUMN alerts.severity IS 'The rule''s when the episode began';
COMMENT ON COLUMN alerts.acknowledged_at IS 'When somebody said that they have seen it; null: nobody has';
COMMENT ON COLUMN alerts.acknowledged_by IS 'The name of their API key; null: it was without a key';

CREATE TABLE alert_mutes (
    rule_name text        COLLATE "C" NOT NULL,
    until     timestamptz NOT NULL,
    muted_by  text,
    muted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT alert_mutes_pkey PRIMARY KEY (rule_name)
);
COMMENT ON TABLE alert_mutes IS 'Rules of which webhooks are told nothing for a while. Their alerts open and resolve all the same.';
COMMENT ON COLUMN alert_mutes.rule_name IS 'The rule, of the file or the API; or pipeline';
COMMENT ON COLUMN alert_mutes.until IS 'Until when';
COMMENT ON COLUMN alert_mutes.muted_by IS 'The name of the API key it was muted with; null: it was without a key';
COMMENT ON COLUMN alert_mutes.muted_at IS 'When it was muted';

-- A delivery was of one alert, and is of all that a rule opened or resolved at about the same time.
ALTER TABLE alert_deliveries
    ADD COLUMN rule_name   text COLLATE "C",
    ADD COLUMN alerts      text[],
    ADD COLUMN alert_count integer,
    ADD COLUMN gathered_at timestamptz;
UPDATE alert_deliveries AS d
SET rule_name = a.rule_name, alerts = ARRAY[(d.body::jsonb -> 'alert')::text], alert_count = 1, gathered_at = d.created_at,
    attempts = GREATEST(d.attempts, 1) -- nothing more is added to it
FROM alerts AS a WHERE a.alert_id = d.alert_id;
ALTER TABLE alert_deliveries
    ALTER COLUMN rule_name SET NOT NULL,
    ALTER COLUMN alerts SET NOT NULL,
    ALTER COLUMN alert_count SET NOT NULL,
    ALTER COLUMN gathered_at SET NOT NULL,
    ALTER COLUMN gathered_at SET DEFAULT clock_timestamp(),
    DROP COLUMN alert_id,
    DROP COLUMN body,
    ADD CONSTRAINT alert_deliveries_counted CHECK (alert_count >= cardinality(alerts) AND cardinality(alerts) > 0);
COMMENT ON TABLE alert_deliveries IS
    'What webhooks are to be told: written with the transitions, deleted a week after it was delivered or given up.';
COMMENT ON COLUMN alert_deliveries.event IS 'What happened to the alerts';
COMMENT ON COLUMN alert_deliveries.rule_name IS 'The rule whose alerts they are';
COMMENT ON COLUMN alert_deliveries.alerts IS 'The JSON documents of the first of them';
COMMENT ON COLUMN alert_deliveries.alert_count IS 'How many they are';
COMMENT ON COLUMN alert_deliveries.created_at IS 'When the first of it happened';
COMMENT ON COLUMN alert_deliveries.gathered_at IS 'When the last of it happened';

-- Until its first attempt a delivery gathers what happens.
CREATE UNIQUE INDEX alert_deliveries_gathering_idx ON alert_deliveries (webhook, rule_name, event)
    WHERE attempts = 0 AND finished_at IS NULL;
COMMENT ON INDEX alert_deliveries_gathering_idx IS 'The one delivery that more is added to';
CREATE INDEX alert_deliveries_rule_idx ON alert_deliveries (webhook, rule_name, event, created_at);
COMMENT ON INDEX alert_deliveries_rule_idx IS 'When a webhook was last told of a rule, and what it must be told first';
