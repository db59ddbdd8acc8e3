//! `adflux alerts`: rules for the person who writes them.

use std::io::Write;
use std::path::Path;

use chrono::{DateTime, Days, Utc};

use super::document::{self, Document, Measured};
use super::rule::{Minutes, Rule, Severity};
use super::{file, past};
use crate::expected::provisional::ProvisionalDays;
use crate::store::keep::alerts::episodes::{self, Filter};
use crate::store::{self, Limits};
use crate::time::rfc3339_seconds;

/// Checks a file of rules and prints what each is understood as.
///
/// # Errors
/// When the file is not as it must be; the message points at the fault.
pub fn check(out: &mut impl Write, path: &Path) -> anyhow::Result<()> {
    let file = file::read(path)?;
    for (_, rule) in &file.rules {
        writeln!(out, "{:<24} {}", rule.name, rule.when)?;
        for line in details(rule) {
            writeln!(out, "{:<24} {line}", "")?;
        }
    }
    let (rules, webhooks) = (file.rules.len(), file.webhooks.len());
    let display = path.display();
    writeln!(
        out,
        "{display}: no fault; rules: {rules}, webhooks: {webhooks}"
    )?;
    Ok(())
}

/// What a rule says beside its condition.
fn details(rule: &Rule) -> Vec<String> {
    let mut out = Vec::new();
    let list = |texts: Vec<String>| texts.join(", ");
    if !rule.scope.campaigns.is_empty() {
        let campaigns = rule.scope.campaigns.iter().map(ToString::to_string);
        out.push(format!("campaigns {}", list(campaigns.collect())));
    }
    if !rule.scope.platforms.is_empty() {
        let platforms = rule.scope.platforms.iter().map(ToString::to_string);
        out.push(format!("platforms {}", list(platforms.collect())));
    }
    if rule.hold > Minutes(0) {
        out.push(format!("for {}", rule.hold));
    }
    if rule.severity != Severity::default() {
        out.push(format!("severity {}", rule.severity.as_str()));
    }
    if !rule.to.is_empty() {
        out.push(format!("to {}", rule.to.join(", ")));
    }
    out
}

/// Prints the alerts that are open, or with `all` those that have resolved too.
///
/// # Errors
/// When the database does not answer.
pub fn list(out: &mut impl Write, database_url: &str, all: bool, limit: u32) -> anyhow::Result<()> {
    let mut connection = store::open(database_url, Limits::API)?;
    let filter = Filter {
        open: (!all).then_some(true),
        limit,
        ..Filter::default()
    };
    let alerts = episodes::list(&mut connection, &filter)?;
    let described = document::described(&mut connection, alerts.iter())?;
    for alert in &alerts {
        let Document {
            rule,
            campaign_id,
            account_id,
            opened_values,
            ..
        } = Document::of(alert, &described);
        // What is listed has opened, so both are there.
        let opened = alert.opened_at.map(rfc3339_seconds).unwrap_or_default();
        let until = alert
            .resolved_at
            .map_or_else(|| "open".to_owned(), rfc3339_seconds);
        let about = campaign_id.or(account_id);
        let about = about.as_deref().unwrap_or("-");
        let words = Measured::in_words(&opened_values.unwrap_or_default());
        writeln!(out, "{opened}  {until:<20}  {rule:<24} {about:<24} {words}")?;
    }
    if alerts.is_empty() {
        writeln!(out, "no alert is open")?;
    }
    Ok(())
}

/// Prints when the rules of a file would have opened and resolved alerts; without `since`, over the
/// last seven days.
///
/// # Errors
/// When the file is not as it must be, the times are not in order, or the database does not answer.
pub fn test(
    out: &mut impl Write,
    database_url: &str,
    path: &Path,
    provisional_days: ProvisionalDays,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
) -> anyhow::Result<()> {
    let rules: Vec<Rule> = file::read(path)?
        .rules
        .into_iter()
        .map(|(_, r)| r)
        .collect();
    let until = until.unwrap_or_else(Utc::now);
    let since = since.unwrap_or_else(|| until.checked_sub_days(Days::new(7)).unwrap_or(until));
    if since >= until {
        anyhow::bail!("--since is not before --until");
    }
    if (until - since).num_days() > MOST_DAYS {
        anyhow::bail!("from --since to --until are more than {MOST_DAYS} days");
    }
    let mut connection = store::open(database_url, Limits::MAINTENANCE)?;
    let (alerts, campaigns) = past::test(
        &mut connection,
        &rules,
        provisional_days,
        since.into(),
        until.into(),
    )?;
    for alert in &alerts {
        let opened = rfc3339_seconds(alert.opened_at);
        let until = alert
            .resolved_at
            .map_or_else(|| "open".to_owned(), rfc3339_seconds);
        let words = Measured::in_words(&alert.opened_values);
        let (rule, campaign) = (&alert.rule, &alert.campaign_id);
        writeln!(
            out,
            "{opened}  {until:<20}  {rule:<24} {campaign:<24} {words}"
        )?;
    }
    writeln!(
        out,
        "{} alerts of {} rules over {campaigns} campaigns, {} to {}",
        alerts.len(),
        rules.len(),
        rfc3339_seconds(since),
        rfc3339_seconds(until)
    )?;
    Ok(())
}

/// The longest past that is tested.
const MOST_DAYS: i64 = 400;
