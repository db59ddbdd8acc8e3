//! Sums of events, and the ratios derived from them when somebody reads.
//!
//! Sums are integers and add up exactly in any order; ratios are never stored, added or averaged.
//! A ratio whose denominator is zero is `None` (null in JSON), never zero and never infinite; so is one whose denominator is below
//! zero: an hour in which a platform took back more clicks than it reported has no rate.

use crate::event::{Conversions, Count, Counts, Money};

pub mod metric;
pub mod mixed;

/// Sums over any set of events. The fields are those of [`Counts`], and how many events there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Totals {
    pub events: Count,
    pub counts: Counts,
}

/// Sums over any number of campaigns, while they are added up: in 128 bits, so that no order of adding and taking away
/// passes a limit on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WideTotals([i128; 6]);

impl From<&Totals> for WideTotals {
    fn from(totals: &Totals) -> WideTotals {
        let mut wide = WideTotals::default();
        wide.add(totals, 1);
        wide
    }
}

impl WideTotals {
    /// Adds these so many times.
    pub fn add(&mut self, totals: &Totals, times: i8) {
        let [impressions, clicks, conversions, cost, revenue] = totals.counts.numbers();
        let numbers = [
            totals.events.get(),
            impressions,
            clicks,
            conversions,
            cost,
            revenue,
        ];
        for (sum, number) in self.0.iter_mut().zip(numbers) {
            *sum += i128::from(number) * i128::from(times);
        }
    }

    /// Adds what was added up elsewhere.
    pub fn add_wide(&mut self, more: &WideTotals) {
        for (sum, more) in self.0.iter_mut().zip(more.0) {
            *sum += more;
        }
    }

    /// How far from zero the counts are at the most.
    pub fn largest(&self) -> i128 {
        let [_, counts @ ..] = self.0;
        counts.into_iter().map(i128::abs).max().unwrap_or_default()
    }

    /// Whether they are of any event.
    pub fn has_events(&self) -> bool {
        let [events, ..] = self.0;
        events != 0
    }

    /// The sums.
    ///
    /// # Errors
    /// [`Overflow`] if a field does not fit an `i64`.
    pub fn totals(self) -> Result<Totals, Overflow> {
        let mut numbers = [0; 6];
        for (number, sum) in numbers.iter_mut().zip(self.0) {
            *number = i64::try_from(sum).map_err(|_| Overflow)?;
        }
        let [events, numbers @ ..] = numbers;
        Ok(Totals {
            events: Count::new(events),
            counts: Counts::of(numbers),
        })
    }
}

/// A sum went past what may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sum passed its limit")]
pub struct Overflow;

impl Totals {
    /// The totals of a single event.
    pub fn of(counts: Counts) -> Totals {
        Totals {
            events: Count::new(1),
            counts,
        }
    }

    /// The sum of both.
    ///
    /// # Errors
    /// [`Overflow`] if a field would not fit an `i64`.
    pub fn checked_add(self, other: Totals) -> Result<Totals, Overflow> {
        let add = |a: Count, b| a.checked_add(b).ok_or(Overflow);
        let convert = |a: Conversions, b| a.checked_add(b).ok_or(Overflow);
        let pay = |a: Money, b| a.checked_add(b).ok_or(Overflow);
        let (a, b) = (self.counts, other.counts);
        Ok(Totals {
            events: add(self.events, other.events)?,
            counts: Counts {
                impressions: add(a.impressions, b.impressions)?,
                clicks: add(a.clicks, b.clicks)?,
                conversions: convert(a.conversions, b.conversions)?,
                cost_micros: pay(a.cost_micros, b.cost_micros)?,
                revenue_micros: pay(a.revenue_micros, b.revenue_micros)?,
            },
        })
    }

    /// The sum of both, where a field that does not fit stays at the largest number: for what is
    /// shown and not kept.
    pub fn saturating_add(self, other: Totals) -> Totals {
        self.each_with(
            other,
            Count::saturating_add,
            Conversions::saturating_add,
            Money::saturating_add,
        )
    }

    /// What is left without the other, for what is shown and not kept.
    pub fn saturating_sub(self, other: Totals) -> Totals {
        self.each_with(
            other,
            Count::saturating_sub,
            Conversions::saturating_sub,
            Money::saturating_sub,
        )
    }

    #[inline]
    fn each_with(
        self,
        other: Totals,
        count: impl Fn(Count, Count) -> Count,
        convert: impl Fn(Conversions, Conversions) -> Conversions,
        money: impl Fn(Money, Money) -> Money,
    ) -> Totals {
        let (a, b) = (self.counts, other.counts);
        Totals {
            events: count(self.events, other.events),
            counts: Counts {
                impressions: count(a.impressions, b.impressions),
                clicks: count(a.clicks, b.clicks),
                conversions: convert(a.conversions, b.conversions),
                cost_micros: money(a.cost_micros, b.cost_micros),
                revenue_micros: money(a.revenue_micros, b.revenue_micros),
            },
        }
    }

    /// Click-through rate: clicks / impressions.
    pub fn ctr(&self) -> Option<f64> {
        ratio(
            self.counts.clicks.as_f64(),
            self.counts.impressions.as_f64(),
        )
    }

    /// Conversion rate: conversions / clicks.
    pub fn cvr(&self) -> Option<f64> {
        ratio(
            self.counts.conversions.in_units(),
            self.counts.clicks.as_f64(),
        )
    }

