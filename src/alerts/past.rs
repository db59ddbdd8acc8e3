//! `adflux alerts test`: when rules would have opened and resolved.
//!
//! The same measuring and the same steps as live, minute by minute over the sums by the minute. Two
//! things differ: the sums are those known today, so a late event counts as if it had been on time, and so
//! is what is expected of days; and a minute is looked at as it was at its end, so what came and went within one is not seen.

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use super::document::Measured;
use super::evaluate::{Campaign, Phase, Transition, end_of_minute};
use super::facts::Facts;
use super::learned::Learned;
use super::rule::Rule;
use crate::expected::provisional::ProvisionalDays;
use crate::store::StoreError;
use crate::store::keep::alerts::counted;
use crate::store::keep::alerts::measure::{self, Minute};
use crate::store::read::insights::Window;
use crate::time::{Length, Timestamp};
use crate::totals::Totals;

/// An alert that would have been.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    pub rule: String,
    pub campaign_id: String,
    /// The minute in which it would have opened.
    pub opened_at: DateTime<Utc>,
    /// The minute in which it would have resolved; none: not before the end.
    pub resolved_at: Option<DateTime<Utc>>,
    /// What was measured when it opened.
    pub opened_values: Vec<Measured>,
}

/// What `rules` would have opened from `since` up to but not including `until`, by the time of
/// opening; and how many campaigns were looked at. A rule that held before `since` opens with it.
///
/// # Errors
/// When the database does not answer.
pub fn test(
    connection: &mut PgConnection,
    rules: &[Rule],
    provisional_days: ProvisionalDays,
    since: Timestamp,
    until: Timestamp,
) -> Result<(Vec<Past>, usize), StoreError> {
    const CHUNK: usize = 1_000;
    let mut out = Vec::new();
    let mut campaigns = 0;
    let mut after = String::new();
    let mut learned = Learned::default();
    loop {
        let names = counted::campaigns_after(connection, &after, None, CHUNK)?;
        let Some(last) = names.last() else {
            break;
        };
        after = last.clone();
        let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
        let lives = counted::lives(connection, &borrowed)?;
        let (days, all) = (provisional_days, rules.iter().collect::<Vec<&Rule>>());
        let facts = Facts::read(connection, &borrowed, &all, since, days, &mut learned)?;
        for name in &names {
            let concerned: Vec<&Rule> = rules
                .iter()
                .filter(|r| r.scope.has_campaign(name))
                .collect();
            let Some(first_event_time) = lives.get(name).map(|life| life.first_event_time) else {
                continue;
            };
            // One with nothing before the end has nothing to tell.
            if concerned.is_empty() || first_event_time >= until {
                continue;
            }
            campaigns += 1;
            let campaign = facts.of(name, first_event_time);
            let reaches = concerned
                .iter()
                .flat_map(|r| r.windows(since, campaign.calendar));
            let from = reaches.map(Window::since).min().unwrap_or(since);
            // Months differ in length: a window of the first minute may begin later than another's.
            let from = from - Length::DAY.times(31);
            let minutes = measure::minutes(connection, name, from, until)?;
            for rule in concerned {
                replay(rule, name, &campaign, &minutes, since..until, &mut out);
            }
        }
    }
    out.sort_by(|a, b| {
        (a.opened_at, &a.rule, &a.campaign_id).cmp(&(b.opened_at, &b.rule, &b.campaign_id))
    });
    Ok((out, campaigns))
}

/// One rule over one campaign.
fn replay(
    rule: &Rule,
    campaign_id: &str,
    campaign: &Campaign<'_>,
    minutes: &[Minute],
    span: std::ops::Range<Timestamp>,
    out: &mut Vec<Past>,
) {
    let running = Running::of(
        minutes
            .iter()
            .filter(|m| rule.scope.has_platform(m.platform)),
    );
    let mut phase = Phase::Quiet;
    let mut open: Option<Past> = None;
    // No campaign exists before its first event.
    let mut now = span
        .start
        .max(campaign.first_event_time)
        .floor(Length::MINUTE);
    while now < span.end {
        let verdict = rule
            .when
            .measure(now, campaign, &|window| running.within(window));
        let (next, transition) = phase.step(verdict.holds(), rule.hold, now);
        phase = next;
        // Between a stored event and the database's clock: far from the ends of the calendar.
        let time = now.datetime().unwrap_or_default();
        match transition {
            Some(Transition::Opened) => {
                open = Some(Past {
                    rule: rule.name.clone(),
                    campaign_id: campaign_id.to_owned(),
                    opened_at: time,
                    resolved_at: None,
                    opened_values: Measured::of(&rule.when, &verdict),
                });
            }
            Some(Transition::Resolved) => {
                out.extend(open.take().map(|past| Past {
                    resolved_at: Some(time),
                    ..past
                }));
            }
            None => {}
        }
        now = end_of_minute(now);
    }
    out.extend(open);
}

/// Running sums: any window is the difference of two.
struct Running {
    /// The sum of everything before the end of each minute that has events.
    upto: Vec<(Timestamp, Totals)>,
}

impl Running {
    fn of<'a>(minutes: impl Iterator<Item = &'a Minute>) -> Running {
        let mut sum = Totals::default();
        let upto = minutes.map(|minute| {
            sum = sum.saturating_add(minute.totals);
            (minute.start, sum)
        });
        Running {
            upto: upto.collect(),
        }
    }

    fn before(&self, time: Timestamp) -> Totals {
        let n = self.upto.partition_point(|(start, _)| *start < time);
        let last = n.checked_sub(1).and_then(|n| self.upto.get(n));
        last.map_or_else(Totals::default, |(_, sum)| *sum)
    }

    fn within(&self, window: Window) -> Totals {
        let upto = self.before(window.until());
        upto.saturating_sub(self.before(window.since()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::calendar::Calendar;
    use crate::alerts::draft::Draft;
    use crate::event::{Counts, Platform};

    #[test]
    fn opens_and_resolves_with_the_minutes() {
        let draft = Draft {
            name: "burning".into(),
            when: "cost > 50 over 3m".into(),
            ..Draft::default()
        };
        let rule = draft.check(&|_| false).expect("a rule");
        let minute = |n: i64| Timestamp::EPOCH + Length::MINUTE.times(n);
        // 30 in each of the minutes 10 to 12.
        let minutes: Vec<Minute> = (10..13)
            .map(|n| Minute {
                start: minute(n),
                platform: Platform::Meta,
                totals: Totals::of(Counts::of([0, 0, 0, 30_000_000, 0])),
            })
            .collect();
        let mut out = Vec::new();
        replay(
            &rule,
            "cmp-1",
            &Campaign {
                first_event_time: minute(10),
                calendar: Calendar::default(),
                growth: None,
            },
            &minutes,
            minute(5)..minute(20),
            &mut out,
        );
        assert_eq!(out.len(), 1, "{out:?}");
        let past = &out[0];
        assert_eq!(Timestamp::from(past.opened_at), minute(11));
        assert_eq!(past.opened_values[0].value, Some(60.0));
        // Minutes 12 to 14 still have 30 of the twelfth alone: no longer more than 50 at 14.
        assert_eq!(past.resolved_at.map(Timestamp::from), Some(minute(14)));
    }
}
