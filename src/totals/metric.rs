//! Every metric of a campaign, once: its name, what it is, and how it is derived from sums. Requests
//! sort, filter and choose by these names, and answers carry them.

use super::Totals;
use crate::event::{Conversions, Money};

/// What a metric is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A sum that counts something.
    Count,
    /// A sum of what is reported in fractions, to the millionth.
    Conversions,
    /// Money in millionths of the currency unit, exact.
    Micros,
    /// The same money in currency units.
    Money,
    /// Derived from two sums; none where the denominator is zero.
    Ratio,
}

/// The value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count, or money in micros.
    Integer(i64),
    /// A number with up to six decimals, exact.
    Conversions(Conversions),
    /// Money in currency units, or a ratio; none where the denominator is zero.
    Number(Option<f64>),
}

impl Value {
    /// As a number to compare; none where a ratio has none.
    pub fn number(self) -> Option<f64> {
        match self {
            Value::Integer(value) => Some(value as f64),
            Value::Conversions(value) => Some(value.in_units()),
            Value::Number(value) => value,
        }
    }
}

/// Some of the sums that metrics are derived from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sums(u8);

impl Sums {
    pub const IMPRESSIONS: Sums = Sums(1);
    pub const CLICKS: Sums = Sums(1 << 1);
    pub const CONVERSIONS: Sums = Sums(1 << 2);
    pub const COST: Sums = Sums(1 << 3);
    pub const REVENUE: Sums = Sums(1 << 4);
    /// What is in a currency.
    pub const MONEY: Sums = Sums::COST.and(Sums::REVENUE);
    /// What platforms claim for themselves.
    pub const CLAIMS: Sums = Sums::CONVERSIONS.and(Sums::REVENUE);
    /// All there are.
    pub const ALL: Sums = Sums(0b1_1111);
    /// Each, in the order of [`crate::report_row::Values::NAMES`].
    pub const EACH: [Sums; 5] = [
        Sums::IMPRESSIONS,
        Sums::CLICKS,
        Sums::CONVERSIONS,
        Sums::COST,
        Sums::REVENUE,
    ];

    /// Those of both.
    pub const fn and(self, more: Sums) -> Sums {
        Sums(self.0 | more.0)
    }

    /// Those that are not among the others.
    pub const fn without(self, others: Sums) -> Sums {
        Sums(self.0 & !others.0)
    }

    /// Whether some are among the others.
    pub const fn meet(self, others: Sums) -> bool {
        self.0 & others.0 != 0
    }
}

macro_rules! metrics {
    ($($(#[doc = $text:literal])+ $variant:ident $name:literal $kind:ident = $value:expr;)+) => {
        /// A metric of a campaign, in the order answers have them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Metric {
            $($(#[doc = $text])+ $variant,)+
        }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant,)+];

            /// Their names, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            /// Its name in requests and answers.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)+ }
            }

            /// What kind of number it is.
            pub const fn unit(self) -> Unit {
                match self { $(Metric::$variant => Unit::$kind,)+ }
            }

            /// What it is, in one sentence.
            pub fn description(self) -> &'static str {
                match self { $(Metric::$variant => concat!($($text),+).trim_ascii(),)+ }
            }

            /// Its value for these sums.
            pub fn of(self, totals: &Totals) -> Value {
                let value: fn(&Totals) -> Value = match self { $(Metric::$variant => $value,)+ };
                value(totals)
            }
        }
    };
}