    /// Cost per click, in currency units: cost / clicks.
    pub fn cpc(&self) -> Option<f64> {
        ratio(
            self.counts.cost_micros.as_f64(),
            self.counts.clicks.as_f64(),
        )
        .map(from_micros)
    }

    /// Cost per mille, in currency units: cost / impressions × 1000.
    pub fn cpm(&self) -> Option<f64> {
        ratio(
            self.counts.cost_micros.as_f64(),
            self.counts.impressions.as_f64(),
        )
        .map(|r| from_micros(r * 1_000.0))
    }

    /// Cost per acquisition, in currency units: cost / conversions.
    pub fn cpa(&self) -> Option<f64> {
        // Millionths by millionths.
        ratio(
            self.counts.cost_micros.as_f64(),
            self.counts.conversions.as_f64(),
        )
    }

    /// Return on ad spend: revenue / cost.
    pub fn roas(&self) -> Option<f64> {
        ratio(
            self.counts.revenue_micros.as_f64(),
            self.counts.cost_micros.as_f64(),
        )
    }

    /// Average order value, in currency units: revenue / conversions.
    pub fn aov(&self) -> Option<f64> {
        // Millionths by millionths.
        ratio(
            self.counts.revenue_micros.as_f64(),
            self.counts.conversions.as_f64(),
        )
    }

    /// Revenue minus cost; it may be negative.
    pub fn profit_micros(&self) -> Money {
        let c = &self.counts;
        c.revenue_micros.saturating_sub(c.cost_micros)
    }
}

fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}

fn from_micros(micros: f64) -> f64 {
    micros / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_SUM;
    use proptest::prelude::*;

    fn totals() -> impl Strategy<Value = Totals> {
        prop::array::uniform5(0..MAX_SUM).prop_map(|numbers| Totals::of(Counts::of(numbers)))
    }

    proptest! {
        #[test]
        fn adding_is_commutative_and_associative(a in totals(), b in totals(), c in totals()) {
            prop_assert_eq!(a.checked_add(b), b.checked_add(a));
            let left = a.checked_add(b).and_then(|ab| ab.checked_add(c));
            let right = b.checked_add(c).and_then(|bc| a.checked_add(bc));
            prop_assert_eq!(left, right);
            prop_assert_eq!(a.checked_add(Totals::default()), Ok(a));
        }

        #[test]
        fn ratios_are_the_textbook_ones(t in totals()) {
            let close = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() <= b.abs() * 1e-12);
            let [impressions, clicks, conversions, cost, revenue] = t.counts.numbers().map(|n| n as f64);
            if impressions > 0.0 {
                prop_assert!(close(t.ctr(), clicks / impressions));
                prop_assert!(close(t.cpm(), cost / 1e6 / (impressions / 1e3)));
            }
            if cost > 0.0 {
                prop_assert!(close(t.roas(), revenue / cost));
            }
            if clicks > 0.0 {
                prop_assert!(close(t.cvr(), conversions / 1e6 / clicks));
            }
            if conversions > 0.0 {
                prop_assert!(close(t.cpa(), cost / 1e6 / (conversions / 1e6)));
                prop_assert!(close(t.aov(), revenue / 1e6 / (conversions / 1e6)));
            }
        }
    }

    #[test]
    fn a_denominator_that_is_not_above_zero_gives_none() {
        for t in [Totals::default(), Totals::of(Counts::of([-1; 5]))] {
            for ratio in [
                t.ctr(),
                t.cvr(),
                t.cpc(),
                t.cpm(),
                t.cpa(),
                t.roas(),
                t.aov(),
            ] {
                assert_eq!(ratio, None);
            }
        }
    }

    #[test]
    fn overflow_is_an_error_not_a_wrap() {
        let max = Totals::of(Counts::of([0, i64::MAX, 0, 0, 0]));
        let one = Totals::of(Counts::of([0, 1, 0, 0, 0]));
        assert_eq!(max.checked_add(one), Err(Overflow));
    }

    #[test]
    fn wide_sums_pass_any_limit_on_the_way_but_not_in_the_end() {
        let max = Totals::of(Counts::of([0, i64::MAX, 0, 0, 0]));
        let mut sum = WideTotals::default();
        sum.add(&max, 1);
        sum.add(&max, 1);
        assert_eq!(sum.totals(), Err(Overflow));
        sum.add(&max, -1);
        assert_eq!(sum.totals(), Ok(max));
    }

    #[test]
    fn a_campaign_by_hand() {
        let t = Totals::of(Counts::of([
            10_000,
            200,
            10_000_000,
            50_000_000,
            400_000_000,
        ]));
        assert_eq!(t.ctr(), Some(0.02));
        assert_eq!(t.cvr(), Some(0.05));
        assert_eq!(t.cpc(), Some(0.25));
        assert_eq!(t.cpm(), Some(5.0));
        assert_eq!(t.cpa(), Some(5.0));
        assert_eq!(t.roas(), Some(8.0));
        assert_eq!(t.aov(), Some(40.0));
        assert_eq!(t.profit_micros().get(), 350_000_000);
        let t = Totals::of(Counts::of([0, 100, 2_500_000, 50_000_000, 10_000_000]));
        assert_eq!(
            (t.cvr(), t.cpa(), t.aov()),
            (Some(0.025), Some(20.0), Some(4.0))
        );
    }
}
