DROP INDEX alerts_unresolved_account_idx;
DROP INDEX alerts_unresolved_idx;
DELETE FROM alerts WHERE account_id IS NOT NULL;
ALTER TABLE alerts
    DROP CONSTRAINT alerts_account_of_platform,
    DROP COLUMN platform,
    DROP COLUMN account_id;
CREATE UNIQUE INDEX alerts_unresolved_idx ON alerts (rule_name, campaign_id) WHERE resolved_at IS NULL;
COMMENT ON INDEX alerts_unresolved_idx IS 'One unresolved episode a rule and campaign';
COMMENT ON COLUMN alerts.campaign_id IS 'The campaign; empty: it is about the pipeline';
COMMENT ON COLUMN alert_mutes.rule_name IS 'The rule, of the file or the API; or pipeline';
