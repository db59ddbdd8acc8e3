//! Exchange rates: what they are, what they convert, the file that has them, and the commands.
//!
//! Rates are the user's: adflux ships none and asks nobody. A rate is an exact decimal, so many of a currency for one of the
//! source's **base**. A day is converted by the last rate known on or before it, which on a Sunday is Friday's; one that is more than
//! [`OLDEST`] days older is none, for a table that ended months ago would answer as if nothing had happened since.
//!
//! Money is converted in whole numbers and rounded once, half to even. Two currencies of which neither is the base are converted
//! through it.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;

use crate::currency::Currency;

pub mod command;
pub mod conversion;
pub mod ecb;

/// So many days may lie between a rate and the day that it is used for. Banks rest for five at Easter and at the turn of the year.
pub const OLDEST: i64 = 10;

/// So many digits a rate may have before and behind its point: then all that is worked out with it stays in 128 bits.
const MOST_DIGITS: usize = 12;

/// So many of a currency for one of the base; above zero. Trailing zeros are none of its digits: two that are worth the same are
/// equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    digits: i64,
    /// How many of the digits stand behind the point.
    behind: u8,
}

/// Why a text is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotARate {
    #[error("not a number such as 1.0953")]
    NotANumber,
    #[error("a rate that is not above zero")]
    NotAboveZero,
    #[error("a rate of more than {MOST_DIGITS} digits")]
    TooLong,
}

impl Rate {
    /// What one of the base is worth in itself.
    const ONE: Rate = Rate {
        digits: 1,
        behind: 0,
    };

    /// Reads a decimal with a point.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Rate, NotARate> {
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = match unsigned.split_once('.') {
            Some((whole, part)) if !part.is_empty() => (whole, part),
            Some(_) => return Err(NotARate::NotANumber),
            None => (unsigned, ""),
        };
        let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(part) {
            return Err(NotARate::NotANumber);
        }
        let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
        if whole.len().saturating_add(part.len()) > MOST_DIGITS {
            return Err(NotARate::TooLong);
        }
        let digits = format!("0{whole}{part}").parse();
        let digits = digits.map_err(|_| NotARate::NotANumber)?;
        if is_negative || digits == 0 {
            return Err(NotARate::NotAboveZero);
        }
        let behind = u8::try_from(part.len()).map_err(|_| NotARate::TooLong)?;
        Ok(Rate { digits, behind })
    }

    /// As a fraction.
    fn fraction(self) -> (i128, i128) {
        let behind = 10_i128.checked_pow(self.behind.into());
        (self.digits.into(), behind.unwrap_or(i128::MAX))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = usize::from(self.behind);
        let width = behind.saturating_add(1);
        let digits = format!("{:0width$}", self.digits);
        let (whole, part) = digits
            .split_at_checked(digits.len().saturating_sub(behind))
            .unwrap_or((&digits, ""));
        match part {
            "" => f.write_str(whole),
            part => write!(f, "{whole}.{part}"),
        }
    }
}

/// A rate, and the day that it was published for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub day: NaiveDate,
    pub rate: Rate,
}

/// That no rate is known which may be used for a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoRate {
    pub currency: Currency,
    pub day: NaiveDate,
    /// The last day before it that there is a rate of.
    pub last: Option<NaiveDate>,
}

impl fmt::Display for NoRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoRate { currency, day, .. } = self;
        match self.last {
            None => write!(
                f,
                "no rate of {currency} is known for {day} or a day before it"
            ),
            Some(last) => write!(
                f,
                "no rate of {currency} is known for {day}: the last one before it is of {last}, more than {OLDEST} days older"
            ),
        }
    }
}

/// What money of a day is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    numerator: i128,
    denominator: i128,
    /// The first and the last day of the rates it is made of; none where it is made of none.
    pub days: Option<(NaiveDate, NaiveDate)>,
}

impl Factor {
    /// For what is estimated anyway.
    pub fn as_f64(&self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// Converts micros, rounded half to even; none where the result does not fit.
    pub fn convert(&self, micros: i128) -> Option<i128> {
        let product = micros.checked_mul(self.numerator)?;
        let whole = product.checked_div_euclid(self.denominator)?;
        let rest = product.checked_sub(whole.checked_mul(self.denominator)?)?;
        let half = rest.checked_mul(2)?.cmp(&self.denominator);
        let is_odd = whole.checked_rem_euclid(2)? == 1;
        if half.is_gt() || half.is_eq() && is_odd {
            whole.checked_add(1)
        } else {
            Some(whole)
        }
    }
}

/// All rates of a source.
#[derive(Clone, Debug)]
pub struct Rates {
    pub source: String,
    pub base: Currency,
    /// The newest import that changed any: rises when they change.
    version: i32,
    /// Of each currency but the base, by day.
    of: BTreeMap<Currency, Vec<Published>>,
}

impl Rates {
    /// Of a source, with the rates of each currency by day.
    pub fn new(
        source: &str,
        base: Currency,
        version: i32,
        of: BTreeMap<Currency, Vec<Published>>,
    ) -> Rates {
        let source = source.to_owned();
        Rates {
            source,
            base,
            version,
            of,
        }
    }

    /// The newest import that changed any.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The currencies that there are rates of, without the base, and their rates by day.
    pub fn all(&self) -> impl Iterator<Item = (Currency, &[Published])> {
        let all = self.of.iter();
        all.map(|(currency, rates)| (*currency, rates.as_slice()))
    }

    /// The rate that a day of a currency is converted by: the last one on or before it. None of the base.
    ///
    /// # Errors
    /// When there is none that may be used.
    pub fn on(&self, currency: Currency, day: NaiveDate) -> Result<Option<Published>, NoRate> {
        if currency == self.base {
            return Ok(None);
        }
        let rates = self.of.get(&currency).map_or(&[][..], Vec::as_slice);
        let after = rates.partition_point(|published| published.day <= day);
        let last = after.checked_sub(1).and_then(|last| rates.get(last));
        let is_near = |one: &&Published| day.signed_duration_since(one.day).num_days() <= OLDEST;
        match last.filter(is_near) {
            Some(published) => Ok(Some(*published)),
            None => Err(NoRate {
                currency,
                day,
                last: last.map(|one| one.day),
            }),
        }
    }

    /// What money of one currency and day is multiplied by to be of another. The same currency needs no rate.
    ///
    /// # Errors
    /// When there is no rate of one of them.
    pub fn factor(&self, from: Currency, to: Currency, day: NaiveDate) -> Result<Factor, NoRate> {
        if from == to {
            return Ok(Factor {
                numerator: 1,
                denominator: 1,
                days: None,
            });
        }
        let (from, to) = (self.on(from, day)?, self.on(to, day)?);
        let rate = |of: Option<Published>| of.map_or(Rate::ONE, |one| one.rate).fraction();
        let ((worth, of), (wanted, of_wanted)) = (rate(from), rate(to));
        // Each of the four is below 10^13.
        let numerator = wanted.saturating_mul(of);
        let denominator = of_wanted.saturating_mul(worth);
        let common = gcd(numerator, denominator);
        let days = [from, to].into_iter().flatten().map(|one| one.day);
        let days = days.fold(None, |span: Option<(NaiveDate, NaiveDate)>, day| {
            Some(span.map_or((day, day), |(first, last)| (first.min(day), last.max(day))))
        });
        Ok(Factor {
            numerator: numerator.checked_div(common).unwrap_or(numerator),
            denominator: denominator.checked_div(common).unwrap_or(denominator),
            days,
        })
    }
}

/// The largest number that divides both, which are above zero.
fn gcd(mut a: i128, mut b: i128) -> i128 {
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
