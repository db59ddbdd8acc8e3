//! `adflux retain`: drops events and imported files that are older than they are to be kept, and says before what that would be.
//!
//! It is run every day, by cron: each run closes the period that is open if it has been for long enough, and drops those that have
//! been closed for as long as events are kept. How that is done, and why nothing is counted twice for it, is in
//! [`store::keep::retain`].

use std::fmt;
use std::io::Write;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::PgConnection;
use serde::Serialize;

use crate::event::Count;
use crate::store::keep::imports::{self, Contents};
use crate::store::keep::retain::{Period, Retaining, periods};
use crate::store::{self, Limits};
use crate::time::rfc3339_seconds;

/// A period is a thirteenth of the time for which events are kept: a year's come to be four weeks.
const PERIODS: u32 = 13;

/// How long what is kept.
pub struct Settings {
    pub database_url: String,
    /// Events, from when their period is closed on. None: for ever.
    pub events: Option<Duration>,
    /// After how long a period is closed; a thirteenth of the other if it is not said.
    pub period: Option<Duration>,
    /// What was in imported files, from when one was last imported on. None: for ever.
    pub originals: Option<Duration>,
    /// Says what would be done.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Debug, PartialEq, Serialize)]
pub struct Report {
    pub dry_run: bool,
    /// By the database's clock.
    pub now: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Plan>,
    /// Contents of imported files that are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub originals: Option<Contents>,
}

/// What becomes of the periods.
#[derive(Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The one that was open, if it is closed.
    pub closed: Option<i32>,
    pub dropped: Vec<Period>,
    pub kept: Vec<Period>,
    /// When the next of them is old enough, if a run closes the one that is open in time.
    pub next_due: Option<DateTime<Utc>>,
}

impl Plan {
    /// What is to be done at an instant with periods, the oldest first.
    fn at(now: DateTime<Utc>, periods: Vec<Period>, events: Duration, period: Duration) -> Plan {
        let [events, period] =
            [events, period].map(|length| TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX));
        let after = |at: DateTime<Utc>, length| at.checked_add_signed(length);
        let is_over = |at, length| after(at, length).is_some_and(|end| end <= now);
        let mut closed = None;
        let (dropped, kept): (Vec<Period>, Vec<Period>) = periods.into_iter().partition(|one| {
            let closed_at = one.closed_at.or_else(|| {
                is_over(one.opened_at, period).then(|| {
                    closed = Some(one.period);
                    now
                })
            });
            closed_at.is_some_and(|at| is_over(at, events))
        });
        let due = |one: &Period| {
            let closes_at = match one.closed_at {
                Some(at) => at,
                None => after(one.opened_at, period)?.max(now),
            };
            after(closes_at, events)
        };
        Plan {
            closed,
            next_due: kept.iter().filter_map(due).min(),
            dropped,
            kept,
        }
    }
}

/// Drops what is to be dropped, and returns what that was.
///
/// # Errors
/// When others are in the way for too long, or the database does not answer. The next run goes on where this one was.
pub fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut connection = store::connect(&settings.database_url, Limits::MAINTENANCE)?;
    store::Schema::of(&mut connection)?.is_up_to_date()?;
    let events = match settings.events {
        Some(events) => Some(of_events(settings, &mut connection, events)?),
        None => None,
    };
    let originals = match settings.originals {
        Some(age) if settings.dry_run => Some(imports::contents_older_than(&mut connection, age)?),
        Some(age) => Some(imports::drop_contents_older_than(&mut connection, age)?),
        None => None,
    };
    Ok(Report {
        dry_run: settings.dry_run,
        now: store::clock(&mut connection)?,
        events,
        originals,
    })
}

fn of_events(
    settings: &Settings,
    connection: &mut PgConnection,
    events: Duration,
) -> anyhow::Result<Plan> {
    let period = settings.period.unwrap_or(events / PERIODS);
    if settings.dry_run {
        let (now, periods) = periods(connection)?;
        return Ok(Plan::at(now, periods, events, period));
    }
    let mut retaining = Retaining::begin(&settings.database_url)?;
    let (now, periods) = retaining.periods()?;
    let closed = Plan::at(now, periods, events, period).closed;
    if closed.is_some() {
        retaining.close()?;
    }
    // Only once: the new one is open for no time.
    let (now, periods) = retaining.periods()?;
    let plan = Plan::at(now, periods, events, Duration::MAX);
    for period in &plan.dropped {
        retaining.drop(period)?;
        log::info!("dropped {period}");
    }
    let (now, periods) = retaining.periods()?;
    let after = Plan::at(now, periods, events, period);
    Ok(Plan {
        closed,
        dropped: plan.dropped,
        ..after
    })
}

