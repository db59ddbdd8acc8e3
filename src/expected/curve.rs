//! What was known of one day, by its age.
//!
//! A day's age is how many days of its account's zone it is past, by the clock at which the account was asked last: on the day
//! itself 0. That clock matters. Of a day that is asked about at ten in the morning, past days say something by what was known of
//! them at ten in the morning, not by all that was known of them by midnight.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

/// Between two answers that are at most so many days apart, what was known is taken to have grown as days do: exports are skipped on
/// weekends, or made once a week. A day that was asked about at longer intervals says nothing of the time between.
pub const LONGEST_GAP: usize = 7;

const HALF_A_DAY: TimeDelta = TimeDelta::hours(12);

/// How old `day` is at a time of its zone, and how far that is from being exactly so many days at this time of day. None before it.
pub fn age(day: NaiveDate, clock: NaiveTime, asked: NaiveDateTime) -> Option<(usize, TimeDelta)> {
    let past = asked.signed_duration_since(day.and_time(clock));
    let days = past.checked_add(&HALF_A_DAY)?;
    if days < TimeDelta::zero() {
        return None;
    }
    let days = days.num_days();
    let off = past.checked_sub(&TimeDelta::try_days(days)?)?;
    Some((usize::try_from(days).ok()?, off.abs()))
}

/// See the module. Of an account's day, or of one of its campaigns'.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub day: NaiveDate,
    /// What the platform said at each age, in millionths; none: it was not asked.
    said: Vec<Option<f64>>,
}

impl Curve {
    /// Of what the platform said at times of the day's zone, in any order. At each age, what it said nearest to `clock` counts. `provisional`: the
    /// age from which on a day is final.
    pub fn new(
        day: NaiveDate,
        clock: NaiveTime,
        provisional: usize,
        answers: impl IntoIterator<Item = (NaiveDateTime, f64)>,
    ) -> Curve {
        let mut nearest: BTreeMap<usize, (TimeDelta, f64)> = BTreeMap::new();
        for (asked, value) in answers {
            let Some((age, off)) = age(day, clock, asked) else {
                continue;
            };
            let place = nearest.entry(age).or_insert((off, value));
            if off < place.0 {
                *place = (off, value);
            }
        }
        let mut said = vec![None; provisional + LONGEST_GAP + 1];
        let mut before: Option<(usize, f64)> = None;
        for (age, (_, value)) in nearest {
            // Of a number that was said again and again, the first time and the last are remembered.
            let same = before.filter(|(_, was)| *was == value);
            let since = same.map_or(age, |(since, _)| since);
            let until = age.saturating_add(1);
            said.iter_mut()
                .take(until)
                .skip(since)
                .for_each(|place| *place = Some(value));
            before = Some((age, value));
        }
        Curve { day, said }
    }

    /// How old the day is on another one; none before it.
    pub fn old(&self, on: NaiveDate) -> Option<usize> {
        usize::try_from(on.signed_duration_since(self.day).num_days()).ok()
    }

    /// How it ended, as it was known on a day; none if it was not final by then.
    pub fn end(&self, on: NaiveDate, provisional: usize) -> Option<f64> {
        let known = self.known(self.old(on)?, provisional, &Level::default());
        known.last().copied().flatten()
    }

    /// What the platform said at this age.
    pub fn at(&self, age: usize) -> Option<f64> {
        self.said.get(age).copied().flatten()
    }

    /// The last that it said before the day was final, and at which age.
    pub fn last(&self, provisional: usize) -> Option<(usize, f64)> {
        let said = self.said.iter().take(provisional).enumerate();
        said.rev()
            .find_map(|(age, value)| value.map(|value| (age, value)))
    }

    /// What was known at each age up to `provisional`, when the day was `until` days old.
    ///
    /// Between two answers that are not too far apart it grew as `level` does, which says by age how much of a day is known then. What
    /// was said last shortly before the day was final is final.
    pub fn known(&self, until: usize, provisional: usize, level: &Level) -> Vec<Option<f64>> {
        let mut known = vec![None; provisional + 1];
        let mut before: Option<(usize, f64)> = None;
        let seen = self.said.iter().take(until.saturating_add(1)).enumerate();
        for (age, value) in seen.filter_map(|(age, value)| value.map(|value| (age, value))) {
            let gap = before.filter(|(from, _)| age - from <= LONGEST_GAP);
            let (from, was) = gap.unwrap_or((age, value));
            for (between, place) in known.iter_mut().enumerate().take(age).skip(from + 1) {
                *place = Some(was + (value - was) * level.way(from, between, age));
            }
            if let Some(place) = known.get_mut(age) {
                *place = Some(value);
            }
            before = Some((age, value));
        }
        if until >= provisional
            && let Some((last, value)) = before
            && last + LONGEST_GAP >= provisional
        {
            known
                .iter_mut()
                .skip(last)
                .for_each(|place| *place = Some(value));
        }
        known
    }
}

/// How much of a day is known at an age, as far as that can be told without knowing by how much days grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level(Vec<f64>);

impl Level {
    /// Of days of which it is known how they ended: at each age, the sum of those of which the platform said something then, by what they
    /// came to.
    pub fn of<'a>(ended: impl IntoIterator<Item = (&'a Curve, f64)>) -> Level {
        let mut sums: Vec<(f64, f64)> = Vec::new();
        for (curve, end) in ended {
            sums.resize(sums.len().max(curve.said.len()), (0.0, 0.0));
            for (sums, said) in sums.iter_mut().zip(&curve.said) {
                if let Some(said) = said {
                    sums.0 += said;
                    sums.1 += end;
                }
            }
        }
        let mut level = 0.0_f64;
        let levels = sums.into_iter().map(|(said, end)| {
            if end > 0.0 {
                level = level.max(said / end);
            }
            level
        });
        Level(levels.collect())
    }

    /// How far it is from one age to another, as a fraction; where it doesn't tell, evenly.
    fn way(&self, from: usize, between: usize, to: usize) -> f64 {
        let at = |age: usize| self.0.get(age).copied();
        let level = at(from).zip(at(between)).zip(at(to));
        let way = level
            .and_then(|((from, between), to)| (to > from).then(|| (between - from) / (to - from)));
        way.unwrap_or_else(|| (between - from) as f64 / (to - from) as f64)
    }
}
