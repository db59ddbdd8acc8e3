//! What holds of all days.

use chrono::{Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use proptest::prelude::*;

use super::backtest::backtest;
use super::curve::{self, Curve, Level};
use super::development::{Development, LEAST_DAYS};

const PROVISIONAL: usize = 10;
const EVENING: NaiveTime = match NaiveTime::from_hms_opt(18, 0, 0) {
    Some(time) => time,
    None => NaiveTime::MIN,
};

fn day(n: u64) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(2026, 1, 1).expect("valid");
    first.checked_add_days(Days::new(n)).expect("valid")
}

/// A day of which so much was known at these ages.
fn said(n: u64, values: impl IntoIterator<Item = (u64, f64)>) -> Curve {
    let of = day(n);
    let values = values.into_iter();
    let answers = values.map(|(age, value)| (day(n + age).and_time(EVENING), value));
    Curve::new(of, EVENING, PROVISIONAL, answers)
}

/// Of the so-manieth day, how it grew.
fn grown(n: u64, size: f64, growth: &[f64]) -> Curve {
    let mut known = size;
    let answers = growth.iter().zip(0..).map(|(factor, age)| {
        known *= factor;
        (age, known)
    });
    said(n, answers)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

#[test]
fn ages_are_counted_by_the_clock_at_which_the_account_is_asked() {
    let at = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").expect("a time");
    let age = |clock: (u32, u32), asked| {
        let clock = NaiveTime::from_hms_opt(clock.0, clock.1, 0).expect("a time");
        curve::age(day(0), clock, at(asked)).map(|(age, _)| age)
    };
    assert_eq!(age((18, 0), "2026-01-01 18:00"), Some(0));
    assert_eq!(age((18, 0), "2026-01-02 09:00"), Some(1));
    assert_eq!(age((9, 0), "2026-01-02 08:30"), Some(1));
    assert_eq!(
        age((9, 0), "2026-01-01 23:00"),
        Some(1),
        "fourteen hours later"
    );
    assert_eq!(age((23, 0), "2026-01-01 06:00"), None, "not yet");

    // Asked every hour, and last at ten: what was known at ten.
    let ten = NaiveTime::from_hms_opt(10, 0, 0).expect("a time");
    let hours = (0..48).map(|h| {
        (
            day(0).and_time(NaiveTime::MIN) + TimeDelta::hours(h),
            h as f64,
        )
    });
    let curve = Curve::new(day(0), ten, PROVISIONAL, hours);
    assert_eq!(
        [curve.at(0), curve.at(1), curve.at(2)],
        [Some(10.0), Some(34.0), Some(47.0)]
    );
}

#[test]
fn what_was_not_asked_is_filled_where_it_can_be() {
    let evenly = Level::default();
    let curve = said(0, [(1, 10.0), (3, 20.0)]);
    let known = curve.known(9, PROVISIONAL, &evenly);
    assert_eq!(known[..5], [None, Some(10.0), Some(15.0), Some(20.0), None]);
    let known = curve.known(2, PROVISIONAL, &evenly);
    assert_eq!(known[..3], [None, Some(10.0), None], "nothing from later");
    let known = curve.known(10, PROVISIONAL, &evenly);
    assert_eq!(
        known[4..],
        [Some(20.0); 7],
        "said last shortly before it was final"
    );

    let rare = said(0, [(0, 10.0), (8, 20.0)]).known(9, PROVISIONAL, &evenly);
    assert_eq!(rare[1..8], [None; 7], "too long ago");
    let same = said(0, [(0, 10.0), (8, 10.0)]);
    assert_eq!(same.at(5), Some(10.0));
    let for_long = said(0, [(0, 10.0), (70, 10.0)]);
    assert_eq!(for_long.end(day(10), PROVISIONAL), Some(10.0));
    let across = said(0, [(8, 10.0), (12, 30.0)]).known(12, PROVISIONAL, &evenly);
    assert_eq!(across[8..], [Some(10.0), Some(15.0), Some(20.0)]);

    // As days do of which it is known: all that comes, comes on the second day.
    let others = said(1, [(1, 20.0), (2, 40.0), (3, 40.0)]);
    let known = curve.known(9, PROVISIONAL, &Level::of([(&others, 40.0)]));
    assert_eq!(known[..4], [None, Some(10.0), Some(20.0), Some(20.0)]);
}

#[test]
fn days_that_grow_alike_are_foretold() {
    // Two to four, four to five, and then no more.
    let growth = [2.0, 2.0, 1.25, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let curves: Vec<Curve> = (0..60)
        .map(|n| grown(n, 100.0 + n as f64, &growth))
        .collect();
    let development = Development::learn(&curves, day(60), PROVISIONAL);
    let expected = development.expect(1e6, 0).expect("sixty days are enough");
    assert!(close(expected.expected, 2.5e6), "{expected:?}");
    assert!(close(expected.low, 2.5e6) && close(expected.high, 2.5e6));
    assert_eq!(expected.days, 51, "those that are final");
    assert_eq!(development.expect(0.0, 0), None);
    assert_eq!(development.expect(-5.0, 0), None);
    assert_eq!(development.expect(1e6, PROVISIONAL), None, "final");

    let judged = backtest(&curves, day(60), PROVISIONAL, &[0, 1, 2]);
    let errors: Vec<f64> = judged
        .iter()
        .map(|j| (j.known_error * 100.0).round())
        .collect();
    assert_eq!(errors, [60.0, 20.0, 0.0]);
    assert!(
        judged
            .iter()
            .all(|j| j.expected_error < 1e-9 && j.held == 1.0),
        "{judged:?}"
    );
}

#[test]
fn on_few_days_nothing_rests() {
    let flat = [1.0; PROVISIONAL + 1];
    let days = |n: usize| {
        (0..n as u64)
            .map(|n| grown(n, 7.0, &flat))
            .collect::<Vec<_>>()
    };
    let expect = |curves: &[Curve]| Development::learn(curves, day(50), PROVISIONAL).expect(7.0, 3);
    assert_eq!(expect(&days(LEAST_DAYS - 1)), None);
    assert!(expect(&days(LEAST_DAYS)).is_some());
    // Of many campaigns, a day is still one day.
    let one_day: Vec<Curve> = (0..100).map(|_| grown(3, 7.0, &flat)).collect();
    assert_eq!(expect(&one_day), None);
}

#[test]
fn the_future_teaches_nothing() {
    // From the fortieth day on, days grow otherwise.
    let early = [10.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let late = [10.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    let curves: Vec<Curve> = (0..80)
        .map(|n| grown(n, 5.0, if n < 40 { &early } else { &late }))
        .collect();
    let at = day(40);
    let known_then: Vec<Curve> = curves
        .iter()
        .filter(|curve| curve.day <= at)
        .cloned()
        .collect();
    let all = Development::learn(&curves, at, PROVISIONAL);
    assert_eq!(all, Development::learn(&known_then, at, PROVISIONAL));
    assert!(close(
        all.expect(50.0, 0).expect("many days").expected,
        100.0
    ));
}

/// Days of any size that grow and shrink anyhow, some of which were not asked about.
fn any_days() -> impl Strategy<Value = Vec<Curve>> {
    let growth = prop::collection::vec((0.5_f64..3.0, prop::bool::weighted(0.9)), PROVISIONAL + 4);
    prop::collection::vec((1.0_f64..1e9, growth), 25..60).prop_map(|days| {
        (0..)
            .zip(days)
            .map(|(n, (size, growth))| {
                let mut known = size;
                let answers: Vec<(u64, f64)> = (0..)
                    .zip(growth)
                    .filter_map(|(age, (factor, asked))| {
                        known *= factor;
                        asked.then_some((age, known))
                    })
                    .collect();
                said(n, answers)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn days_that_do_not_grow_are_expected_to_be_what_is_known(
        sizes in prop::collection::vec(1.0_f64..1e12, LEAST_DAYS..60), known in 1.0_f64..1e12, age in 0..PROVISIONAL,
    ) {
        let curves: Vec<Curve> = (0..).zip(sizes).map(|(n, size)| grown(n, size, &[1.0; PROVISIONAL + 1])).collect();
        let expected = Development::learn(&curves, day(90), PROVISIONAL).expect(known, age).expect("enough days");
        prop_assert!(close(expected.expected, known) && close(expected.low, known) && close(expected.high, known));
    }

    #[test]
    fn what_is_expected_is_within_its_interval(curves in any_days(), known in 1.0_f64..1e12, age in 0..PROVISIONAL) {
        let development = Development::learn(&curves, day(70), PROVISIONAL);
        if let Some(expected) = development.expect(known, age) {
            prop_assert!(expected.low <= expected.expected && expected.expected <= expected.high);
            prop_assert!(expected.low >= 0.0 && expected.days >= LEAST_DAYS);
        }
    }

    #[test]
    fn in_another_unit_the_same_is_expected(
        curves in any_days(), known in 1.0_f64..1e12, age in 0..PROVISIONAL, scale in 0.001_f64..1e4,
    ) {
        let scaled: Vec<Curve> = curves.iter().map(|curve| {
            let answers = (0..20).filter_map(|age| Some((curve.day + Days::new(age), curve.at(age as usize)? * scale)));
            Curve::new(curve.day, EVENING, PROVISIONAL, answers.map(|(day, value)| (day.and_time(EVENING), value)))
        }).collect();
        let one = Development::learn(&curves, day(70), PROVISIONAL).expect(known, age);
        let other = Development::learn(&scaled, day(70), PROVISIONAL).expect(known * scale, age);
        prop_assert_eq!(one.is_some(), other.is_some());
        if let (Some(one), Some(other)) = (one, other) {
            prop_assert!(close(one.expected * scale, other.expected), "{one:?} {other:?}");
            prop_assert!(close(one.low * scale, other.low) && close(one.high * scale, other.high));
        }
    }

    #[test]
    fn the_order_of_days_and_days_of_which_nothing_was_said_do_not_matter(
        curves in any_days(), order in any::<u64>(), known in 1.0_f64..1e12, age in 0..PROVISIONAL,
    ) {
        let mut shuffled = curves.clone();
        shuffled.extend((0..20).map(|n| said(n, [])));
        shuffled.sort_by_key(|curve| {
            let n = curve.day.signed_duration_since(day(0)).num_days().unsigned_abs();
            (n + 1).wrapping_mul(order | 1)
        });
        let one = Development::learn(&curves, day(70), PROVISIONAL).expect(known, age);
        let other = Development::learn(&shuffled, day(70), PROVISIONAL).expect(known, age);
        prop_assert_eq!(one.map(|e| (e.low.min(e.expected), e.days)).is_some(), other.is_some());
        if let (Some(one), Some(other)) = (one, other) {
            prop_assert!(close(one.expected, other.expected) && one.days == other.days, "{one:?} {other:?}");
            prop_assert!(close(one.low, other.low) && close(one.high, other.high));
        }
    }
}
