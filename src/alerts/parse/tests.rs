//! The language, by example and at random.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::*;
use proptest::prelude::*;

fn printed(text: &str) -> String {
    when(text).map_or_else(|f| format!("{:?} {}", f.at, f.message), |w| w.to_string())
}

#[test]
fn a_window_is_said_once_for_all() {
    assert_eq!(
        printed("roas < 1 over 1h and cost > 50"),
        "roas < 1 over 1h and cost > 50 over 1h"
    );
    assert_eq!(
        printed("cost > 50 and roas over 2h < 100%"),
        "cost > 50 over 2h and roas < 1 over 2h"
    );
    assert_eq!(
        printed("cost > 100 over 1d and conversions == 0 over 60m and clicks>1_000"),
        "cost > 100 over 1d and conversions = 0 over 1h and clicks > 1000 over 1h"
    );
    assert_eq!(
        printed("ctr < 80% of mean over 7d and impressions > 10000 over 1d"),
        "ctr over 1d < 80% of mean over 7d and impressions > 10000 over 1d"
    );
}

#[test]
fn days_that_are_settled_or_expected() {
    for text in [
        "roas < 1 over 7d settled",
        "cost over 7d settled > 120% of mean over 28d",
        "expected roas < 1 over 7d",
        "expected revenue over 7d < 80% of mean over 28d",
    ] {
        assert_eq!(printed(text), text);
    }
    // A window is taken over with what it is of; what is expected of it is of other days.
    assert_eq!(
        printed("roas < 1 over 7d settled and cost > 50"),
        "roas < 1 over 7d settled and cost > 50 over 7d settled"
    );
    assert_eq!(
        printed("cost over 1w settled > 5 and expected roas < 1"),
        "cost > 5 over 7d settled and expected roas < 1 over 7d"
    );
    assert_eq!(
        printed("expected roas < 1 over 7d and cost > 50"),
        "expected roas < 1 over 7d and cost > 50 over 7d"
    );
    assert_eq!(
        printed("roas over 24h settled < 1"),
        "roas < 1 over 1d settled"
    );
    for (text, at, message) in [
        (
            "roas < 1 over 36h settled",
            14..17,
            "what is settled is of whole days such as 7d, not of 1d12h",
        ),
        (
            "cost over 7d settled > 120% of mean over 36h",
            41..44,
            "what is settled is of whole days such as 7d, not of 1d12h",
        ),
        (
            "expected roas < 1 over 6h",
            23..25,
            "what is expected is of whole days such as 7d, not of 6h",
        ),
        (
            "cost > 5 over 6h and expected roas < 1",
            38..38,
            "what is expected is of whole days such as 7d, not of 6h",
        ),
        (
            "expected cost > 5 over 7d",
            0..8,
            "nothing more is expected of cost: only of conversions, revenue, and what is derived from them",
        ),
        (
            "expected roas < 1 over 7d settled",
            26..33,
            "no 'settled' here: of days that are settled, nothing more is expected",
        ),
        (
            "cost over 7d < 80% of mean over 28d settled",
            36..43,
            "no 'settled' here: it stands behind the window, as in roas over 7d settled < 80% of mean over 28d; the mean is of the days before",
        ),
        (
            "cost pace > 110% of budget 5 per day settled",
            37..44,
            "no 'settled' here: a pace is of the time up to now",
        ),
        (
            "expected cost pace > 110% of budget 5 per day",
            0..8,
            "a pace is of what was spent, of which nothing more is expected",
        ),
        (
            "no data for 3d settled",
            15..22,
            "no 'settled' here: silence is of the time up to now",
        ),
        (
            "roas < 1 settled",
            9..16,
            "no 'settled' here: it stands behind a window of days, as in over 7d settled",
        ),
    ] {
        let fault = when(text).expect_err(text);
        assert_eq!((fault.at, fault.message.as_str()), (at, message), "{text}");
    }
}

#[test]
fn the_others() {
    for text in [
        "cost pace > 110% of budget 500 per day",
        "no data for 30m",
        "no data for 1d2h30m",
        "profit < -100.5 over 1h",
        "ctr over 1h <= 79.5% of mean over 14d",
    ] {
        assert_eq!(printed(text), text);
    }
    assert_eq!(printed("ctr < 1.5% over 2w"), "ctr < 0.015 over 14d");
}

