//! By how much days grow from age to age, learned from past ones: the chain ladder, as insurers foretell what claims will come to
//! (Mack 1993, "Distribution-free calculation of the standard error of chain ladder reserve estimates").
//!
//! The factor of a step is Σ known at age + 1 ÷ Σ known at age, over the days of which both are known; a day's factor is the product of the steps
//! that it still has before it. Mack's standard error supposes more than can be known here (that what a day still does has
//! nothing to do with other days, and one variance by age), so the interval is what past days did: the ratios of their final values to what
//! had been known of them at this age.

use std::collections::BTreeSet;

use chrono::NaiveDate;

use super::Expected;
use super::curve::{Curve, Level};

/// On fewer past days nothing is said.
pub const LEAST_DAYS: usize = 20;

/// How many days back days are learned from: what an account sells changes, and with it how long its buyers take.
pub const LOOK_BACK: u32 = 120;

/// The interval is of so many past days that were about as large at this age: few conversions multiply by luck, many hardly.
const ALIKE: usize = 200;

/// One in so many days ends below the interval, and as many above.
const ONE_IN: usize = 10;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Development {
    /// By age: the product of the factors from there on. None: some step was not seen.
    to_final: Vec<Option<f64>>,
    /// By age: what past days did, by what was known of them.
    past: Vec<Vec<Past>>,
}

/// What a past day did after an age.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Past {
    known: f64,
    /// Its final value by what was known.
    ratio: f64,
    day: NaiveDate,
}

impl Development {
    /// Learns what could be known on the day `at`, in any order of the curves. `provisional`: the age from which on a day is final.
    pub fn learn<'a>(
        curves: impl IntoIterator<Item = &'a Curve>,
        at: NaiveDate,
        provisional: usize,
    ) -> Development {
        let mut steps = vec![(0.0, 0.0); provisional];
        let mut past = vec![Vec::new(); provisional];
        let seen: Vec<(&Curve, usize)> = curves
            .into_iter()
            .filter_map(|curve| Some((curve, curve.old(at)?)))
            .filter(|(_, until)| *until <= LOOK_BACK as usize)
            .collect();
        let ended = seen.iter().map(|(curve, _)| *curve);
        let ended = ended.filter_map(|curve| Some((curve, curve.end(at, provisional)?)));
        let level = Level::of(ended);
        for (curve, until) in seen {
            let known = curve.known(until, provisional, &level);
            for ((sums, now), next) in steps.iter_mut().zip(&known).zip(known.iter().skip(1)) {
                // What grows from nothing doesn't say how much something grows, and nothing is all that nothing is multiplied to.
                if let (Some(now), Some(next)) = (now.filter(|now| *now > 0.0), next) {
                    sums.0 += now;
                    sums.1 += next;
                }
            }
            let Some(last) = known.last().copied().flatten() else {
                continue;
            };
            for (past, known) in past.iter_mut().zip(known) {
                if let Some(known) = known.filter(|known| *known > 0.0) {
                    past.push(Past {
                        known,
                        ratio: last / known,
                        day: curve.day,
                    });
                }
            }
        }
        for past in &mut past {
            past.sort_unstable_by(|a, b| {
                let by_known = a.known.total_cmp(&b.known);
                by_known
                    .then(a.ratio.total_cmp(&b.ratio))
                    .then(a.day.cmp(&b.day))
            });
        }
        let mut to_final: Vec<Option<f64>> = Vec::with_capacity(provisional);
        let mut product = Some(1.0);
        for (now, next) in steps.into_iter().rev() {
            let step = (now > 0.0 && next > 0.0).then_some(next / now);
            product = product
                .zip(step)
                .map(|(product, step): (f64, f64)| product * step);
            to_final.push(product);
        }
        to_final.reverse();
        Development { to_final, past }
    }

    /// What is expected of a day of which so much is known at this age, in millionths. Of nothing, nothing; of an age that too few past days
    /// were seen at, neither, nor of a day that is final.
    pub fn expect(&self, known: f64, age: usize) -> Option<Expected> {
        if known <= 0.0 {
            return None;
        }
        let factor = self.to_final.get(age).copied().flatten()?;
        let alike = alike(self.past.get(age)?, known);
        let days: BTreeSet<NaiveDate> = alike.iter().map(|past| past.day).collect();
        if days.len() < LEAST_DAYS {
            return None;
        }
        let mut ratios: Vec<f64> = alike.iter().map(|past| past.ratio).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        // So many of n + 1 are left out at either end: of these, the day in question is one, and as likely any as any other.
        let out = ((ratios.len() + 1) / ONE_IN).max(1);
        let (low, high) = (ratios.get(out - 1)?, ratios.get(ratios.len() - out)?);
        let expected = known * factor;
        Some(Expected {
            known,
            expected,
            // Sums weigh large days more than quantiles do; the interval is of what is said.
            low: (known * low).min(expected),
            high: (known * high).max(expected),
            days: days.len(),
        })
    }

    /// About how much room it takes.
    pub fn bytes(&self) -> usize {
        let past: usize = self.past.iter().map(Vec::len).sum();
        past * size_of::<Past>()
    }
}

/// Those of which about as much was known.
fn alike(past: &[Past], known: f64) -> &[Past] {
    let middle = past.partition_point(|past| past.known < known);
    let first = middle.saturating_sub(ALIKE / 2);
    let first = first.min(past.len().saturating_sub(ALIKE));
    let last = past.len().min(first + ALIKE);
    past.get(first..last).unwrap_or_default()
}
