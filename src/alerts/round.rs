//! One round: what follows from what rules say, and writing it down.
//!
//! Everything of a round, also what webhooks are to be told, is written in the transaction that read what it rests on.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use uuid::Uuid;

use super::document::{self, Document, Measured};
use super::evaluate::{Phase, Transition};
use super::rule::{Rule, Severity};
use crate::event::Platform;
use crate::metrics;
use crate::store::StoreError;
use crate::store::keep::alerts::deliveries;
use crate::store::keep::alerts::episodes::{self, Change, Episode};
use crate::time::Timestamp;

/// Where an episode stands; none: there is none.
pub fn phase_of(episode: Option<&Episode>) -> Phase {
    match episode {
        None => Phase::Quiet,
        Some(e) if e.opened_at.is_none() => Phase::Pending {
            since: e.pending_since.into(),
        },
        Some(e) => Phase::Open {
            clear_since: e.clear_since.map(Timestamp::from),
        },
    }
}

/// What an alert is about, and who is told.
pub struct Subject<'a> {
    pub rule: &'a str,
    pub about: About<'a>,
    pub condition: String,
    pub severity: Severity,
    pub webhooks: &'a [String],
}

/// Whom an alert is about.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    Campaign(&'a str),
    Account(Platform, &'a str),
    Pipeline,
}

/// What stands in place of a campaign where there is none.
pub const NO_CAMPAIGN: &str = "";

impl Subject<'_> {
    /// A rule that is held against a campaign.
    pub fn of<'a>(rule: &'a Rule, campaign: &'a str) -> Subject<'a> {
        Subject {
            rule: &rule.name,
            about: About::Campaign(campaign),
            condition: rule.when.to_string(),
            severity: rule.severity,
            webhooks: &rule.to,
        }
    }
}

/// What follows from one round.
pub struct Round {
    now: DateTime<Utc>,
    changes: Vec<Change>,
    /// Pending episodes that are none any more.
    gone: Vec<Uuid>,
}

