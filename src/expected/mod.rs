//! How a day will end, from how past days did.
//!
//! A platform restates a day for weeks, and mostly upwards: people buy days after they clicked. Who judges yesterday by
//! yesterday's number switches off what works. How much a day still grows can be learned: from all that was known of each past
//! day of the account, and when ([`curve`]), follows by how much days grow from age to age, and how far single days are from that
//! ([`development`]). [`backtest`] says how good that would have been. `docs/expected.md` has the formulas and their limits.
//!
//! Only conversions and revenue are expected: cost hardly moves after its day. Only days of one account are learned from and added up:
//! each has its own buyers, currency and zone. Pure, but for [`account::learn`] and [`command`].

use serde::{Serialize, Serializer};

pub mod account;
pub mod backtest;
pub mod command;
pub mod curve;
pub mod development;
pub mod provisional;

/// For so many days a day is provisional: when it is older, what is known of it is taken as final.
pub const PROVISIONAL_DAYS: u32 = 30;

/// What is expected of a day, of one measure. In millionths, as conversions and money are everywhere; as JSON in units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// What the platform said last.
    #[serde(serialize_with = "in_units")]
    pub known: f64,
    /// What it will say when the day is final.
    #[serde(serialize_with = "in_units")]
    pub expected: f64,
    /// Four in five days like this one end between this ...
    #[serde(serialize_with = "in_units")]
    pub low: f64,
    /// ... and this.
    #[serde(serialize_with = "in_units")]
    pub high: f64,
    /// On how many past days of the account that rests.
    pub days: usize,
}

impl Expected {
    /// Of money in another currency.
    pub fn times(self, factor: f64) -> Expected {
        Expected {
            known: self.known * factor,
            expected: self.expected * factor,
            low: self.low * factor,
            high: self.high * factor,
            ..self
        }
    }
}

/// Millionths in units, without more digits than there are millionths.
pub fn units(millionths: f64) -> f64 {
    millionths.round() / 1e6
}

fn in_units<S: Serializer>(millionths: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    units(*millionths).serialize(serializer)
}

#[cfg(test)]
mod tests;
