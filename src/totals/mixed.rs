//! Sums over campaigns, whose money may be of several currencies, and whose claims of several platforms.

use super::metric::{Metric, Sums, Value};
use super::{Overflow, Totals, WideTotals};
use crate::currency::Currency;
use crate::event::{Conversions, Money, Platform};

/// Sums as they are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub totals: Totals,
    /// Those of them that are no numbers: money of several currencies, and what no platform says.
    pub unknown: Sums,
}

impl From<Totals> for Shown {
    fn from(totals: Totals) -> Shown {
        Shown {
            totals,
            unknown: Sums::default(),
        }
    }
}

impl Shown {
    /// The same, where reports say nothing of some sums: what nothing was counted of either is not zero then.
    pub fn unless_said(mut self, unsaid: Sums) -> Shown {
        let numbers = self.totals.counts.numbers();
        for (sum, number) in Sums::EACH.into_iter().zip(numbers) {
            if number == 0 && unsaid.meet(sum) {
                self.unknown = self.unknown.and(sum);
            }
        }
        self
    }

    /// The value of a metric; none where it rests on something that is unknown.
    pub fn value(&self, metric: Metric) -> Value {
        if metric.rests_on().meet(self.unknown) {
            Value::Number(None)
        } else {
            metric.of(&self.totals)
        }
    }
}

/// What money is added up of. Campaigns of which no currency is known are of one of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Denomination {
    #[default]
    Nothing,
    One(Option<Currency>),
    Several,
}

/// Sums over campaigns, while they are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mixed {
    sums: WideTotals,
    of: Denomination,
}

impl Mixed {
    /// Adds sums of campaigns of this currency.
    pub fn add(&mut self, sums: &WideTotals, currency: Option<Currency>) {
        self.sums.add_wide(sums);
        self.of = match self.of {
            Denomination::Nothing => Denomination::One(currency),
            Denomination::One(known) if known == currency => self.of,
            Denomination::One(_) | Denomination::Several => Denomination::Several,
        };
    }

    /// The sums.
    ///
    /// # Errors
    /// [`Overflow`] if a field does not fit an `i64`.
    pub fn shown(&self) -> Result<Shown, Overflow> {
        Ok(Shown {
            totals: self.sums.totals()?,
            unknown: match self.of {
                Denomination::Several => Sums::MONEY,
                Denomination::Nothing | Denomination::One(_) => Sums::default(),
            },
        })
    }
}

/// Which sums are unknown of what is added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    of_some: Sums,
    known_of_some: Sums,
}

impl Unknown {
    /// Adds what is unknown of one more.
    pub fn add(&mut self, unknown: Sums) {
        self.of_some = self.of_some.and(unknown);
        self.known_of_some = self.known_of_some.and(Sums::ALL.without(unknown));
    }

    /// Those of both.
    pub fn and(self, more: Unknown) -> Unknown {
        Unknown {
            of_some: self.of_some.and(more.of_some),
            known_of_some: self.known_of_some.and(more.known_of_some),
        }
    }

    /// Unknown of all: their sum is.
    pub fn of_all(self) -> Sums {
        self.of_some.without(self.known_of_some)
    }

    /// Unknown of some: their sum is that of the others.
    pub fn partial(self) -> Sums {
        self.of_some.without(self.of_all())
    }
}

/// Which platforms' claims are in a sum: conversions and revenue are what each platform says that it brought about, and two may
/// claim one purchase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims(u8);

impl Claims {
    /// Those of one platform, where it claims anything.
    pub fn of(platform: Platform, conversions: Conversions, revenue: Money) -> Claims {
        if conversions == Conversions::ZERO && revenue == Money::ZERO {
            Claims::default()
        } else {
            Claims(1 << platform.index())
        }
    }

    /// Those of both.
    pub fn and(self, more: Claims) -> Claims {
        Claims(self.0 | more.0)
    }

    /// The platforms, in order.
    pub fn platforms(self) -> impl Iterator<Item = Platform> {
        let claims = move |platform: &Platform| self.0 & (1 << platform.index()) != 0;
        Platform::ALL.into_iter().filter(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Counts;

    #[test]
    fn money_of_several_currencies_is_no_number_and_counts_are() {
        let euro = Currency::from_code("EUR");
        let one = WideTotals::from(&Totals::of(Counts::of([10, 5, 2_000_000, 7, 9])));
        let sum = |currencies: &[Option<Currency>]| {
            let mut mixed = Mixed::default();
            currencies.iter().for_each(|of| mixed.add(&one, *of));
            mixed.shown().expect("small")
        };
        for (currencies, is_mixed) in [
            (&[][..], false),
            (&[None, None], false),
            (&[euro, euro], false),
            (&[euro, None], true),
            (&[euro, Currency::from_code("USD"), euro], true),
        ] {
            let shown = sum(currencies);
            for metric in Metric::ALL {
                let is_none = shown.value(*metric).number().is_none();
                let was_none = metric.of(&shown.totals).number().is_none();
                let expected = was_none || is_mixed && metric.rests_on().meet(Sums::MONEY);
                assert_eq!(is_none, expected, "{metric:?} of {currencies:?}");
            }
        }
    }

    #[test]
    fn what_is_unknown_of_all_is_unknown_of_their_sum() {
        let of = |unknown: &[Sums]| {
            let mut all = Unknown::default();
            unknown.iter().for_each(|one| all.add(*one));
            (all.of_all(), all.partial())
        };
        let (none, both) = (Sums::default(), Sums::MONEY);
        assert_eq!(of(&[]), (none, none));
        assert_eq!(of(&[none, none]), (none, none));
        assert_eq!(of(&[both, both]), (both, none));
        assert_eq!(of(&[both, none]), (none, both));
        assert_eq!(of(&[both, Sums::COST]), (Sums::COST, Sums::REVENUE));
    }

    #[test]
    fn who_claims_nothing_is_not_named() {
        let of = |platform, conversions, revenue| {
            Claims::of(platform, Conversions::new(conversions), Money::new(revenue))
        };
        let claims = of(Platform::TikTok, 0, -1)
            .and(of(Platform::Meta, 0, 0))
            .and(of(Platform::Google, 1, 0));
        let names: Vec<_> = claims.platforms().collect();
        assert_eq!(names, [Platform::Google, Platform::TikTok]);
    }
}