metrics! {
    /// How many events were added up.
    Events "events" Count = |t| Value::Integer(t.events.get());
    /// How often ads were shown.
    Impressions "impressions" Count = |t| Value::Integer(t.counts.impressions.get());
    /// How often ads were clicked.
    Clicks "clicks" Count = |t| Value::Integer(t.counts.clicks.get());
    /// How often a click led to what was wanted; with decimals where a platform reports fractions.
    Conversions "conversions" Conversions = |t| Value::Conversions(t.counts.conversions);
    /// Spend, in millionths of the currency unit.
    CostMicros "cost_micros" Micros = |t| Value::Integer(t.counts.cost_micros.get());
    /// Revenue, in millionths of the currency unit.
    RevenueMicros "revenue_micros" Micros = |t| Value::Integer(t.counts.revenue_micros.get());
    /// Revenue minus cost, in millionths of the currency unit; it may be negative.
    ProfitMicros "profit_micros" Micros = |t| Value::Integer(t.profit_micros().get());
    /// Spend, in currency units.
    Cost "cost" Money = |t| units(t.counts.cost_micros);
    /// Revenue, in currency units.
    Revenue "revenue" Money = |t| units(t.counts.revenue_micros);
    /// Revenue minus cost, in currency units; it may be negative.
    Profit "profit" Money = |t| units(t.profit_micros());
    /// Click-through rate: clicks / impressions.
    Ctr "ctr" Ratio = |t| Value::Number(t.ctr());
    /// Conversion rate: conversions / clicks.
    Cvr "cvr" Ratio = |t| Value::Number(t.cvr());
    /// Cost per click, in currency units: cost / clicks.
    Cpc "cpc" Ratio = |t| Value::Number(t.cpc());
    /// Cost per mille, in currency units: cost / impressions × 1000.
    Cpm "cpm" Ratio = |t| Value::Number(t.cpm());
    /// Cost per acquisition, in currency units: cost / conversions.
    Cpa "cpa" Ratio = |t| Value::Number(t.cpa());
    /// Return on ad spend: revenue / cost.
    Roas "roas" Ratio = |t| Value::Number(t.roas());
    /// Average order value, in currency units: revenue / conversions.
    Aov "aov" Ratio = |t| Value::Number(t.aov());
}

impl Metric {
    /// Whether it is an amount of money, or rests on one.
    pub fn is_of_money(self) -> bool {
        use Metric::{Aov, Cpa, Cpc, Cpm, Roas};
        matches!(self.unit(), Unit::Micros | Unit::Money)
            || matches!(self, Cpc | Cpm | Cpa | Roas | Aov)
    }

    /// Which sums it is derived from.
    pub fn rests_on(self) -> Sums {
        use Metric::{
            Aov, Clicks, Conversions, Cost, CostMicros, Cpa, Cpc, Cpm, Ctr, Cvr, Events,
            Impressions, Profit, ProfitMicros, Revenue, RevenueMicros, Roas,
        };
        match self {
            Events => Sums::default(),
            Impressions => Sums::IMPRESSIONS,
            Clicks => Sums::CLICKS,
            Conversions => Sums::CONVERSIONS,
            CostMicros | Cost => Sums::COST,
            RevenueMicros | Revenue => Sums::REVENUE,
            ProfitMicros | Profit | Roas => Sums::MONEY,
            Ctr => Sums::CLICKS.and(Sums::IMPRESSIONS),
            Cvr => Sums::CONVERSIONS.and(Sums::CLICKS),
            Cpc => Sums::COST.and(Sums::CLICKS),
            Cpm => Sums::COST.and(Sums::IMPRESSIONS),
            Cpa => Sums::COST.and(Sums::CONVERSIONS),
            Aov => Sums::REVENUE.and(Sums::CONVERSIONS),
        }
    }

    /// The metric of this name.
    pub fn parse(name: &str) -> Option<Metric> {
        Metric::ALL.iter().copied().find(|m| m.name() == name)
    }
}

fn units(money: Money) -> Value {
    Value::Number(Some(money.in_units()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_name() {
        for (metric, name) in Metric::ALL.iter().zip(Metric::NAMES) {
            assert_eq!(metric.name(), *name);
            assert_eq!(Metric::parse(name), Some(*metric));
            assert!(metric.description().ends_with('.') || metric.description().contains('/'));
        }
        assert_eq!(Metric::parse("colour"), None);
    }

    #[test]
    fn each_is_derived_from_what_it_says() {
        for (n, sum) in Sums::EACH.into_iter().enumerate() {
            let mut numbers = [6_000_000, 5_000_000, 4_000_000, 3_000_000, 2_000_000];
            let before = Totals::of(crate::event::Counts::of(numbers));
            numbers[n] += 1_000_000;
            let after = Totals::of(crate::event::Counts::of(numbers));
            for metric in Metric::ALL {
                let changes = metric.of(&before) != metric.of(&after);
                assert_eq!(changes, metric.rests_on().meet(sum), "{metric:?} {n}");
            }
        }
    }

    #[test]
    fn only_ratios_can_be_without_a_value() {
        let nothing = Totals::default();
        for metric in Metric::ALL {
            let value = metric.of(&nothing).number();
            assert_eq!(value.is_none(), metric.unit() == Unit::Ratio, "{metric:?}");
        }
    }
}
