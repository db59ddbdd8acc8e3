//! How good it would have been: each past day is expected again from what was known at each of its ages, and held against how it
//! ended.
//!
//! Nothing is learned from what came later: for a day at an age, all is hidden that was said after the day on which it had that age, of it and of
//! all others.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use serde::Serialize;

use super::curve::Curve;
use super::development::{Development, LOOK_BACK};

/// How days of one age would have been judged. Errors are fractions of the final value; half of the days had less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judged {
    pub age: usize,
    /// Days that something was expected of.
    pub days: usize,
    /// The error of what was expected.
    pub expected_error: f64,
    /// The error of taking what was known for what will be.
    pub known_error: f64,
    /// The share of days that ended within the interval, which four in five should.
    pub held: f64,
}

/// Judges each of `ages` by all days that were final on the day `newest`.
pub fn backtest(
    curves: &[Curve],
    newest: NaiveDate,
    provisional: usize,
    ages: &[usize],
) -> Vec<Judged> {
    let mut by_day: BTreeMap<NaiveDate, Vec<&Curve>> = BTreeMap::new();
    for curve in curves {
        by_day.entry(curve.day).or_default().push(curve);
    }
    let mut tried: Vec<Tried> = vec![Tried::default(); ages.len()];
    let first = by_day.keys().next().copied().unwrap_or(newest);
    let moments = first.iter_days().take_while(|moment| *moment <= newest);
    for moment in moments {
        let since = moment.checked_sub_days(Days::new(LOOK_BACK.into()));
        let seen = by_day.range(since.unwrap_or(NaiveDate::MIN)..=moment);
        let seen = seen.flat_map(|(_, curves)| curves.iter().copied());
        let development = Development::learn(seen, moment, provisional);
        for (age, tried) in ages.iter().zip(&mut tried) {
            let day = moment.checked_sub_days(Days::new(*age as u64));
            let curves = day.and_then(|day| by_day.get(&day));
            for curve in curves.into_iter().flatten() {
                let ended = curve.end(newest, provisional);
                let expected = curve
                    .at(*age)
                    .and_then(|known| development.expect(known, *age));
                if let (Some(ended), Some(expected)) = (ended, expected) {
                    // Of a day that ended with nothing, all errors are infinite, and so above the median.
                    let error = |said: f64| (said - ended).abs() / ended.abs();
                    tried.expected.push(error(expected.expected));
                    tried.known.push(error(expected.known));
                    tried.held += usize::from((expected.low..=expected.high).contains(&ended));
                }
            }
        }
    }
    let judged = ages.iter().zip(tried);
    judged
        .filter_map(|(age, tried)| tried.judge(*age))
        .collect()
}

#[derive(Clone, Debug, Default)]
struct Tried {
    expected: Vec<f64>,
    known: Vec<f64>,
    held: usize,
}

impl Tried {
    fn judge(self, age: usize) -> Option<Judged> {
        let days = self.expected.len();
        Some(Judged {
            age,
            days,
            expected_error: median(self.expected)?,
            known_error: median(self.known)?,
            held: self.held as f64 / days as f64,
        })
    }
}

/// The one in the middle.
fn median(mut errors: Vec<f64>) -> Option<f64> {
    errors.sort_unstable_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied()
}
