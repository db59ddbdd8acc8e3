//! Conversions have fractions: each answer has the number itself, whole where it is whole.

use std::time::Duration;

use adflux::event::Platform;
use adflux::time::Length;
use serde_json::{Value, json};

use crate::world::{Api, TestDatabase, count, given};

/// 2026-01-31T12:00:00Z
const NOON: i64 = 1_769_860_800_000_000;

fn counted() -> TestDatabase {
    let database = TestDatabase::create();
    let events = [
        given(
            "halves",
            Platform::Meta,
            NOON,
            [1_000, 4, 0, 3_500_000, 7_000_000],
        )
        .with_conversions(1_500_000),
        given("halves", Platform::Google, NOON + 1, [10, 6, 0, 0, 0]).with_conversions(250_001),
        given(
            "whole",
            Platform::Meta,
            NOON,
            [1_000, 4, 12, 6_000_000, 12_000_000],
        ),
        given("least", Platform::TikTok, NOON, [10, 1, 0, 1, 1]).with_conversions(1),
        given("none", Platform::LinkedIn, NOON, [10, 1, 0, 1_000_000, 0]),
        given(
            "none",
            Platform::LinkedIn,
            NOON - Length::DAY.get(),
            [10, 1, 0, 0, 0],
        )
        .with_conversions(300_000),
    ];
    count(&mut database.connect(), &events);
    database
}

fn start(database: &TestDatabase) -> Api {
    Api::start(&database.url(), None, Duration::ZERO)
}

const DAY: &str = "since=2026-01-31T00:00:00Z&until=2026-02-01T00:00:00Z";

#[test]
fn an_insight_says_them_digit_by_digit_and_its_ratios_are_of_them() {
    let database = counted();
    let api = start(&database);
    for question in ["", &format!("?{DAY}"), "?breakdown=platform"] {
        let answer = api.get(&format!("/campaign/halves/insights{question}"));
        for number in [
            r#""conversions":1.750001,"#,
            r#""conversions":1.5,"#,
            r#""conversions":0.250001,"#,
        ] {
            assert!(answer.text.contains(number), "{number} in {}", answer.text);
        }
    }
    let body = api.get("/campaign/halves/insights").json();
    let meta = &body["platforms"][0];
    assert_eq!(meta["conversions"], 1.5);
    assert_eq!(meta["cvr"], 1.5 / 4.0);
    assert_eq!(meta["cpa"], 3.5 / 1.5);
    assert_eq!(meta["aov"], 7.0 / 1.5);
    for (campaign, number) in [("whole", "12"), ("least", "0.000001"), ("none", "0.3")] {
        let answer = api.get(&format!("/campaign/{campaign}/insights?fields=conversions"));
        let number = format!(r#""totals":{{"conversions":{number},"#);
        assert!(answer.text.contains(&number), "{number} in {}", answer.text);
    }
    let all = api.get("/insights?fields=conversions&format=csv").text;
    assert!(all.ends_with(",14.050002\n"), "{all}");
}

#[test]
fn a_list_is_sorted_and_filtered_by_them() {
    let database = counted();
    let api = start(&database);
    let ids = |more: &str| -> Vec<String> {
        let body = api
            .get(&format!("/campaigns?{DAY}&sort=conversions&{more}"))
            .json();
        let rows = body["data"].as_array().unwrap_or_else(|| panic!("{body}"));
        rows.iter()
            .map(|row| row["campaign_id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids("order=desc"), ["whole", "halves", "least", "none"]);
    assert_eq!(ids("order=asc"), ["none", "least", "halves", "whole"]);
    for (filter, found) in [
        ("conversions=0", &["none"][..]),
        ("conversions=12", &["whole"]),
        ("conversions%3E1.5", &["whole", "halves"]),
        ("conversions%3E1.750001", &["whole"]),
        ("conversions=1.750001", &["halves"]),
        ("conversions%3C0.000002", &["least", "none"]),
    ] {
        assert_eq!(ids(&format!("filter={filter}")), found, "{filter}");
    }
    let table = api.get(&format!(
        "/campaigns?{DAY}&sort=conversions&fields=conversions&format=csv"
    ));
    assert_eq!(
        table.text,
        "campaign_id,campaign_name,account_id,currency,account_time_zone,conversions\n\
         whole,,,,,12\nhalves,,,,,1.750001\nleast,,,,,0.000001\nnone,,,,,0\n"
    );
}

#[test]
fn a_change_is_the_difference_itself() {
    let database = counted();
    let mut connection = database.connect();
    let today = given("none", Platform::LinkedIn, NOON, [10, 1, 0, 0, 0]).with_conversions(100_000);
    count(&mut connection, &[today]);
    let api = start(&database);
    let question =
        format!("/campaign/none/insights?{DAY}&compare=previous_period&fields=conversions");
    let answer = api.get(&question);
    let totals: Value = answer.json()["totals"].clone();
    assert_eq!(totals["conversions"], 0.1);
    assert_eq!(
        totals["comparison"]["previous"],
        json!({ "conversions": 0.3 })
    );
    assert_eq!(
        totals["comparison"]["absolute"],
        json!({ "conversions": -0.2 })
    );
    assert!(
        answer.text.contains(r#""absolute":{"conversions":-0.2}"#),
        "{}",
        answer.text
    );
    let table = api.get(&format!("{question}&format=csv")).text;
    assert!(table.contains(",0.1,0.3,-0.2,"), "{table}");
}

#[test]
fn events_have_them() {
    let database = counted();
    let api = start(&database);
    let answer = api.get("/campaign/halves/events");
    for number in [r#""conversions":1.5,"#, r#""conversions":0.250001,"#] {
        assert!(answer.text.contains(number), "{number} in {}", answer.text);
    }
    let table = api.get("/campaign/halves/events?format=csv").text;
    assert!(table.contains(",1000,4,1.5,3500000,7000000,"), "{table}");
    assert!(table.contains(",10,6,0.250001,0,0,"), "{table}");
    let whole = api.get("/campaign/whole/events").text;
    assert!(whole.contains(r#""conversions":12,"#), "{whole}");
}
