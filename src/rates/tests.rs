use proptest::prelude::*;

use super::*;

fn code(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

fn date(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

fn published(day: &str, rate: &str) -> Published {
    Published {
        day: date(day),
        rate: Rate::parse(rate).expect("a rate"),
    }
}

/// Of a Thursday and a Friday, and of the dollar also of the Monday.
fn rates() -> Rates {
    let of = [
        (
            "USD",
            vec![
                published("2026-06-04", "1.1"),
                published("2026-06-05", "1.25"),
                published("2026-06-08", "1.2"),
            ],
        ),
        (
            "JPY",
            vec![
                published("2026-06-04", "160"),
                published("2026-06-05", "162.5"),
            ],
        ),
    ];
    let of = of.map(|(of, rates)| (code(of), rates));
    Rates::new("ecb", code("EUR"), 1, of.into_iter().collect())
}

#[test]
fn rates_are_decimals_above_zero() {
    for (text, shown) in [
        ("1.0950", "1.095"),
        ("0.0005", "0.0005"),
        ("15854.71", "15854.71"),
        ("1", "1"),
        ("007", "7"),
        ("123456789.123", "123456789.123"),
    ] {
        assert_eq!(Rate::parse(text).expect(text).to_string(), shown);
    }
    for (text, why) in [
        ("", NotARate::NotANumber),
        (".5", NotARate::NotANumber),
        ("1.", NotARate::NotANumber),
        ("1,5", NotARate::NotANumber),
        ("1e3", NotARate::NotANumber),
        ("+1", NotARate::NotANumber),
        ("١", NotARate::NotANumber),
        ("0.000", NotARate::NotAboveZero),
        ("-1.5", NotARate::NotAboveZero),
        ("1234567890.123", NotARate::TooLong),
    ] {
        assert_eq!(Rate::parse(text), Err(why), "{text}");
    }
}

#[test]
fn a_day_without_a_rate_has_that_of_the_last_day_before() {
    let rates = rates();
    let on = |of: &str, day: &str| {
        let found = rates.on(code(of), date(day));
        found.map(|found| found.map(|one| (one.day.to_string(), one.rate.to_string())))
    };
    let of = |day: &str, rate: &str| Ok(Some((day.to_owned(), rate.to_owned())));
    assert_eq!(on("USD", "2026-06-05"), of("2026-06-05", "1.25"));
    assert_eq!(on("USD", "2026-06-07"), of("2026-06-05", "1.25"));
    assert_eq!(on("USD", "2026-06-18"), of("2026-06-08", "1.2"));
    assert_eq!(on("EUR", "1999-01-01"), Ok(None));
    for (currency, day, last) in [
        ("USD", "2026-06-03", None),
        ("USD", "2026-06-19", Some("2026-06-08")),
        ("JPY", "2026-06-18", Some("2026-06-05")),
        ("CHF", "2026-06-05", None),
    ] {
        let none = on(currency, day).expect_err("none");
        assert_eq!(none.last, last.map(date), "{currency} on {day}");
    }
}

#[test]
fn money_is_converted_through_the_base_and_rounded_once() {
    let rates = rates();
    let convert = |micros, from: &str, to: &str, day: &str| {
        let factor = rates
            .factor(code(from), code(to), date(day))
            .expect("known");
        factor.convert(micros).expect("fits")
    };
    // 2.50 dollars at 1.25 are 2 euros, which at 162.5 are 325 yen.
    assert_eq!(convert(2_500_000, "USD", "EUR", "2026-06-05"), 2_000_000);
    assert_eq!(convert(2_500_000, "USD", "JPY", "2026-06-05"), 325_000_000);
    // Half to even, below zero as well.
    for (micros, rounded) in [(1, 1), (2, 2), (5, 4), (10, 8), (-5, -4), (0, 0)] {
        assert_eq!(convert(micros, "USD", "EUR", "2026-06-05"), rounded);
    }
    let half = Factor {
        numerator: 1,
        denominator: 2,
        days: None,
    };
    for (micros, rounded) in [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2), (-5, -2)] {
        assert_eq!(half.convert(micros), Some(rounded), "{micros}");
    }
    // The yen's rate is of Friday, the dollar's of Monday.
    let factor = rates.factor(code("USD"), code("JPY"), date("2026-06-08"));
    let days = factor.expect("known").days;
    assert_eq!(days, Some((date("2026-06-05"), date("2026-06-08"))));
    let same = rates.factor(code("CHF"), code("CHF"), date("1970-01-01"));
    assert_eq!(same.expect("needs no rate").convert(7), Some(7));
}

fn any_rate() -> impl Strategy<Value = Rate> {
    (1i64..1_000_000_000, 0u8..7).prop_map(|(digits, behind)| Rate { digits, behind })
}

fn of(from: Rate, to: Rate) -> Rates {
    let day = date("2026-06-05");
    let of = [("USD", from), ("JPY", to)];
    let of = of.map(|(currency, rate)| (code(currency), vec![Published { day, rate }]));
    Rates::new("ecb", code("EUR"), 1, of.into_iter().collect())
}

proptest! {
    #[test]
    fn what_is_shown_is_read_again(rate in any_rate()) {
        let again = Rate::parse(&rate.to_string()).expect("a rate");
        let (a, b) = rate.fraction();
        let (c, d) = again.fraction();
        prop_assert_eq!(a * d, c * b);
    }

    #[test]
    fn there_and_back_is_the_same_within_what_rounding_took(
        micros in -1_000_000_000_000_000i128..1_000_000_000_000_000, from in any_rate(), to in any_rate(),
    ) {
        let (rates, day) = (of(from, to), date("2026-06-05"));
        let there = rates.factor(code("USD"), code("JPY"), day).expect("known");
        let back = rates.factor(code("JPY"), code("USD"), day).expect("known");
        let again = there.convert(micros).and_then(|there| back.convert(there)).expect("fits");
        // Half a micro there is so much here, and half a one is lost on the way back.
        let most = back.numerator / (2 * back.denominator) + 1;
        prop_assert!((again - micros).abs() <= most, "{} became {}", micros, again);
    }

    #[test]
    fn more_money_is_never_less_and_below_zero_is_the_mirror_image(
        a in 0i128..1_000_000_000_000, b in 0i128..1_000_000_000_000, from in any_rate(), to in any_rate(),
    ) {
        let factor = of(from, to).factor(code("USD"), code("JPY"), date("2026-06-05")).expect("known");
        let convert = |micros| factor.convert(micros).expect("fits");
        prop_assert!(convert(a.min(b)) <= convert(a.max(b)));
        prop_assert_eq!(convert(-a), -convert(a));
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,20}", micros in any::<i128>(), from in any_rate(), to in any_rate()) {
        let _ = Rate::parse(&text);
        let _ = of(from, to).factor(code("USD"), code("JPY"), date("2026-06-05")).map(|f| f.convert(micros));
    }
}
