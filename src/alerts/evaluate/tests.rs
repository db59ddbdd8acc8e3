//! What is measured, by example; and that alerts open and resolve by turns.

use std::sync::Arc;

use super::*;
use crate::alerts::parse;
use crate::currency::Currency;
use crate::event::{Counts, MILLION, Platform};
use crate::store::read::descriptions::{Account, Description};
use crate::time::parse_rfc3339;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    parse_rfc3339(text).expect("a time").into()
}

fn now() -> Timestamp {
    at("2026-03-05T12:34:56.789Z")
}

/// Impressions, clicks, conversions, cost and revenue in whole units.
fn totals([impressions, clicks, conversions, cost, revenue]: [i64; 5]) -> Totals {
    let [conversions, cost, revenue] = [conversions, cost, revenue].map(|units| units * MILLION);
    Totals::of(Counts::of([
        impressions,
        clicks,
        conversions,
        cost,
        revenue,
    ]))
}

fn holds(text: &str, sums: &dyn Fn(Window) -> Totals) -> Option<bool> {
    let when = parse::when(text).expect(text);
    when.measure(now(), &of_events(Timestamp::EPOCH), sums)
        .holds()
}

/// A campaign that no platform reports.
fn of_events(first_event_time: Timestamp) -> Campaign<'static> {
    Campaign {
        first_event_time,
        calendar: Calendar::default(),
        growth: None,
    }
}

fn shown(text: &str, calendar: Calendar) -> Vec<String> {
    let when = parse::when(text).expect(text);
    let time = |t: Timestamp| {
        let time = t.datetime().expect("valid");
        time.format("%m-%dT%H:%M").to_string()
    };
    when.windows(now(), calendar)
        .into_iter()
        .map(|w| format!("{}/{}", time(w.since()), time(w.until())))
        .collect()
}

#[test]
fn windows_end_with_the_current_minute() {
    let shown = |text: &str| shown(text, Calendar::default());
    assert_eq!(shown("roas < 1 over 1h"), ["03-05T11:35/03-05T12:35"]);
    assert_eq!(
        shown("ctr over 1d < 80% of mean over 7d"),
        ["03-04T12:35/03-05T12:35", "02-25T12:35/03-04T12:35"]
    );
    for (period, since) in [
        ("hour", "03-05T12:00"),
        ("day", "03-05T00:00"),
        ("week", "03-02T00:00"),
        ("month", "03-01T00:00"),
    ] {
        let rule = format!("cost pace > 110% of budget 500 per {period}");
        assert_eq!(shown(&rule), [format!("{since}/03-05T12:35")]);
    }
    assert_eq!(
        shown("no data for 30m"),
        ["03-05T12:04/03-05T12:35", "02-26T12:04/03-05T12:04"]
    );
}

#[test]
fn settled_windows_are_the_whole_days_before_those_that_still_change() {
    let account = Account {
        platform: Platform::Google,
        id: "1".into(),
        time_zone: "America/New_York".into(),
        currency: Currency::from_code("USD").expect("a currency"),
    };
    let reported = Description {
        name: None,
        account: Arc::new(account),
    };
    let days = "google=3".parse().expect("valid");
    let new_york = Calendar::of(Some(&reported), days);
    let settled = "roas < 1 over 2d settled";
    let mean = "cost over 1d settled > 120% of mean over 7d";
    // It is the 5th there; the 2nd to the 4th are provisional.
    assert_eq!(shown(settled, new_york), ["02-28T05:00/03-02T05:00"]);
    assert_eq!(
        shown(mean, new_york),
        ["03-01T05:00/03-02T05:00", "02-22T05:00/03-01T05:00"]
    );
    assert_eq!(
        shown("expected roas < 1 over 7d", new_york),
        ["02-26T05:00/03-05T05:00"]
    );
    // Of increments nothing is provisional: the days of UTC that are over.
    let utc = Calendar::default();
    assert_eq!(shown(settled, utc), ["03-03T00:00/03-05T00:00"]);
    // The mean begins with the campaign's first day: of one that began two days before the window, it is of these.
    let when = parse::when(mean).expect(mean);
    let sums = |w: Window| {
        totals([
            0,
            0,
            0,
            if w.until() - w.since() == Length::DAY {
                13
            } else {
                20
            },
            0,
        ])
    };
    let campaign = Campaign {
        calendar: new_york,
        ..of_events(at("2026-02-27T18:00:00Z"))
    };
    let reading = when.measure(now(), &campaign, &sums).readings[0];
    assert_eq!((reading.value, reading.threshold), (Some(13.0), Some(12.0)));
    assert_eq!(reading.holds, Some(true));
    // What is expected of one that no platform reports, nobody can say.
    let any = |_| totals([1_000, 10, 1, 1, 1]);
    assert_eq!(holds("expected roas < 100 over 7d", &any), None);
    assert_eq!(holds("roas < 100 over 7d settled", &any), Some(true));
}

#[test]
fn no_value_gives_way_to_false_and_else_decides_nothing() {
    let nothing = |_| Totals::default();
    assert_eq!(holds("roas < 1 over 1h", &nothing), None);
    assert_eq!(
        holds("roas < 1 over 1h and cost > 50", &nothing),
        Some(false)
    );
    assert_eq!(holds("roas < 1 over 1h and cost < 50", &nothing), None);
    let burning = |_| totals([1000, 10, 0, 60, 59]);
    assert_eq!(
        holds("roas < 1 over 1h and cost > 50", &burning),
        Some(true)
    );
    assert_eq!(
        holds("cost > 60 over 1d and conversions = 0", &burning),
        Some(false)
    );
    assert_eq!(
        holds("cost >= 60 over 1d and conversions = 0", &burning),
        Some(true)
    );
}

