//! `filter=roas<1`: which rows of a list are wanted, by a metric.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::problem::{Problem, shorten};
use crate::totals::metric::Metric;
use crate::totals::mixed::Shown;

/// The operators, longest first so that `<=` is not read as `<`.
pub(super) const OPERATORS: &[&str] = &["<=", ">=", "!=", "<", ">", "="];

/// One condition. A metric without a value meets none, not even `!=`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Filter {
    metric: Metric,
    operator: &'static str,
    value: f64,
}

impl Filter {
    /// Reads `METRIC OPERATOR NUMBER`; spaces between them do not matter.
    ///
    /// # Errors
    /// A [`Problem`] that names the parameter and what is wrong with it.
    pub fn parse(parameter: &str, text: &str) -> Result<Filter, Problem> {
        let fail = |detail: String| Err(Problem::parameter(parameter, detail));
        let Some(at) = text.find(['<', '>', '=', '!', '~']) else {
            let detail = format!(
                "'{}' has no operator; write METRIC OPERATOR NUMBER such as roas<1, with one of {}",
                shorten(text),
                OPERATORS.join(" ")
            );
            return fail(detail);
        };
        let (name, rest) = text.split_at(at);
        let Some(metric) = Metric::parse(name.trim()) else {
            let names = Metric::NAMES.join(", ");
            return fail(format!(
                "'{}' is no metric; there are {names}",
                shorten(name.trim())
            ));
        };
        let known = OPERATORS
            .iter()
            .find_map(|o| Some((*o, rest.strip_prefix(o)?)))
            .filter(|(_, value)| !value.starts_with(['<', '>', '=', '!', '~']));
        let Some((operator, value)) = known else {
            let operator: String = rest
                .chars()
                .take_while(|c| "<>=!~".contains(*c))
                .take(4)
                .collect();
            return fail(format!(
                "'{operator}' is no operator; there are {}",
                OPERATORS.join(" ")
            ));
        };
        match value.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Filter {
                metric,
                operator,
                value,
            }),
            _ => fail(format!("'{}' is not a number", shorten(value.trim()))),
        }
    }

    /// Whether these sums meet it.
    pub fn holds(&self, sums: &Shown) -> bool {
        let Some(value) = sums.value(self.metric).number() else {
            return false;
        };
        match self.operator {
            "<" => value < self.value,
            "<=" => value <= self.value,
            ">" => value > self.value,
            ">=" => value >= self.value,
            "=" => value == self.value,
            _ => value != self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::totals::Totals;
    use proptest::prelude::*;

    fn why(text: &str) -> String {
        let problem = Filter::parse("filter", text).expect_err(text);
        serde_json::to_value(problem).expect("serialises")["detail"].to_string()
    }

    #[test]
    fn conditions() {
        let counts = crate::event::Counts::of([0, 0, 0, 2_000_000, 1_000_000]);
        let totals = Shown::from(Totals::of(counts));
        let holds = |text: &str| Filter::parse("filter", text).expect(text).holds(&totals);
        assert!(holds("roas<1") && holds("roas <= 0.5") && holds("cost=2") && holds("profit<-0.9"));
        assert!(holds("roas!=1") && holds("cost_micros>=2e6"));
        assert!(!holds("roas>0.5") && !holds("roas=1"));
        let counts = crate::event::Counts::of([0, 0, 1_750_000, 0, 0]);
        let converted = Shown::from(Totals::of(counts));
        let holds_of = |text: &str| Filter::parse("filter", text).expect(text).holds(&converted);
        assert!(
            holds_of("conversions>1.5")
                && holds_of("conversions=1.75")
                && holds_of("conversions!=0")
        );
        assert!(
            !holds_of("conversions=0")
                && !holds_of("conversions>=1.750001")
                && !holds_of("conversions>2")
        );
        // No impressions, so no rate, and no condition on it holds.
        assert!(!holds("ctr<1") && !holds("ctr>=0") && !holds("ctr!=1"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(why("roas").contains("no operator"));
        assert!(why("colour<1").contains("'colour' is no metric"));
        assert!(why("roas=<1").contains("'=<' is no operator"));
        assert!(why("roas~1").contains("'~' is no operator"));
        for number in ["", "x", "nan", "inf", "1,5"] {
            assert!(why(&format!("roas<{number}")).contains("not a number"));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,60}") {
            let _ = Filter::parse("filter", &text);
        }
    }
}
