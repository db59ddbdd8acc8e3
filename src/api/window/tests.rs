//! Calendars, by example and at random.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::*;
use proptest::prelude::*;

fn now() -> DateTime<Utc> {
    "2026-03-05T12:34:56.789Z".parse().expect("valid")
}

fn zone(name: &str) -> Tz {
    parse_zone("time_zone", name).expect("a zone")
}

fn shown(window: Option<Window>, zone: Tz) -> Option<(String, String)> {
    let w = window?;
    Some((show(w.since(), zone)?, show(w.until(), zone)?))
}

fn preset(name: &str, zone: Tz) -> Asked {
    asked(None, None, Some(name), zone, now()).expect("a window")
}

fn pair(a: &str, b: &str) -> Option<(String, String)> {
    Some((a.to_owned(), b.to_owned()))
}

#[test]
fn presets_and_what_came_before_them() {
    let utc = Tz::UTC;
    let days = |a: &str, b: &str| pair(&format!("{a}T00:00:00Z"), &format!("{b}T00:00:00Z"));
    assert_eq!(preset("maximum", utc), ALL_TIME);
    for (name, window, previous) in [
        (
            "yesterday",
            days("2026-03-04", "2026-03-05"),
            days("2026-03-03", "2026-03-04"),
        ),
        (
            "last_7d",
            days("2026-02-26", "2026-03-05"),
            days("2026-02-19", "2026-02-26"),
        ),
        (
            "last_7d_including_today",
            pair("2026-02-27T00:00:00Z", "2026-03-05T12:35:00Z"),
            pair("2026-02-20T00:00:00Z", "2026-02-26T12:35:00Z"),
        ),
        (
            "last_month",
            days("2026-02-01", "2026-03-01"),
            days("2026-01-01", "2026-02-01"),
        ),
        (
            "today",
            pair("2026-03-05T00:00:00Z", "2026-03-05T12:35:00Z"),
            pair("2026-03-04T00:00:00Z", "2026-03-04T12:35:00Z"),
        ),
        (
            "this_month",
            pair("2026-03-01T00:00:00Z", "2026-03-05T12:35:00Z"),
            pair("2026-02-01T00:00:00Z", "2026-02-05T12:35:00Z"),
        ),
    ] {
        let asked = preset(name, utc);
        assert_eq!(shown(asked.window, utc), window, "{name}");
        assert_eq!(shown(asked.previous, utc), previous, "before {name}");
    }
    // At half past midnight in Kolkata it is still yesterday in UTC.
    let kolkata = zone("Asia/Kolkata");
    assert_eq!(
        shown(preset("yesterday", kolkata).window, utc),
        pair("2026-03-03T18:30:00Z", "2026-03-04T18:30:00Z")
    );
}

#[test]
fn every_preset_is_one() {
    for name in DATE_PRESETS {
        let window = preset(name, zone("Europe/Berlin")).window;
        assert_eq!(window.is_none(), *name == "maximum", "{name}");
    }
}

#[test]
fn windows_are_checked() {
    let time = |t: &str| Some(parse_time("since", t).expect("a time"));
    let ask = |since, until| asked(since, until, None, Tz::UTC, now());
    assert_eq!(ask(None, None), Ok(ALL_TIME));
    assert!(ask(None, time("2026-03-01")).is_err());
    assert!(ask(time("2026-03-02"), time("2026-03-02T00:00:00Z")).is_err());
    assert!(ask(time("1990-01-01"), None).is_err());
    let hours = ask(
        time("2026-03-01T10:00:30+01:00"),
        time("2026-03-01T12:00:00Z"),
    );
    let hours = hours.expect("a window");
    assert_eq!(
        shown(hours.window, Tz::UTC),
        pair("2026-03-01T09:00:00Z", "2026-03-01T12:00:00Z")
    );
    // Days of which the last is not over: as many days before, up to the same time.
    let days = ask(time("2026-02-27"), None).expect("a window");
    assert_eq!(
        shown(days.previous, Tz::UTC),
        pair("2026-02-20T00:00:00Z", "2026-02-26T12:35:00Z")
    );
    for bad in [
        "",
        "yesterday",
        "2026-02-30",
        "1969-12-31T23:59:59Z",
        "1970-01-01",
        "10000-01-01",
    ] {
        assert!(parse_time("since", bad).is_err(), "{bad}");
    }
    assert!(parse_zone("time_zone", "Europe/Bonn").is_err());
}