#[test]
fn a_fault_is_where_it_is() {
    for (text, at, message) in [
        (
            "roas < 1 over xyz",
            14..17,
            "expected a duration such as 1h, found 'xyz'",
        ),
        (
            "roas < 1 over 1h30",
            14..18,
            "expected a duration such as 1h, found '1h30'",
        ),
        (
            "roas < 1 over 0m",
            14..16,
            "expected a duration from 1m to 400d, found '0m'",
        ),
        (
            "roas < 1 over",
            13..13,
            "expected a duration such as 1h, found the end",
        ),
        (
            "roas < 1  ",
            8..8,
            "expected 'over' and a duration such as 1h: no condition of this rule says its window",
        ),
        (
            "roas 1 over 1h",
            5..6,
            "expected one of < <= > >= = !=, found '1'",
        ),
        (
            "roas < one over 1h",
            7..10,
            "expected a number, found 'one'",
        ),
        (
            "roas < 1.1234567 over 1h",
            7..16,
            "expected a number below 1000000000000 with at most six decimals, found '1.1234567'",
        ),
        (
            "roas < 1 over 1h or cost > 5",
            17..19,
            "expected 'and', found 'or'",
        ),
        (
            "revenue pace > 110% of budget 5 per day",
            8..12,
            "only cost has a pace",
        ),
        (
            "cost pace > 110 of budget 5 per day",
            16..18,
            "expected '%' of the budget, found 'of'",
        ),
        (
            "cost pace > 110% of budget 0 per day",
            27..28,
            "a budget is more than nothing",
        ),
        (
            "cost pace > 110% of budget 5 per year",
            33..37,
            "expected 'hour', 'day', 'week' or 'month', found 'year'",
        ),
        (
            "cost > 5% over 1h",
            10..14,
            "expected 'of mean over': cost is no percentage, found 'over'",
        ),
        (
            "ctr < 0.00001% over 1h",
            6..13,
            "a percentage has at most four decimals",
        ),
        ("no date", 3..7, "expected 'data', found 'date'"),
        ("roas < 1 & cost > 5", 9..10, "'&' means nothing here"),
    ] {
        let fault = when(text).expect_err(text);
        assert_eq!((fault.at, fault.message.as_str()), (at, message), "{text}");
    }
    let unknown = when("rosa < 1 over 1h").expect_err("no metric");
    assert_eq!(unknown.at, 0..4);
    assert!(
        unknown
            .message
            .starts_with("expected a metric (events, impressions,"),
        "{unknown:?}"
    );
    let many = ["no data for 1m"; MAX_CONDITIONS + 1].join(" and ");
    assert_eq!(
        when(&many).expect_err("too many").message,
        "a rule has at most 8 conditions"
    );
}

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn minutes() -> impl Strategy<Value = Minutes> {
    (1..=Minutes::MOST.0).prop_map(Minutes)
}

fn number() -> impl Strategy<Value = Decimal> {
    (-999_999_999_999_999_999i64..=999_999_999_999_999_999).prop_map(Decimal)
}

/// A metric, its window, and the length of a mean.
fn measured() -> impl Strategy<Value = (Metric, Over, Minutes)> {
    let lengths = (any_of(Metric::ALL), minutes(), minutes());
    let known = lengths.prop_map(|(metric, length, mean_over)| {
        let basis = Basis::Known;
        (metric, Over { length, basis }, mean_over)
    });
    let days = || (1..=400u32).prop_map(|days| Minutes(days * 1_440));
    let of_days = (any_of(Metric::ALL), days(), days(), any::<bool>());
    let of_days = of_days.prop_map(|(metric, length, mean_over, expected)| {
        let basis = match expected && metric.rests_on().meet(Sums::CLAIMS) {
            true => Basis::Expected,
            false => Basis::Settled,
        };
        (metric, Over { length, basis }, mean_over)
    });
    prop_oneof![known, of_days]
}

fn condition() -> impl Strategy<Value = Condition> {
    let operator = || any_of(&Operator::ALL);
    prop_oneof![
        (measured(), operator(), number()).prop_map(|((metric, over, _), operator, number)| {
            Condition::Number {
                metric,
                over,
                operator,
                number,
            }
        }),
        (measured(), operator(), number()).prop_map(
            |((metric, over, mean_over), operator, percent)| Condition::Mean {
                metric,
                over,
                operator,
                percent,
                mean_over
            }
        ),
        (
            operator(),
            number(),
            1..=999_999_999_999i64,
            any_of(&Period::ALL)
        )
            .prop_map(|(operator, percent, budget, period)| Condition::Pace {
                operator,
                percent,
                budget: Decimal(budget),
                period
            }),
        minutes().prop_map(|minutes| Condition::NoData { minutes }),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(conditions in prop::collection::vec(condition(), 1..=MAX_CONDITIONS)) {
        let rule = When(conditions);
        prop_assert_eq!(when(&rule.to_string()), Ok(rule));
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,120}") {
        let _ = when(&text);
    }

    /// Words of the language in any order: deeper into the parser than any text gets.
    #[test]
    fn faults_are_within_the_text(words in prop::collection::vec(prop::sample::select(vec![
        "roas", "cost", "<", "=", "1", "80", "%", "of", "mean", "over", "1h", "7d", "and", "no", "data", "for",
        "pace", "budget", "per", "day", "-", "0.0001", "🦀", "settled", "expected", "revenue",
    ]), 0..14)) {
        let text = words.join(" ");
        if let Err(fault) = when(&text) {
            prop_assert!(text.get(fault.at.clone()).is_some(), "{fault:?} in {text:?}");
        }
    }
}
