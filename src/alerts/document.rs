//! An alert as it is sent: by the API, the live feed and webhooks alike.

use std::collections::BTreeSet;

use diesel::PgConnection;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::evaluate::Verdict;
use super::rule::When;
use crate::currency::Currency;
use crate::event::Platform;
use crate::store::StoreError;
use crate::store::keep::alerts::episodes::Episode;
use crate::store::read::descriptions::{self, Descriptions};
use crate::time::rfc3339;

/// What one condition was measured at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The condition.
    pub condition: String,
    /// The metric's value; of `no data`, how many events there were.
    pub value: Option<f64>,
    /// What it was compared with, in the metric's unit; none where there is nothing to compare.
    pub threshold: Option<f64>,
}

impl Measured {
    /// What each condition of a rule was measured at.
    pub fn of(when: &When, verdict: &Verdict) -> Vec<Measured> {
        when.0
            .iter()
            .zip(&verdict.readings)
            .map(|(condition, reading)| Measured {
                condition: condition.to_string(),
                value: reading.value,
                threshold: reading.threshold,
            })
            .collect()
    }

    /// As a person reads it in a log: `roas < 1 over 1h (0.83)`.
    pub fn in_words(measured: &[Measured]) -> String {
        let words = measured.iter().map(|m| {
            // A number stands in the condition already; a share of something does not.
            let threshold = m.threshold.filter(|_| m.condition.contains('%'));
            match (m.value, threshold) {
                (Some(value), Some(threshold)) => {
                    format!("{} ({value} against {threshold})", m.condition)
                }
                (Some(value), None) => format!("{} ({value})", m.condition),
                (None, _) => format!("{} (no value)", m.condition),
            }
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// What is known of the campaigns of some episodes.
///
/// # Errors
/// When the database does not answer.
pub fn described<'a>(
    connection: &mut PgConnection,
    episodes: impl Iterator<Item = &'a Episode>,
) -> Result<Descriptions, StoreError> {
    let campaigns: BTreeSet<&str> = episodes
        .map(|episode| episode.campaign_id.as_str())
        .filter(|id| !id.is_empty())
        .collect();
    let campaigns: Vec<&str> = campaigns.into_iter().collect();
    if campaigns.is_empty() {
        return Ok(Descriptions::default());
    }
    descriptions::of_some(connection, &campaigns)
}

/// An alert.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    pub alert_id: String,
    pub rule: String,
    /// None: it is about an account, or the pipeline.
    pub campaign_id: Option<String>,
    /// Its newest name, and whose it is; none where no platform reports it.
    pub campaign_name: Option<String>,
    pub platform: Option<Platform>,
    pub account_id: Option<String>,
    /// Of the money that was measured.
    pub currency: Option<Currency>,
    /// `open` or `resolved`.
    pub state: &'static str,
    /// The rule's when it opened.
    pub severity: String,
    /// The rule's condition when it opened.
    pub condition: String,
    pub opened_at: Option<String>,
    pub resolved_at: Option<String>,
    /// `condition`: it no longer held; `rule`: the rule is gone or no longer covers the campaign.
    pub resolved_because: Option<String>,
    pub opened_values: Option<Vec<Measured>>,
    pub resolved_values: Option<Vec<Measured>>,
    /// What the rule is measured at now, where that was asked for and the alert is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_values: Option<Vec<Measured>>,
    /// When somebody said that they have seen it, and the name of their key, if there was one.
    pub acknowledged_at: Option<String>,
    pub acknowledged_by: Option<String>,
}

impl Document {
    /// An episode, with what is known of its campaign.
    pub fn of(episode: &Episode, described: &Descriptions) -> Document {
        let campaign = described.of(&episode.campaign_id);
        let account = campaign.map(|campaign| campaign.account.as_ref());
        let platform = episode.platform.map(i64::from);
        // Written by us, so it is what it was.
        let values = |json: &Option<String>| {
            json.as_deref()
                .and_then(|json| serde_json::from_str(json).ok())
        };
        Document {
            alert_id: episode.alert_id.to_string(),
            rule: episode.rule_name.clone(),
            campaign_id: Some(episode.campaign_id.clone()).filter(|id| !id.is_empty()),
            campaign_name: campaign.and_then(|campaign| campaign.name.clone()),
            platform: platform
                .and_then(Platform::from_index)
                .or(account.map(|account| account.platform)),
            account_id: episode
                .account_id
                .clone()
                .or(account.map(|account| account.id.clone())),
            currency: account.map(|account| account.currency),
            state: if episode.resolved_at.is_some() {
                "resolved"
            } else {
                "open"
            },
            severity: episode.severity.clone(),
            condition: episode.condition.clone(),
            opened_at: episode.opened_at.map(rfc3339),
            resolved_at: episode.resolved_at.map(rfc3339),
            resolved_because: episode.resolved_because.clone(),
            opened_values: values(&episode.opened_values),
            resolved_values: values(&episode.resolved_values),
            current_values: None,
            acknowledged_at: episode.acknowledged_at.map(rfc3339),
            acknowledged_by: episode.acknowledged_by.clone(),
        }
    }
}

/// What a webhook is told: what happened to alerts of one rule.
#[derive(Clone, Debug, Serialize)]
pub struct Told<'a> {
    /// The same in every attempt.
    pub delivery_id: String,
    /// `alert.opened` or `alert.resolved`.
    pub event: &'a str,
    pub rule: &'a str,
    /// How many alerts there are, of which the first are shown.
    pub count: i32,
    /// Each a [`Document`].
    pub alerts: Vec<Value>,
}
