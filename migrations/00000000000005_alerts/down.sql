DROP TABLE alert_deliveries;
DROP TABLE alerts;
DROP SEQUENCE alert_transition_ids;
DROP TABLE alert_rules;
DROP TABLE alert_webhooks;
