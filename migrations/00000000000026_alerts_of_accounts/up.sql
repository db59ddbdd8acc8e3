-- An alert may be about an account whose reports stay away.

ALTER TABLE alerts
    ADD COLUMN platform   smallint,
    ADD COLUMN account_id text COLLATE "C",
    ADD CONSTRAINT alerts_account_of_platform CHECK ((platform IS NULL) = (account_id IS NULL));
COMMENT ON COLUMN alerts.campaign_id IS 'The campaign; empty: it is about an account, or the pipeline';
COMMENT ON COLUMN alerts.platform IS 'Of one about an account: 0 Meta, 1 Google, 2 LinkedIn, 3 TikTok; null: it is about a campaign, or the pipeline';
COMMENT ON COLUMN alerts.account_id IS 'The platform''s own id of the account, likewise';
COMMENT ON COLUMN alert_mutes.rule_name IS 'The rule, of the file or the API; or pipeline, or reports';

DROP INDEX alerts_unresolved_idx;
CREATE UNIQUE INDEX alerts_unresolved_idx ON alerts (rule_name, campaign_id)
    WHERE resolved_at IS NULL AND account_id IS NULL;
COMMENT ON INDEX alerts_unresolved_idx IS 'One unresolved episode a rule and campaign';
CREATE UNIQUE INDEX alerts_unresolved_account_idx ON alerts (rule_name, platform, account_id)
    WHERE resolved_at IS NULL AND account_id IS NOT NULL;
COMMENT ON INDEX alerts_unresolved_account_idx IS 'One unresolved episode an account';
