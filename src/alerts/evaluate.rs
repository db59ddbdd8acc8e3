//! Whether a rule holds, and what follows. Pure: sums and the time are passed in.
//!
//! **Time** is event time. Windows end with the current minute, the finest grain of the sums: `over
//! 1h` is that minute and the 59 before it. So a value changes with a commit, or with the minute.
//!
//! **No value**, as a ratio has none whose denominator is zero, is neither true nor false. Joined by
//! `and` it gives way to a false one (Kleene's logic), else it leaves the rule undecided; and an
//! undecided rule neither opens an alert nor resolves one.

use chrono::{Datelike as _, Days, NaiveDate, NaiveTime};

use super::rule::{Condition, Minutes, Period, Rule, When};
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

impl Rule {
    /// The windows whose sums it needs at `now`.
    pub fn windows(&self, now: Timestamp) -> Vec<Window> {
        self.when.windows(now)
    }
}

impl When {
    /// As [`Rule::windows`].
    pub fn windows(&self, now: Timestamp) -> Vec<Window> {
        let all = self.0.iter().flat_map(|c| c.spans(now));
        all.filter_map(|(since, until)| Window::covering(since, until))
            .collect()
    }

    /// Measures it at `now`. `sums` answers for each of [`When::windows`]; `first_event_time` is the
    /// campaign's.
    pub fn measure(
        &self,
        now: Timestamp,
        first_event_time: Timestamp,
        sums: &dyn Fn(Window) -> Totals,
    ) -> Verdict {
        let readings = self
            .0
            .iter()
            .map(|condition| {
                let totals: Vec<Totals> = condition
                    .spans(now)
                    .iter()
                    .map(|&(since, until)| {
                        Window::covering(since, until).map_or_else(Totals::default, sums)
                    })
                    .collect();
                condition.read(now, first_event_time, &totals)
            })
            .collect();
        Verdict { readings }
    }
}

impl Condition {
    /// The spans it adds up.
    fn spans(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let end = end_of_minute(now);
        match self {
            Condition::Number { over, .. } => vec![(end - over.length(), end)],
            Condition::Mean {
                over, mean_over, ..
            } => {
                let start = end - over.length();
                // Before the window, so that a fall does not lower the mean it is held against.
                vec![(start, end), (start - mean_over.length(), start)]
            }
            Condition::Pace { period, .. } => vec![(period_of(*period, now).0, end)],
            Condition::NoData { minutes } => {
                // Whole minutes before the current one, so that the silence is no shorter.
                let start = end - Length::MINUTE - minutes.length();
                vec![(start, end), (start - ENDED_AFTER.length(), start)]
            }
        }
    }