impl Report {
    /// For people.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let would_be = if self.dry_run { "would be " } else { "" };
        if let Some(plan) = &self.events {
            for period in &plan.dropped {
                writeln!(out, "{would_be}dropped  {period}")?;
            }
            for period in &plan.kept {
                let is_closed = plan.closed == Some(period.period);
                let closed = if is_closed {
                    format!(" ({would_be}closed)")
                } else {
                    String::new()
                };
                writeln!(out, "kept  {period}{closed}")?;
            }
            match plan.next_due {
                Some(due) => writeln!(out, "the next is due at {}", rfc3339_seconds(due))?,
                None => writeln!(out, "none will be due")?,
            }
            writeln!(
                out,
                "sums of all events stay, and so do reports, dead letters and positions"
            )?;
        }
        if let Some(Contents { files, bytes }) = &self.originals {
            writeln!(
                out,
                "{would_be}dropped  what was in {files} imported files, {}; which they were, and as what they were imported, stays",
                megabytes(*bytes)
            )?;
        }
        if self.dry_run {
            writeln!(out, "nothing was changed (--dry-run)")?;
        }
        Ok(())
    }
}

fn megabytes(bytes: Count) -> String {
    let tenths = bytes.as_u64() / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "period {}: stored from {}",
            self.period,
            rfc3339_seconds(self.opened_at)
        )?;
        match self.closed_at {
            Some(at) => write!(f, " to {}", rfc3339_seconds(at))?,
            None => write!(f, " on")?,
        }
        write!(f, ", {} events", self.events)?;
        if let (Some(first), Some(last)) = (self.min_event_time, self.max_event_time) {
            write!(
                f,
                " that happened from {} to {}",
                rfc3339_seconds(first),
                rfc3339_seconds(last)
            )?;
        }
        write!(f, ", {}", megabytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(n: u32) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + DAY * n
    }

    /// Periods that were closed on these days, and the one that is open since the last of them.
    fn periods(closed: &[u32]) -> Vec<Period> {
        let mut opened = 0;
        let ends = closed.iter().copied().map(Some).chain([None]);
        (1..)
            .zip(ends)
            .map(|(period, end)| Period {
                period,
                opened_at: day(match end {
                    Some(end) => std::mem::replace(&mut opened, end),
                    None => opened,
                }),
                closed_at: end.map(day),
                events: Count::ZERO,
                bytes: Count::ZERO,
                min_event_time: None,
                max_event_time: None,
            })
            .collect()
    }

    fn numbers(periods: &[Period]) -> Vec<i32> {
        periods.iter().map(|period| period.period).collect()
    }

    #[test]
    fn a_period_is_dropped_once_it_has_been_closed_for_long_enough() {
        let plan = |now| Plan::at(day(now), periods(&[10, 20]), DAY * 30, DAY * 10);
        for (now, closed, dropped, due) in [
            (20, None, vec![], 40),
            (29, None, vec![], 40),
            (30, Some(3), vec![], 40),
            (39, Some(3), vec![], 40),
            (40, Some(3), vec![1], 50),
            (50, Some(3), vec![1, 2], 80),
        ] {
            let plan = plan(now);
            assert_eq!(
                (plan.closed, numbers(&plan.dropped), plan.next_due),
                (closed, dropped, Some(day(due))),
                "day {now}"
            );
        }
    }

    #[test]
    fn what_is_kept_for_no_time_goes_at_once_and_for_ever_never() {
        let plan = Plan::at(day(1), periods(&[]), Duration::ZERO, Duration::ZERO);
        assert_eq!((plan.closed, numbers(&plan.dropped)), (Some(1), vec![1]));
        let plan = Plan::at(day(9_999), periods(&[1]), Duration::MAX, Duration::MAX);
        assert_eq!(
            (plan.closed, plan.dropped.len(), plan.next_due),
            (None, 0, None)
        );
    }
}