impl Round {
    /// Nothing yet.
    pub fn new(now: DateTime<Utc>) -> Round {
        Round {
            now,
            changes: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Notes where a rule stands with what it is about, as of `at`.
    pub fn follow(
        &mut self,
        subject: &Subject<'_>,
        before: Option<Episode>,
        phase: Phase,
        transition: Option<Transition>,
        measured: Option<Vec<Measured>>,
        at: DateTime<Utc>,
    ) {
        if phase == phase_of(before.as_ref()) && transition.is_none() {
            return;
        }
        let is_new = before.is_none();
        let (campaign, account) = match subject.about {
            About::Campaign(campaign) => (campaign, None),
            About::Account(platform, id) => (NO_CAMPAIGN, Some((platform, id))),
            About::Pipeline => (NO_CAMPAIGN, None),
        };
        let mut episode = before.unwrap_or_else(|| Episode {
            alert_id: Uuid::new_v4(),
            rule_name: subject.rule.to_owned(),
            campaign_id: campaign.to_owned(),
            platform: account.map(|(platform, _)| platform.index().into()),
            account_id: account.map(|(_, id)| id.to_owned()),
            condition: subject.condition.clone(),
            severity: subject.severity.as_str().to_owned(),
            webhooks: subject.webhooks.to_vec(),
            pending_since: at,
            opened_at: None,
            clear_since: None,
            resolved_at: None,
            resolved_because: None,
            opened_values: None,
            resolved_values: None,
            acknowledged_at: None,
            acknowledged_by: None,
            transition_id: None,
        });
        // Numbers and text: nothing that JSON could refuse.
        let values = || {
            measured
                .as_ref()
                .and_then(|m| serde_json::to_string(m).ok())
        };
        match (phase, transition) {
            (Phase::Quiet, None) => {
                if !is_new {
                    self.gone.push(episode.alert_id);
                }
                return;
            }
            (_, Some(Transition::Opened)) => {
                episode.opened_at = Some(self.now);
                episode.opened_values = values();
            }
            (_, Some(Transition::Resolved)) => {
                episode.resolved_at = Some(self.now);
                episode.resolved_because = Some("condition".to_owned());
                episode.resolved_values = values();
            }
            (Phase::Open { clear_since }, None) => {
                episode.clear_since = clear_since.and_then(Timestamp::datetime);
            }
            (Phase::Pending { .. }, None) => {}
        }
        self.note(episode, transition);
    }

    /// Ends an episode whose rule is gone or no longer covers what it is about.
    pub fn resolve_orphan(&mut self, mut episode: Episode) {
        if episode.opened_at.is_none() {
            self.gone.push(episode.alert_id);
            return;
        }
        episode.resolved_at = Some(self.now);
        episode.resolved_because = Some("rule".to_owned());
        self.note(episode, Some(Transition::Resolved));
    }

    fn note(&mut self, episode: Episode, transition: Option<Transition>) {
        self.changes.push(Change {
            episode,
            moved: transition.is_some(),
        });
    }

    /// Writes it all, with what webhooks are to be told, unless the rule `is_muted`. Gives what opened or resolved.
    ///
    /// # Errors
    /// When the database does not do it.
    pub fn write(
        self,
        connection: &mut PgConnection,
        is_muted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Document>, StoreError> {
        episodes::delete_pending(connection, &self.gone)?;
        episodes::write(connection, &self.changes)?;
        let moved = self.changes.iter().filter(|change| change.moved);
        let moved: Vec<&Episode> = moved.map(|change| &change.episode).collect();
        let described = document::described(connection, moved.iter().copied())?;
        let documents = moved.iter().map(|one| Document::of(one, &described));
        let documents: Vec<Document> = documents.collect();
        let mut messages: BTreeMap<(&str, &str, &'static str), Vec<String>> = BTreeMap::new();
        for (episode, document) in moved.iter().zip(&documents) {
            if is_muted(&episode.rule_name) {
                continue;
            }
            let event = match episode.resolved_at {
                None => "alert.opened",
                Some(_) => "alert.resolved",
            };
            // Numbers, texts and lists of them: nothing that JSON could refuse.
            let alert = serde_json::to_string(document).unwrap_or_default();
            for webhook in &episode.webhooks {
                let kind = (webhook.as_str(), episode.rule_name.as_str(), event);
                messages.entry(kind).or_default().push(alert.clone());
            }
        }
        for ((webhook, rule_name, event), alerts) in messages {
            let new = deliveries::New {
                webhook,
                rule_name,
                event,
                alerts,
            };
            deliveries::insert(connection, &new)?;
        }
        Ok(documents)
    }
}

/// Says in the log what opened or resolved.
pub fn tell_log(alert: &Document) {
    let rule = &alert.rule;
    let about = match (&alert.campaign_id, &alert.account_id) {
        (Some(campaign), _) => match &alert.campaign_name {
            Some(name) => format!("campaign {campaign} ('{}')", name.escape_debug()),
            None => format!("campaign {campaign}"),
        },
        (None, Some(account)) => {
            let platform = alert.platform.map_or("", Platform::name);
            format!("account {account} of {platform}")
        }
        (None, None) => "no rule is held against campaigns that are behind".to_owned(),
    };
    let words = |values: &Option<Vec<Measured>>| {
        values.as_ref().map_or_else(
            || "the rule is gone or no longer covers it".to_owned(),
            |values| Measured::in_words(values),
        )
    };
    if alert.resolved_at.is_some() {
        metrics::ALERTS.with_label_values(&["resolved"]).inc();
        let words = words(&alert.resolved_values);
        log::info!("alert resolved: rule '{rule}', {about}: {words}");
    } else {
        metrics::ALERTS.with_label_values(&["opened"]).inc();
        let words = words(&alert.opened_values);
        log::warn!("alert opened: rule '{rule}', {about}: {words}");
    }
}
