//! Sums over time, converted day by day.
//!
//! **The rule.** What a campaign cost and earned on a platform on a day is converted by the day's rate and rounded; everything else is
//! added up from that. So a list, its totals, a campaign by itself and the months of a year agree to the micro. Parts of a day
//! are what has run up to their end less what had run up to their start: the hours of a day add up to the day.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use chrono::NaiveDate;

use super::{Factor, NoRate, Rates};
use crate::currency::Currency;
use crate::event::{Counts, Money, Platform};
use crate::time::Timestamp;
use crate::totals::{Overflow, Totals};

/// Into what a question's money is converted. Two are the same if they are so by the same rates.
#[derive(Clone, Debug)]
pub struct Conversion {
    pub into: Currency,
    /// Where time is cut so that each piece is of one day: the start of each, ascending, and the end of the last.
    pub cuts: Vec<Timestamp>,
    /// The day of each piece, in the zone that is asked for.
    pub days: Vec<NaiveDate>,
    pub rates: Arc<Rates>,
}

impl Conversion {
    fn identity(&self) -> (Currency, &[Timestamp], &[NaiveDate], &str, i32) {
        let rates = &self.rates;
        (
            self.into,
            &self.cuts,
            &self.days,
            &rates.source,
            rates.version(),
        )
    }
}

impl PartialEq for Conversion {
    fn eq(&self, other: &Conversion) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Conversion {}

impl Hash for Conversion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// What was spent and earned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cost: Money,
    pub revenue: Money,
}

impl Amounts {
    /// Takes them out of counts, which are without money then.
    pub fn take(counts: &mut Counts) -> Amounts {
        Amounts {
            cost: std::mem::take(&mut counts.cost_micros),
            revenue: std::mem::take(&mut counts.revenue_micros),
        }
    }

    /// Adds these, or takes them away again. One campaign's are far below the largest number.
    pub fn add(&mut self, more: Amounts, times: i8) {
        let change = if times < 0 {
            Money::saturating_sub
        } else {
            Money::saturating_add
        };
        self.cost = change(self.cost, more.cost);
        self.revenue = change(self.revenue, more.revenue);
    }

    /// Sums of nothing but them.
    pub fn totals(self) -> Totals {
        Totals {
            counts: Counts {
                cost_micros: self.cost,
                revenue_micros: self.revenue,
                ..Counts::default()
            },
            ..Totals::default()
        }
    }

    fn each(self) -> [i128; 2] {
        [self.cost.get().into(), self.revenue.get().into()]
    }
}

/// What a campaign spent and earned, by platform (its index) and piece.
pub type ByPiece = BTreeMap<(u8, u32), Amounts>;

/// Why money could not be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconverted {
    /// Nobody has said of what currency it is.
    CurrencyUnknown,
    NoRate(NoRate),
}

/// Converts, and remembers by which days' rates.
pub struct Converter<'a> {
    conversion: &'a Conversion,
    /// Of each currency, those of all pieces.
    factors: BTreeMap<Currency, Vec<Result<Factor, NoRate>>>,
    /// The first and the last day of the rates that were used; none while there are none.
    pub used: Option<(NaiveDate, NaiveDate)>,
}

impl<'a> Converter<'a> {
    /// That has converted nothing yet.
    pub fn new(conversion: &'a Conversion) -> Converter<'a> {
        Converter {
            conversion,
            factors: BTreeMap::new(),
            used: None,
        }
    }

    /// Converts what one campaign spent and earned, and gives it to `each` by platform and piece; and says on which platforms it
    /// could not be.
    ///
    /// # Errors
    /// [`Overflow`] if a converted amount does not fit.
    pub fn convert(
        &mut self,
        from: Option<Currency>,
        amounts: &ByPiece,
        mut each: impl FnMut(u8, u32, Amounts),
    ) -> Result<Vec<(Platform, Unconverted)>, Overflow> {
        let mut unconverted = Vec::new();
        for platform in Platform::ALL {
            let index = platform.index();
            let of_platform = amounts.range((index, 0)..=(index, u32::MAX));
            let of_platform = of_platform.map(|((_, piece), amounts)| (*piece, *amounts));
            let each = |piece, amounts| each(index, piece, amounts);
            if let Err(why) = self.convert_one(from, of_platform, each)? {
                unconverted.push((platform, why));
            }
        }
        Ok(unconverted)
    }

    /// The same of one platform. Nothing at all needs no rate.
    fn convert_one(
        &mut self,
        from: Option<Currency>,
        amounts: impl IntoIterator<Item = (u32, Amounts)>,
        mut each: impl FnMut(u32, Amounts),
    ) -> Result<Result<(), Unconverted>, Overflow> {
        let conversion = self.conversion;
        let mut running: Option<(NaiveDate, [i128; 2], [i128; 2])> = None;
        for (piece, amounts) in amounts {
            if amounts == Amounts::default() {
                continue;
            }
            let Some(from) = from else {
                return Ok(Err(Unconverted::CurrencyUnknown));
            };
            let factors = self.factors.entry(from).or_insert_with(|| {
                let days = conversion.days.iter();
                days.map(|day| conversion.rates.factor(from, conversion.into, *day))
                    .collect()
            });
            let nth = piece as usize;
            let (day, factor) = match (conversion.days.get(nth), factors.get(nth)) {
                (Some(day), Some(Ok(factor))) => (*day, factor),
                (_, Some(Err(none))) => return Ok(Err(Unconverted::NoRate(*none))),
                (_, None) | (None, _) => continue,
            };
            if let Some((first, last)) = factor.days {
                let used = self.used.get_or_insert((first, last));
                *used = (used.0.min(first), used.1.max(last));
            }
            let (was, was_converted) = match running {
                Some((of, sums, converted)) if of == day => (sums, converted),
                _ => ([0; 2], [0; 2]),
            };
            let (mut sums, mut converted, mut more) = (was, was_converted, [Money::ZERO; 2]);
            for (((sum, amount), converted), more) in sums
                .iter_mut()
                .zip(amounts.each())
                .zip(&mut converted)
                .zip(&mut more)
            {
                *sum = sum.checked_add(amount).ok_or(Overflow)?;
                let before = std::mem::replace(converted, factor.convert(*sum).ok_or(Overflow)?);
                let difference = converted.checked_sub(before).ok_or(Overflow)?;
                *more = Money::new(i64::try_from(difference).map_err(|_| Overflow)?);
            }
            running = Some((day, sums, converted));
            let [cost, revenue] = more;
            each(piece, Amounts { cost, revenue });
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;
