//! What the rules of open alerts are measured at now: what opened an alert may be hours old, or of a budget of
//! yesterday. Measured by the clock, over what is counted so far; what follows is decided in [`watch`](super::watch) alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use diesel::PgConnection;
use uuid::Uuid;

use super::document::Measured;
use super::facts::Facts;
use super::learned::Learned;
use super::rule::Rule;
use crate::expected::provisional::ProvisionalDays;
use crate::store::keep::alerts::episodes::Episode;
use crate::store::keep::alerts::{counted, measure, rules};
use crate::store::read::insights::Window;
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// What the rule of each alert that is open is measured at; one whose rule is gone, or is about the pipeline, is left
/// out.
///
/// # Errors
/// When the database does not answer.
pub fn values(
    connection: &mut PgConnection,
    alerts: &[Episode],
    provisional_days: ProvisionalDays,
    learned: &Mutex<Learned>,
) -> Result<HashMap<Uuid, Vec<Measured>>, StoreError> {
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            let now = Timestamp::from(store::clock(connection)?);
            // One that this version does not understand is not evaluated either.
            let rules: HashMap<String, Rule> = rules::all(connection)?
                .into_iter()
                .filter_map(|stored| stored.draft.check(&|_| true).ok())
                .map(|rule| (rule.name.clone(), rule))
                .collect();
            let open: Vec<(&Episode, &Rule)> = alerts
                .iter()
                .filter(|alert| alert.resolved_at.is_none())
                .filter_map(|alert| Some((alert, rules.get(&alert.rule_name)?)))
                .collect();
            let campaigns: HashSet<&str> = open
                .iter()
                .map(|(alert, _)| alert.campaign_id.as_str())
                .collect();
            let campaigns: Vec<&str> = campaigns.into_iter().collect();
            let concerned: Vec<&Rule> = open.iter().map(|(_, rule)| *rule).collect();
            // Nobody panics while they hold it.
            let mut learned = learned.lock().unwrap_or_else(PoisonError::into_inner);
            let days = provisional_days;
            let facts = Facts::read(connection, &campaigns, &concerned, now, days, &mut learned)?;
            drop(learned);
            let windows: HashSet<Window> = open
                .iter()
                .flat_map(|(alert, rule)| rule.windows(now, facts.calendar(&alert.campaign_id)))
                .collect();
            let windows: Vec<Window> = windows.into_iter().collect();
            let lives = counted::lives(connection, &campaigns)?;
            let sums = measure::sums(connection, &campaigns, &windows)?;
            let measured = open.into_iter().filter_map(|(alert, rule)| {
                let campaign = &alert.campaign_id;
                let began = lives.get(campaign)?.first_event_time;
                let of_campaign = facts.of(campaign, began);
                let verdict = rule.when.measure(now, &of_campaign, &|window| {
                    sums.of(campaign, window, |p| rule.scope.has_platform(p))
                });
                Some((alert.alert_id, Measured::of(&rule.when, &verdict)))
            });
            Ok(measured.collect())
        })
}
