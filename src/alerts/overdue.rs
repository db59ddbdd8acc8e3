//! Accounts whose reports stay away: the one alert of each that nobody writes a rule for.
//!
//! A report that does not come changes no sum, so no rule notices it. While partitions are behind, it may be among what is not
//! counted yet: then nothing is decided.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use diesel::PgConnection;

use super::document::{Document, Measured};
use super::parse;
use super::round::{About, Round, Subject, phase_of};
use super::rule::{Minutes, REPORTS, Severity};
use crate::store::keep::alerts::episodes::{self, Episode};
use crate::store::keep::alerts::rules;
use crate::store::read::descriptions::{NewestReport, newest_reports};
use crate::store::{self, StoreError};
use crate::time::{Length, Timestamp};

/// From which age on the newest report of an account is overdue; none: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue(pub Option<Minutes>);

impl Default for Overdue {
    /// Daily reports may be late by half a day.
    fn default() -> Overdue {
        Overdue(Some(Minutes(36 * 60)))
    }
}

impl FromStr for Overdue {
    type Err = String;

    /// Reads `36h`, `2d12h` or `off`.
    fn from_str(text: &str) -> Result<Overdue, String> {
        match text {
            "off" => Ok(Overdue(None)),
            text => parse::duration(text)
                .map(|after| Overdue(Some(after)))
                .map_err(|fault| format!("{}; or off", fault.message)),
        }
    }
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(after) => after.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// An account that has been silent for so long beyond that has ended: its silence opens nothing any more.
const ENDED_AFTER: Minutes = Minutes(7 * 1_440);

/// Whether the reports of an account stay away of which the newest is so old; none: it cannot be said.
fn stays_away(age: Length, after: Minutes, is_behind: bool) -> Option<bool> {
    let is_overdue = age > after.length();
    let has_ended = age > Minutes(after.0.saturating_add(ENDED_AFTER.0)).length();
    match is_overdue {
        false => Some(false),
        true => (!is_behind && !has_ended).then_some(true),
    }
}

/// Opens and resolves the alert of each account, in the transaction that reads whose reports are how old. Gives what opened or resolved.
///
/// # Errors
/// When the database does not do it.
pub fn round(
    connection: &mut PgConnection,
    overdue: Overdue,
    is_behind: bool,
    webhooks: &[String],
) -> Result<Vec<Document>, StoreError> {
    let now = store::clock(connection)?;
    let mut round = Round::new(now);
    let of_account = |e: Episode| ((e.platform, e.account_id.clone()), e);
    let there = episodes::unresolved_of_accounts(connection)?.into_iter();
    let mut there: HashMap<_, Episode> = there.map(of_account).collect();
    if let Overdue(Some(after)) = overdue {
        for newest in newest_reports(connection)? {
            let NewestReport {
                platform,
                account_id,
                observed_at,
            } = newest;
            let age = Timestamp::from(now) - observed_at;
            let subject = Subject {
                rule: REPORTS,
                about: About::Account(platform, &account_id),
                condition: format!("reports more than {after} old"),
                severity: Severity::Warning,
                webhooks,
            };
            let key = (Some(platform.index().into()), Some(account_id.clone()));
            let before = there.remove(&key);
            let (phase, transition) = phase_of(before.as_ref()).step(
                stays_away(age, after, is_behind),
                Minutes(0),
                now.into(),
            );
            let measured = transition.map(|_| vec![measured(&subject.condition, age, after)]);
            round.follow(&subject, before, phase, transition, measured, now);
        }
    }
    // Of accounts that are no more, or that nobody wants to hear of.
    for orphan in there.into_values() {
        round.resolve_orphan(orphan);
    }
    let is_muted = rules::muted(connection, REPORTS)?.is_some();
    round.write(connection, |_| is_muted)
}

/// How old the newest report is, in hours.
fn measured(condition: &str, age: Length, after: Minutes) -> Measured {
    let in_hours = |length: Length| (length / Length::SECOND) as f64 / 3_600.0;
    Measured {
        condition: condition.to_owned(),
        value: Some(in_hours(age)),
        threshold: Some(in_hours(after.length())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_as_it_is_written() {
        let read = |text: &str| text.parse::<Overdue>();
        for text in ["off", "1d12h", "90m"] {
            let shown = if text == "90m" { "1h30m" } else { text };
            assert_eq!(read(text).expect(text).to_string(), shown);
        }
        assert_eq!(read("36h"), Ok(Overdue::default()));
        for wrong in ["", "36", "0m", "never", "-1h"] {
            let said = read(wrong).expect_err(wrong);
            assert!(said.ends_with("; or off"), "{said}");
        }
    }

    #[test]
    fn what_is_overdue_is_told_until_it_has_ended() {
        let hours = |n: i64| Length::HOUR.times(n);
        let of = |age: i64, is_behind| stays_away(hours(age), Minutes(36 * 60), is_behind);
        assert_eq!(of(-1, false), Some(false), "a clock ahead");
        assert_eq!(of(36, false), Some(false));
        assert_eq!(of(37, false), Some(true));
        assert_eq!(of(37, true), None, "it may not be counted yet");
        assert_eq!(of(36, true), Some(false));
        assert_eq!(of(36 + 168, false), Some(true));
        assert_eq!(of(36 + 169, false), None, "ended");
    }
}
