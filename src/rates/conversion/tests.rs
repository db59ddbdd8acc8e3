use chrono::Days;
use proptest::prelude::*;

use super::*;
use crate::rates::{Published, Rate};
use crate::time::Length;

fn code(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

/// From 1 June 2026 on, so many rates of the dollar.
fn rates(digits: &[i64]) -> Arc<Rates> {
    let first: NaiveDate = "2026-06-01".parse().expect("a date");
    let published = (0..).zip(digits).map(|(nth, digits)| Published {
        day: first + Days::new(nth),
        rate: Rate::parse(&format!("{}.{:04}", digits / 10_000, digits % 10_000)).expect("a rate"),
    });
    let of = [(code("USD"), published.collect())].into_iter().collect();
    Arc::new(Rates::new("ecb", code("EUR"), 1, of))
}

/// Of hours, `per_day` to a day.
fn conversion(rates: &Arc<Rates>, days: u64, per_day: u64) -> Conversion {
    let first: NaiveDate = "2026-06-01".parse().expect("a date");
    let pieces = days * per_day;
    Conversion {
        into: code("EUR"),
        cuts: (0..=pieces as i64)
            .map(|nth| Timestamp::EPOCH + Length::HOUR.times(nth))
            .collect(),
        days: (0..pieces)
            .map(|nth| first + Days::new(nth / per_day))
            .collect(),
        rates: Arc::clone(rates),
    }
}

fn amounts(cost: i64, revenue: i64) -> Amounts {
    Amounts {
        cost: Money::new(cost),
        revenue: Money::new(revenue),
    }
}

/// What comes out, by piece.
fn converted(conversion: &Conversion, of: &ByPiece) -> BTreeMap<(u8, u32), Amounts> {
    let mut out = BTreeMap::new();
    let mut converter = Converter::new(conversion);
    let left = converter.convert(Some(code("USD")), of, |platform, piece, amounts| {
        out.insert((platform, piece), amounts);
    });
    assert_eq!(left, Ok(Vec::new()));
    out
}

proptest! {
    #[test]
    fn the_hours_of_a_day_add_up_to_the_day_to_the_micro(
        digits in prop::collection::vec(1_000i64..100_000, 3),
        hours in prop::collection::vec((any::<bool>(), 0u32..18, -1_000i64..1_000_000, 0i64..9_000_000_000), 1..40),
    ) {
        let rates = rates(&digits);
        let (mut of_hours, mut of_days) = (ByPiece::new(), ByPiece::new());
        for (is_google, hour, cost, revenue) in hours {
            let (platform, more) = (u8::from(is_google), amounts(cost, revenue));
            of_hours.entry((platform, hour)).or_default().add(more, 1);
            of_days.entry((platform, hour / 6)).or_default().add(more, 1);
        }
        let mut added = ByPiece::new();
        for ((platform, hour), more) in converted(&conversion(&rates, 3, 6), &of_hours) {
            added.entry((platform, hour / 6)).or_default().add(more, 1);
        }
        added.retain(|_, sums| *sums != Amounts::default());
        let mut days = converted(&conversion(&rates, 3, 1), &of_days);
        days.retain(|_, sums| *sums != Amounts::default());
        prop_assert_eq!(added, days);
    }
}

#[test]
fn each_day_has_its_rate_and_what_has_none_is_left() {
    let rates = rates(&[12_500, 20_000]);
    let conversion = conversion(&rates, 14, 1);
    let of: ByPiece = [
        ((0, 0), amounts(5, 10)),
        ((0, 1), amounts(5, 10)),
        ((1, 13), amounts(0, 0)),
    ]
    .into_iter()
    .collect();
    let out = converted(&conversion, &of);
    assert_eq!(out.get(&(0, 0)), Some(&amounts(4, 8)));
    assert_eq!(out.get(&(0, 1)), Some(&amounts(2, 5)));
    let mut converter = Converter::new(&conversion);
    let mut left = |from, piece, more| {
        let of = [((2, piece), more)].into_iter().collect();
        converter.convert(from, &of, |_, _, _| ()).expect("fits")
    };
    let usd = Some(code("USD"));
    assert_eq!(left(None, 0, amounts(0, 0)), []);
    let unknown = (Platform::LinkedIn, Unconverted::CurrencyUnknown);
    assert_eq!(left(None, 0, amounts(0, 1)), [unknown]);
    assert_eq!(left(usd, 11, amounts(0, 1)), []);
    let of = left(usd, 13, amounts(0, 1));
    assert!(
        matches!(of[..], [(Platform::LinkedIn, Unconverted::NoRate(none))] if none.last.is_some())
    );
    assert_eq!(left(usd, 0, amounts(i64::MAX, 0)), []);
    let days = converter
        .used
        .map(|(first, last)| (first.to_string(), last.to_string()));
    assert_eq!(
        days,
        Some(("2026-06-01".to_owned(), "2026-06-02".to_owned()))
    );
}
