-- Alerts: the rules, what they opened and resolved, and what webhooks are still to be told. Only the
-- one processor that evaluates (it holds an advisory lock) writes alerts; its transitions and what is
-- to be delivered of them commit together.

CREATE TABLE alert_webhooks (
    name       text        NOT NULL,
    receiver   text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT alert_webhooks_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE alert_webhooks IS
    'The webhooks of the file of rules, so that rules made through the API can name them. URLs and secrets are not here.';
COMMENT ON COLUMN alert_webhooks.name IS 'Name in the file';
COMMENT ON COLUMN alert_webhooks.receiver IS 'Scheme, host and port of the URL, for people';
COMMENT ON COLUMN alert_webhooks.updated_at IS 'When the evaluating processor last read it';

CREATE TABLE alert_rules (
    name       text        COLLATE "C" NOT NULL,
    source     text        NOT NULL,
    condition  text        NOT NULL,
    campaigns  text[]      NOT NULL DEFAULT '{}',
    platforms  text[]      NOT NULL DEFAULT '{}',
    hold       text,
    webhooks   text[]      NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT alert_rules_pkey PRIMARY KEY (name),
    CONSTRAINT alert_rules_source_known CHECK (source IN ('file', 'api'))
);
COMMENT ON TABLE alert_rules IS 'The rules, as they were written; checked by adflux before they come here.';
COMMENT ON COLUMN alert_rules.name IS 'Identity';
COMMENT ON COLUMN alert_rules.source IS 'file: of the file of rules, read-only for the API; api: made through it';
COMMENT ON COLUMN alert_rules.condition IS 'The rule''s "when"';
COMMENT ON COLUMN alert_rules.campaigns IS 'Campaign ids, or beginnings of ids with a * behind; empty: all';
COMMENT ON COLUMN alert_rules.platforms IS 'Names of platforms; empty: all';
COMMENT ON COLUMN alert_rules.hold IS 'How long the condition must hold before an alert opens; null: no time';
COMMENT ON COLUMN alert_rules.webhooks IS 'Names of the webhooks that are told';
COMMENT ON COLUMN alert_rules.created_at IS 'When it was first seen';
COMMENT ON COLUMN alert_rules.updated_at IS 'When it last changed';

CREATE SEQUENCE alert_transition_ids;
COMMENT ON SEQUENCE alert_transition_ids IS
    'Numbers what happens to alerts. One process writes them, so they are seen in order.';

CREATE TABLE alerts (
    alert_id         uuid        NOT NULL,
    rule_name        text        COLLATE "C" NOT NULL,
    campaign_id      text        COLLATE "C" NOT NULL,
    condition        text        NOT NULL,
    webhooks         text[]      NOT NULL,
    pending_since    timestamptz NOT NULL,
    opened_at        timestamptz,
    clear_since      timestamptz,
    resolved_at      timestamptz,
    resolved_because text,
    opened_values    jsonb,
    resolved_values  jsonb,
    transition_id    bigint,
    CONSTRAINT alerts_pkey PRIMARY KEY (alert_id),
    CONSTRAINT alerts_opened_before_resolved CHECK (resolved_at IS NULL OR opened_at IS NOT NULL),
    CONSTRAINT alerts_opened_with_values CHECK ((opened_at IS NULL) = (opened_values IS NULL)),
    CONSTRAINT alerts_resolved_with_reason CHECK ((resolved_at IS NULL) = (resolved_because IS NULL))
);
COMMENT ON TABLE alerts IS 'A row is one episode of a rule and a campaign: it waits (pending), opens once and resolves once. A pending one that does not open is deleted.';
COMMENT ON COLUMN alerts.alert_id IS 'Identity';
COMMENT ON COLUMN alerts.rule_name IS 'The rule; it may be gone since';
COMMENT ON COLUMN alerts.campaign_id IS 'The campaign';
COMMENT ON COLUMN alerts.condition IS 'The rule''s condition when the episode began, every window said';
COMMENT ON COLUMN alerts.webhooks IS 'Who is told: those of the rule when the episode began';
COMMENT ON COLUMN alerts.pending_since IS 'Since when the condition has held';
COMMENT ON COLUMN alerts.opened_at IS 'When it opened; null: the condition has not held for long enough yet';
COMMENT ON COLUMN alerts.clear_since IS 'Of an open one: since when the condition no longer holds; null: it holds, or cannot be decided';
COMMENT ON COLUMN alerts.resolved_at IS 'When it resolved; null: it has not';
COMMENT ON COLUMN alerts.resolved_because IS 'condition: it no longer held; rule: the rule was removed or no longer covers the campaign';
COMMENT ON COLUMN alerts.opened_values IS 'An array of {condition, value, threshold}: what was measured when it opened';
COMMENT ON COLUMN alerts.resolved_values IS 'The same when it resolved; null where the rule was gone';
COMMENT ON COLUMN alerts.transition_id IS 'The last thing that happened to it: rises when it opens and when it resolves; null while pending';

-- The last guard: no rule has two alerts about one campaign at a time.
CREATE UNIQUE INDEX alerts_unresolved_idx ON alerts (rule_name, campaign_id) WHERE resolved_at IS NULL;
COMMENT ON INDEX alerts_unresolved_idx IS 'One unresolved episode a rule and campaign';
CREATE UNIQUE INDEX alerts_transition_idx ON alerts (transition_id) WHERE transition_id IS NOT NULL;
COMMENT ON INDEX alerts_transition_idx IS 'What happened last, for lists and feeds';
CREATE INDEX alerts_campaign_idx ON alerts (campaign_id, transition_id) WHERE transition_id IS NOT NULL;
COMMENT ON INDEX alerts_campaign_idx IS 'The alerts of a campaign, newest first';

CREATE TABLE alert_deliveries (
    delivery_id     uuid        NOT NULL,
    alert_id        uuid        NOT NULL,
    event           text        NOT NULL,
    webhook         text        NOT NULL,
    body            text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_result     text,
    finished_at     timestamptz,
    delivered       boolean     NOT NULL DEFAULT false,
    CONSTRAINT alert_deliveries_pkey PRIMARY KEY (delivery_id),
    CONSTRAINT alert_deliveries_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES alerts,
    CONSTRAINT alert_deliveries_once UNIQUE (alert_id, event, webhook),
    CONSTRAINT alert_deliveries_event_known CHECK (event IN ('alert.opened', 'alert.resolved')),
    CONSTRAINT alert_deliveries_delivered_is_finished CHECK (NOT delivered OR finished_at IS NOT NULL)
);
COMMENT ON TABLE alert_deliveries IS
    'What webhooks are to be told: written with the transition, deleted a week after it was delivered or given up.';
COMMENT ON COLUMN alert_deliveries.delivery_id IS 'The same in every attempt, so that a receiver can tell a repetition';
COMMENT ON COLUMN alert_deliveries.alert_id IS 'The alert';
COMMENT ON COLUMN alert_deliveries.event IS 'What happened to it';
COMMENT ON COLUMN alert_deliveries.webhook IS 'Who is told';
COMMENT ON COLUMN alert_deliveries.body IS 'The JSON document that is sent';
COMMENT ON COLUMN alert_deliveries.created_at IS 'When it happened';
COMMENT ON COLUMN alert_deliveries.attempts IS 'How often it was tried';
COMMENT ON COLUMN alert_deliveries.next_attempt_at IS 'Not before. Moved on when an attempt begins, so that one that dies with its process is made again';
COMMENT ON COLUMN alert_deliveries.last_result IS 'How the last attempt ended';
COMMENT ON COLUMN alert_deliveries.finished_at IS 'When it was delivered or given up; null: still to be tried';
COMMENT ON COLUMN alert_deliveries.delivered IS 'Whether the receiver answered with success';

CREATE INDEX alert_deliveries_due_idx ON alert_deliveries (webhook, next_attempt_at) WHERE finished_at IS NULL;
COMMENT ON INDEX alert_deliveries_due_idx IS 'What is to be tried next';
CREATE INDEX alert_deliveries_finished_idx ON alert_deliveries (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON INDEX alert_deliveries_finished_idx IS 'What may be deleted';
