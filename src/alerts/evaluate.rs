//! Whether a rule holds, and what follows. Pure: sums and the time are passed in.
//!
//! **Time** is event time. Windows end with the current minute, the finest grain of the sums: `over
//! 1h` is that minute and the 59 before it. So a value changes with a commit, or with the minute. Windows of what is
//! settled or expected are of whole days of the campaign's [`Calendar`], and move on with them.
//!
//! **No value**, as a ratio has none whose denominator is zero, is neither true nor false. Joined by
//! `and` it gives way to a false one (Kleene's logic), else it leaves the rule undecided; and an
//! undecided rule neither opens an alert nor resolves one.

use chrono::{Datelike as _, Days, NaiveDate, NaiveTime};

use super::calendar::Calendar;
use super::growth::Growth;
use super::rule::{Basis, Condition, Minutes, Over, Period, Rule, When};
use crate::event::Count;
use crate::store::read::insights::Window;
use crate::time::{Length, Timestamp};
use crate::totals::Totals;
use crate::totals::metric::{Metric, Unit};

/// What one condition was measured at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The metric's value.
    pub value: Option<f64>,
    /// What it was compared with.
    pub threshold: Option<f64>,
    /// Whether the condition holds; none: it cannot be said.
    pub holds: Option<bool>,
}

/// What a rule was measured at: a reading for each of its conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub readings: Vec<Reading>,
}

impl Verdict {
    /// Whether the rule holds; none: undecided.
    pub fn holds(&self) -> Option<bool> {
        let all = || self.readings.iter().map(|r| r.holds);
        if all().any(|h| h == Some(false)) {
            Some(false)
        } else if all().any(|h| h.is_none()) {
            None
        } else {
            Some(true)
        }
    }
}

/// A campaign that has been silent for so long beyond what a rule allows has ended: its silence
/// opens nothing any more.
const ENDED_AFTER: Minutes = Minutes(7 * 1_440);
/// A pace is known once this part of its period has passed; before, one click would decide.
const PACE_KNOWN_AFTER: i64 = 24;

/// What is known of a campaign, beside its sums.
#[derive(Clone, Copy, Debug)]
pub struct Campaign<'a> {
    pub first_event_time: Timestamp,
    pub calendar: Calendar,
    /// By how much its days will still grow; none: nobody can say.
    pub growth: Option<&'a Growth>,
}

/// What a window of a condition holds.
#[derive(Clone, Copy, Default)]
struct Span {
    since: Timestamp,
    until: Timestamp,
    known: Totals,
}

impl Rule {
    /// The windows whose sums it needs at `now`.
    pub fn windows(&self, now: Timestamp, calendar: Calendar) -> Vec<Window> {
        self.when.windows(now, calendar)
    }
}

impl When {
    /// As [`Rule::windows`].
    pub fn windows(&self, now: Timestamp, calendar: Calendar) -> Vec<Window> {
        let all = self.0.iter().flat_map(|c| c.spans(now, calendar));
        all.filter_map(|(since, until)| Window::covering(since, until))
            .collect()
    }

    /// Whether some of its windows are of whole days.
    pub fn has_days(&self) -> bool {
        self.0.iter().any(|c| c.basis().has_days())
    }

    /// Whether something in it is expected.
    pub fn expects(&self) -> bool {
        self.0.iter().any(|c| c.basis() == Basis::Expected)
    }

    /// Measures it at `now`. `sums` answers for each of [`When::windows`].
    pub fn measure(
        &self,
        now: Timestamp,
        campaign: &Campaign<'_>,
        sums: &dyn Fn(Window) -> Totals,
    ) -> Verdict {
        let readings = self.0.iter().map(|condition| {
            let spans = condition.spans(now, campaign.calendar);
            let spans: Vec<Span> = spans
                .into_iter()
                .map(|(since, until)| Span {
                    since,
                    until,
                    known: Window::covering(since, until).map_or_else(Totals::default, sums),
                })
                .collect();
            condition.read(now, campaign, &spans)
        });
        let readings = readings.collect();
        Verdict { readings }
    }
}