#[test]
fn conversions_are_compared_as_the_numbers_they_are() {
    let some = |_| Totals::of(Counts::of([1_000, 10, 1_750_000, 7_000_000, 0]));
    for (text, expected) in [
        ("conversions > 1.5 over 1d", true),
        ("conversions > 1.75 over 1d", false),
        ("conversions = 0 over 1d", false),
        ("cpa = 4 over 1d", true),
        ("cvr = 0.175 over 1d", true),
    ] {
        assert_eq!(holds(text, &some), Some(expected), "{text}");
    }
    // The mean of a sum is that of conversions, too.
    let fallen = |w: Window| {
        let millionths = if w.until() - w.since() == Length::DAY {
            500_000
        } else {
            7_000_000
        };
        Totals::of(Counts::of([0, 0, millionths, 0, 0]))
    };
    let text = "conversions over 1d < 60% of mean over 7d";
    assert_eq!(holds(text, &fallen), Some(true));
}

#[test]
fn a_mean_is_that_of_the_time_before() {
    let day = Length::DAY;
    // 0.5 % in the last day, 1 % in the seven before.
    let falling = |w: Window| {
        if w.until() - w.since() == day {
            totals([20_000, 100, 0, 10, 0])
        } else {
            totals([140_000, 1_400, 0, 70, 0])
        }
    };
    let rule = "ctr < 80% of mean over 7d and impressions > 10000 over 1d";
    assert_eq!(holds(rule, &falling), Some(true));
    let steady = |w: Window| {
        let days = (w.until() - w.since()) / day;
        totals([20_000 * days, 200 * days, 0, 10 * days, 0])
    };
    assert_eq!(holds(rule, &steady), Some(false));
    // A sum's mean is what a window had of it.
    assert_eq!(
        holds("cost over 1d = 100% of mean over 7d", &steady),
        Some(true)
    );

    // A campaign that began two days ago has the mean of one; one of today has none.
    let when = parse::when("cost over 1d = 100% of mean over 7d").expect("a rule");
    let young = |w: Window| {
        let days = if w.until() - w.since() == day { 2 } else { 1 };
        totals([0, 0, 0, 10 * days, 0])
    };
    let reading = |began: Timestamp| when.measure(now(), &of_events(began), &young).readings[0];
    let two_days_ago = end_of_minute(now()) - day.times(2);
    assert_eq!(reading(two_days_ago).threshold, Some(10.0));
    assert_eq!(reading(two_days_ago + day).holds, None);
}

#[test]
fn a_pace_is_held_against_the_part_of_the_period_that_has_passed() {
    let rule = parse::when("cost pace > 110% of budget 480 per day").expect("a rule");
    let spent = |cost: i64| move |_: Window| totals([0, 0, 0, cost, 0]);
    let noon = at("2026-03-05T11:59:30Z");
    let reading = |now: Timestamp, cost: i64| {
        let campaign = of_events(Timestamp::EPOCH);
        rule.measure(now, &campaign, &spent(cost)).readings[0]
    };
    assert_eq!(reading(noon, 240).threshold, Some(264.0));
    assert_eq!(reading(noon, 264).holds, Some(false));
    assert_eq!(reading(noon, 265).holds, Some(true));
    assert_eq!(reading(at("2026-03-05T00:58:30Z"), 265).holds, None);
    assert_eq!(reading(at("2026-03-05T00:59:30Z"), 265).holds, Some(true));
}

#[test]
fn silence_of_what_has_ended_opens_nothing() {
    let now_and_then = |now: i64, then: i64| {
        move |w: Window| Totals {
            events: Count::new(if w.until() - w.since() < Length::DAY {
                now
            } else {
                then
            }),
            ..Totals::default()
        }
    };
    let rule = "no data for 30m";
    assert_eq!(holds(rule, &now_and_then(0, 5)), Some(true));
    assert_eq!(holds(rule, &now_and_then(1, 5)), Some(false));
    assert_eq!(holds(rule, &now_and_then(0, 0)), None);
}

proptest! {
    /// It opens and resolves by turns, and only after the rule said so for long enough.
    #[test]
    fn opens_and_resolves_by_turns(
        said in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 0..60),
        hold in 0u32..5,
    ) {
        let mut phase = Phase::Quiet;
        let mut is_open = false;
        for (n, holds) in said.iter().enumerate() {
            let (next, transition) = phase.step(*holds, Minutes(hold), Timestamp::EPOCH + Length::MINUTE.times(n as i64));
            let wanted = match transition {
                None => None,
                Some(Transition::Opened) => { prop_assert!(!is_open); is_open = true; Some(true) }
                Some(Transition::Resolved) => { prop_assert!(is_open); is_open = false; Some(false) }
            };
            if wanted.is_some() {
                let first = n.checked_sub(hold as usize);
                prop_assert!(first.is_some());
                let lasted = said[first.unwrap_or(0)..=n].iter().all(|h| *h == wanted);
                prop_assert!(lasted, "{said:?} at {n}");
            }
            prop_assert_eq!(is_open, matches!(next, Phase::Open { .. }));
            phase = next;
        }
    }

    #[test]
    fn a_period_holds_its_moment(now in 0i64..4_000_000_000_000_000) {
        let now = Timestamp::new(now);
        for period in Period::ALL {
            let (start, length) = period_of(period, now);
            prop_assert!(start <= now && now < start + length, "{period:?}");
        }
    }
}
