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

    /// Whether it rests on what platforms claim for themselves: conversions and revenue.
    pub fn is_claimed(self) -> bool {
        use Metric::{
            Aov, Conversions, Cpa, Cvr, Profit, ProfitMicros, Revenue, RevenueMicros, Roas,
        };
        matches!(
            self,
            Conversions | Revenue | RevenueMicros | Profit | ProfitMicros | Cvr | Cpa | Roas | Aov
        )
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
    fn only_ratios_can_be_without_a_value() {
        let nothing = Totals::default();
        for metric in Metric::ALL {
            let value = metric.of(&nothing).number();
            assert_eq!(value.is_none(), metric.unit() == Unit::Ratio, "{metric:?}");
        }
    }
}