    /// What it is at `now`, given the totals of its spans.
    fn read(&self, now: Timestamp, first_event_time: Timestamp, totals: &[Totals]) -> Reading {
        // There are as many as `spans` names.
        let of = |n: usize| totals.get(n).copied().unwrap_or_default();
        let (value, threshold, operator) = match self {
            Condition::Number {
                metric,
                operator,
                number,
                ..
            } => (metric.of(&of(0)).number(), Some(number.to_f64()), *operator),
            Condition::Mean {
                metric,
                over,
                operator,
                percent,
                mean_over,
            } => {
                let until = end_of_minute(now) - over.length();
                let since = (until - mean_over.length()).max(first_event_time);
                let mean = mean(*metric, &of(1), until - since, over.length());
                let threshold = mean.map(|mean| mean * percent.to_f64() / 100.0);
                (metric.of(&of(0)).number(), threshold, *operator)
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
                (Metric::Cost.of(&of(0)).number(), threshold, *operator)
            }
            Condition::NoData { .. } => {
                let events = of(0).events;
                let has_ended = of(1).events == Count::ZERO;
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
fn mean(metric: Metric, totals: &Totals, span: Length, window: Length) -> Option<f64> {
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
mod tests {
    use super::*;
    use crate::alerts::parse;
    use crate::event::{Counts, MILLION};
    use crate::time::parse_rfc3339;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        parse_rfc3339(text).expect("a time").into()
    }

    fn now() -> Timestamp {
        at("2026-03-05T12:34:56.789Z")
    }

    /// Impressions, clicks, conversions, cost and revenue in whole units.
    fn totals([impressions, clicks, conversions, cost, revenue]: [i64; 5]) -> Totals {
        let [conversions, cost, revenue] =
            [conversions, cost, revenue].map(|units| units * MILLION);
        Totals::of(Counts::of([
            impressions,
            clicks,
            conversions,
            cost,
            revenue,
        ]))
    }

    fn holds(text: &str, sums: &dyn Fn(Window) -> Totals) -> Option<bool> {
        let when = parse::when(text).expect(text);
        when.measure(now(), Timestamp::EPOCH, sums).holds()
    }

    #[test]
    fn windows_end_with_the_current_minute() {
        let shown = |text: &str| -> Vec<String> {
            let when = parse::when(text).expect(text);
            let time = |t: Timestamp| {
                let time = t.datetime().expect("valid");
                time.format("%m-%dT%H:%M").to_string()
            };
            when.windows(now())
                .into_iter()
                .map(|w| format!("{}/{}", time(w.since()), time(w.until())))
                .collect()
        };
        assert_eq!(shown("roas < 1 over 1h"), ["03-05T11:35/03-05T12:35"]);
        assert_eq!(
            shown("ctr over 1d < 80% of mean over 7d"),
            ["03-04T12:35/03-05T12:35", "02-25T12:35/03-04T12:35"]
        );
        for (period, since) in [
            ("hour", "03-05T12:00"),
            ("day", "03-05T00:00"),
            ("week", "03-02T00:00"),
            ("month", "03-01T00:00"),
        ] {
            let rule = format!("cost pace > 110% of budget 500 per {period}");
            assert_eq!(shown(&rule), [format!("{since}/03-05T12:35")]);
        }
        assert_eq!(
            shown("no data for 30m"),
            ["03-05T12:04/03-05T12:35", "02-26T12:04/03-05T12:04"]
        );
    }

    #[test]
    fn no_value_gives_way_to_false_and_else_decides_nothing() {
        let nothing = |_| Totals::default();
        assert_eq!(holds("roas < 1 over 1h", &nothing), None);
        assert_eq!(
            holds("roas < 1 over 1h and cost > 50", &nothing),
            Some(false)
        );
        assert_eq!(holds("roas < 1 over 1h and cost < 50", &nothing), None);
        let burning = |_| totals([1000, 10, 0, 60, 59]);
        assert_eq!(
            holds("roas < 1 over 1h and cost > 50", &burning),
            Some(true)
        );
        assert_eq!(
            holds("cost > 60 over 1d and conversions = 0", &burning),
            Some(false)
        );
        assert_eq!(
            holds("cost >= 60 over 1d and conversions = 0", &burning),
            Some(true)
        );
    }

    #[test]
    fn conversions_are_compared_as_the_numbers_they_are() {
        let some = |_| Totals::of(Counts::of([1_000, 10, 1_750_000, 7_000_000, 0]));
        for (text, expected) in [
            ("conversions > 1.5 over 1d", true),
            ("conversions > 1.75 over 1d", false),
            ("conversions = 0 over 1d", false),
            ("cpa = 4 over 1d", true),
            ("cvr = 0.175 over 1d", true),
        ] {
            assert_eq!(holds(text, &some), Some(expected), "{text}");
        }
        // The mean of a sum is that of conversions, too.
        let fallen = |w: Window| {
            let millionths = if w.until() - w.since() == Length::DAY {
                500_000
            } else {
                7_000_000
            };
            Totals::of(Counts::of([0, 0, millionths, 0, 0]))
        };
        let text = "conversions over 1d < 60% of mean over 7d";
        assert_eq!(holds(text, &fallen), Some(true));
    }

    #[test]
    fn a_mean_is_that_of_the_time_before() {
        let day = Length::DAY;
        // 0.5 % in the last day, 1 % in the seven before.
        let falling = |w: Window| {
            if w.until() - w.since() == day {
                totals([20_000, 100, 0, 10, 0])
            } else {
                totals([140_000, 1_400, 0, 70, 0])
            }
        };
        let rule = "ctr < 80% of mean over 7d and impressions > 10000 over 1d";
        assert_eq!(holds(rule, &falling), Some(true));
        let steady = |w: Window| {
            let days = (w.until() - w.since()) / day;
            totals([20_000 * days, 200 * days, 0, 10 * days, 0])
        };
        assert_eq!(holds(rule, &steady), Some(false));
        // A sum's mean is what a window had of it.
        assert_eq!(
            holds("cost over 1d = 100% of mean over 7d", &steady),
            Some(true)
        );

        // A campaign that began two days ago has the mean of one; one of today has none.
        let when = parse::when("cost over 1d = 100% of mean over 7d").expect("a rule");
        let young = |w: Window| {
            let days = if w.until() - w.since() == day { 2 } else { 1 };
            totals([0, 0, 0, 10 * days, 0])
        };
        let reading = |began: Timestamp| when.measure(now(), began, &young).readings[0];
        let two_days_ago = end_of_minute(now()) - day.times(2);
        assert_eq!(reading(two_days_ago).threshold, Some(10.0));
        assert_eq!(reading(two_days_ago + day).holds, None);
    }

    #[test]
    fn a_pace_is_held_against_the_part_of_the_period_that_has_passed() {
        let rule = parse::when("cost pace > 110% of budget 480 per day").expect("a rule");
        let spent = |cost: i64| move |_: Window| totals([0, 0, 0, cost, 0]);
        let noon = at("2026-03-05T11:59:30Z");
        let reading = |now: Timestamp, cost: i64| {
            rule.measure(now, Timestamp::EPOCH, &spent(cost)).readings[0]
        };
        assert_eq!(reading(noon, 240).threshold, Some(264.0));
        assert_eq!(reading(noon, 264).holds, Some(false));
        assert_eq!(reading(noon, 265).holds, Some(true));
        assert_eq!(reading(at("2026-03-05T00:58:30Z"), 265).holds, None);
        assert_eq!(reading(at("2026-03-05T00:59:30Z"), 265).holds, Some(true));
    }

    #[test]
    fn silence_of_what_has_ended_opens_nothing() {
        let now_and_then = |now: i64, then: i64| {
            move |w: Window| Totals {
                events: Count::new(if w.until() - w.since() < Length::DAY {
                    now
                } else {
                    then
                }),
                ..Totals::default()
            }
        };
        let rule = "no data for 30m";
        assert_eq!(holds(rule, &now_and_then(0, 5)), Some(true));
        assert_eq!(holds(rule, &now_and_then(1, 5)), Some(false));
        assert_eq!(holds(rule, &now_and_then(0, 0)), None);
    }

    proptest! {
        /// It opens and resolves by turns, and only after the rule said so for long enough.
        #[test]
        fn opens_and_resolves_by_turns(
            said in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 0..60),
            hold in 0u32..5,
        ) {
            let mut phase = Phase::Quiet;
            let mut is_open = false;
            for (n, holds) in said.iter().enumerate() {
                let (next, transition) = phase.step(*holds, Minutes(hold), Timestamp::EPOCH + Length::MINUTE.times(n as i64));
                let wanted = match transition {
                    None => None,
                    Some(Transition::Opened) => { prop_assert!(!is_open); is_open = true; Some(true) }
                    Some(Transition::Resolved) => { prop_assert!(is_open); is_open = false; Some(false) }
                };
                if wanted.is_some() {
                    let first = n.checked_sub(hold as usize);
                    prop_assert!(first.is_some());
                    let lasted = said[first.unwrap_or(0)..=n].iter().all(|h| *h == wanted);
                    prop_assert!(lasted, "{said:?} at {n}");
                }
                prop_assert_eq!(is_open, matches!(next, Phase::Open { .. }));
                phase = next;
            }
        }

        #[test]
        fn a_period_holds_its_moment(now in 0i64..4_000_000_000_000_000) {
            let now = Timestamp::new(now);
            for period in Period::ALL {
                let (start, length) = period_of(period, now);
                prop_assert!(start <= now && now < start + length, "{period:?}");
            }
        }
    }
}