impl Over {
    /// Where the window ends at `now`.
    fn end(self, now: Timestamp, calendar: Calendar) -> Timestamp {
        match self.basis {
            Basis::Known => end_of_minute(now),
            Basis::Settled => calendar.settled_until(now),
            Basis::Expected => calendar.days_before(now, 0),
        }
    }

    /// So long before the window's end, or what is before it.
    fn before(self, end: Timestamp, length: Minutes, calendar: Calendar) -> Timestamp {
        match length.days().filter(|_| self.basis.has_days()) {
            Some(days) => calendar.days_before(end, days),
            None => end - length.length(),
        }
    }
}

impl Condition {
    /// What of a campaign its windows hold.
    fn basis(&self) -> Basis {
        match self {
            Condition::Number { over, .. } | Condition::Mean { over, .. } => over.basis,
            Condition::Pace { .. } | Condition::NoData { .. } => Basis::Known,
        }
    }

    /// The spans it adds up.
    fn spans(&self, now: Timestamp, calendar: Calendar) -> Vec<(Timestamp, Timestamp)> {
        let end = end_of_minute(now);
        match self {
            Condition::Number { over, .. } => {
                let end = over.end(now, calendar);
                vec![(over.before(end, over.length, calendar), end)]
            }
            Condition::Mean {
                over, mean_over, ..
            } => {
                let end = over.end(now, calendar);
                let start = over.before(end, over.length, calendar);
                // Before the window, so that a fall does not lower the mean it is held against.
                let since = over.before(start, *mean_over, calendar);
                vec![(start, end), (since, start)]
            }
            Condition::Pace { period, .. } => vec![(period_of(*period, now).0, end)],
            Condition::NoData { minutes } => {
                // Whole minutes before the current one, so that the silence is no shorter.
                let start = end - Length::MINUTE - minutes.length();
                vec![(start, end), (start - ENDED_AFTER.length(), start)]
            }
        }
    }

    /// What it is at `now`, given its spans and what they hold.
    fn read(&self, now: Timestamp, campaign: &Campaign<'_>, spans: &[Span]) -> Reading {
        // There are as many as `spans` names.
        let of = |n: usize| spans.get(n).copied().unwrap_or_default();
        let total = |metric: Metric, n: usize| match self.basis() {
            Basis::Known | Basis::Settled => Some(of(n).known),
            Basis::Expected => {
                let Span {
                    since,
                    until,
                    known,
                } = of(n);
                let growth = campaign.growth?;
                growth.ended(known, metric.rests_on(), since, until)
            }
        };
        let value = |metric: Metric| total(metric, 0).and_then(|t| metric.of(&t).number());
        let (value, threshold, operator) = match self {
            Condition::Number {
                metric,
                operator,
                number,
                ..
            } => (value(*metric), Some(number.to_f64()), *operator),
            Condition::Mean {
                metric,
                over,
                operator,
                percent,
                ..
            } => {
                let Span { since, until, .. } = of(1);
                let since = since.max(campaign.first_event_time);
                // Not all days are as long as each other, but each is one.
                let span = match over.basis.has_days() {
                    true => Length::DAY.times(campaign.calendar.days_between(since, until)),
                    false => until - since,
                };
                let mean = total(*metric, 1);
                let mean = mean.and_then(|t| mean_of(*metric, &t, span, over.length.length()));
                let threshold = mean.map(|mean| mean * percent.to_f64() / 100.0);
                (value(*metric), threshold, *operator)
            }
            Condition::Pace {
                operator,
                percent,
                budget,
                period,
            } => {
                let (start, length) = period_of(*period, now);
                let passed = end_of_minute(now) - start;
                let known = passed.times(PACE_KNOWN_AFTER) >= length;
                let share = passed.get() as f64 / length.get() as f64;
                let threshold = known.then_some(budget.to_f64() * share * percent.to_f64() / 100.0);
                (value(Metric::Cost), threshold, *operator)
            }
            Condition::NoData { .. } => {
                let events = of(0).known.events;
                let has_ended = of(1).known.events == Count::ZERO;
                return Reading {
                    value: Some(events.as_f64()),
                    threshold: None,
                    holds: match events {
                        Count::ZERO if has_ended => None,
                        events => Some(events == Count::ZERO),
                    },
                };
            }
        };
        Reading {
            value,
            threshold,
            holds: value
                .zip(threshold)
                .map(|(value, threshold)| operator.holds(value, threshold)),
        }
    }
}