#[test]
fn days_are_those_of_the_zone() {
    let day = |name: &str, day: &str| {
        let zone = zone(name);
        let date: NaiveDate = day.parse().expect("a date");
        let start = midnight(zone, date).expect("starts");
        let end = midnight(zone, date.succ_opt().expect("a date")).expect("ends");
        (
            show(start.into(), zone).expect("shown"),
            (end - start).num_minutes(),
        )
    };
    let at = |t: &str, minutes| (t.to_owned(), minutes);
    assert_eq!(
        day("Europe/Berlin", "2026-03-29"),
        at("2026-03-29T00:00:00+01:00", 23 * 60)
    );
    assert_eq!(
        day("Europe/Berlin", "2026-10-25"),
        at("2026-10-25T00:00:00+02:00", 25 * 60)
    );
    // Clocks went from midnight to one.
    assert_eq!(
        day("America/Sao_Paulo", "2018-11-04"),
        at("2018-11-04T01:00:00-02:00", 23 * 60)
    );
    // Half an hour, and a day that never was.
    assert_eq!(
        day("Australia/Lord_Howe", "2026-10-04"),
        at("2026-10-04T00:00:00+10:30", 23 * 60 + 30)
    );
    assert_eq!(
        day("Pacific/Apia", "2011-12-30"),
        at("2011-12-31T00:00:00+14:00", 0)
    );
    assert_eq!(
        day("Asia/Kathmandu", "2026-01-01"),
        at("2026-01-01T00:00:00+05:45", 24 * 60)
    );
}

#[test]
fn cuts_are_where_the_calendar_has_them() {
    let berlin = zone("Europe/Berlin");
    let cut = |since: &str, until: &str, increment| {
        let time = |t: &str| t.parse::<DateTime<Utc>>().expect("a time");
        let window = window(time(since), time(until)).expect("a window");
        let cuts = cuts(window, increment, berlin).expect("cuts");
        cuts.into_iter()
            .map(|t| show(t, berlin).expect("shown"))
            .collect::<Vec<_>>()
    };
    // The hour from two to three comes twice.
    assert_eq!(
        cut(
            "2026-10-24T23:30:00Z",
            "2026-10-25T02:00:00Z",
            Increment::Hour
        ),
        [
            "2026-10-25T01:30:00+02:00",
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T03:00:00+01:00",
        ]
    );
    assert_eq!(
        cut(
            "2026-03-26T12:00:00Z",
            "2026-04-06T22:00:00Z",
            Increment::Week
        ),
        [
            "2026-03-26T13:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
            "2026-04-06T00:00:00+02:00",
            "2026-04-07T00:00:00+02:00",
        ]
    );
    assert_eq!(
        cut(
            "2026-01-31T23:00:00Z",
            "2026-03-31T22:00:00Z",
            Increment::Month
        ),
        [
            "2026-02-01T00:00:00+01:00",
            "2026-03-01T00:00:00+01:00",
            "2026-04-01T00:00:00+02:00"
        ]
    );
}

proptest! {
    /// Cuts rise, stay inside, and no part is longer than its increment can be.
    #[test]
    fn cuts_make_up_the_window(
        since in 0i64..4_000_000_000_000_000,
        length in 1i64..4_000_000_000_000,
        zone in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
        increment in prop::sample::select(vec![
            (Increment::Hour, 60), (Increment::Day, 25 * 60), (Increment::Week, 170 * 60),
            (Increment::Month, 32 * 24 * 60), (Increment::All, i64::MAX),
        ]),
    ) {
        let since = Timestamp::new(since);
        let window = Window::covering(since, since + Length::new(length)).expect("not empty");
        let cuts = cuts(window, increment.0, zone).expect("few enough");
        prop_assert_eq!(cuts.first(), Some(&window.since()));
        prop_assert_eq!(cuts.last(), Some(&window.until()));
        for pair in cuts.windows(2) {
            prop_assert!(pair[0] < pair[1]);
            prop_assert!(pair[0] == pair[0].floor(Length::MINUTE));
            prop_assert!((pair[1] - pair[0]) / Length::MINUTE <= increment.1);
        }
    }
}