/// The mean of a metric for a window, over a longer span before it. That of a ratio is the ratio of
/// the sums; that of a sum is the part of it that a window would have had. None while the span holds
/// less than one window of the campaign's life.
fn mean_of(metric: Metric, totals: &Totals, span: Length, window: Length) -> Option<f64> {
    if span < window {
        return None;
    }
    let value = metric.of(totals).number()?;
    Some(match metric.unit() {
        Unit::Ratio => value,
        Unit::Count | Unit::Conversions | Unit::Micros | Unit::Money => {
            value * window.get() as f64 / span.get() as f64
        }
    })
}

/// The first microsecond after the minute of `now`.
pub fn end_of_minute(now: Timestamp) -> Timestamp {
    now.floor(Length::MINUTE) + Length::MINUTE
}

/// Where the period of `now` begins, and how long it is.
fn period_of(period: Period, now: Timestamp) -> (Timestamp, Length) {
    let aligned = |length: Length| (now.floor(length), length);
    match period {
        Period::Hour => aligned(Length::HOUR),
        Period::Day => aligned(Length::DAY),
        Period::Week => {
            // 1970-01-01 was a Thursday: three days after a Monday.
            let monday = Length::DAY.times(3);
            let length = Length::DAY.times(7);
            ((now + monday).floor(length) - monday, length)
        }
        Period::Month => {
            // A clock's time is far from the ends of the calendar, and every month has a first.
            let today = now.datetime().unwrap_or_default();
            let first = today.date_naive().with_day(1).unwrap_or_default();
            // Past its end, whatever its length, and then back to the first.
            let next = first.checked_add_days(Days::new(31)).unwrap_or(first);
            let next = next.with_day(1).unwrap_or(next);
            let midnight =
                |date: NaiveDate| Timestamp::from(date.and_time(NaiveTime::MIN).and_utc());
            (midnight(first), midnight(next) - midnight(first))
        }
    }
}

/// Where a rule stands with a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no alert.
    Quiet,
    /// The rule holds since then, but not yet for as long as it must.
    Pending { since: Timestamp },
    /// There is an alert; the rule has not held since then, but not yet for long enough.
    Open { clear_since: Option<Timestamp> },
}

/// What happens to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    Opened,
    Resolved,
}

impl Phase {
    /// What follows at `now` from what the rule says. Undecided breaks what has been waited for: a
    /// rule opens only when it held all the time.
    pub fn step(
        self,
        holds: Option<bool>,
        hold: Minutes,
        now: Timestamp,
    ) -> (Phase, Option<Transition>) {
        let long_enough = |since: Timestamp| now - since >= hold.length();
        match (self, holds) {
            (Phase::Quiet, Some(true)) if long_enough(now) => opened(),
            (Phase::Quiet, Some(true)) => (Phase::Pending { since: now }, None),
            (Phase::Pending { since }, Some(true)) if long_enough(since) => opened(),
            (Phase::Pending { .. }, Some(true)) => (self, None),
            (Phase::Quiet | Phase::Pending { .. }, Some(false) | None) => (Phase::Quiet, None),
            (Phase::Open { .. }, Some(true) | None) => (Phase::Open { clear_since: None }, None),
            (Phase::Open { clear_since }, Some(false)) => {
                let since = clear_since.unwrap_or(now);
                if long_enough(since) {
                    (Phase::Quiet, Some(Transition::Resolved))
                } else {
                    let clear_since = Some(since);
                    (Phase::Open { clear_since }, None)
                }
            }
        }
    }
}

fn opened() -> (Phase, Option<Transition>) {
    let phase = Phase::Open { clear_since: None };
    (phase, Some(Transition::Opened))
}

#[cfg(test)]
mod tests;
