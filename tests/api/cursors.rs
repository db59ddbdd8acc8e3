//! Cursors: only those that were given lead on, whichever server of the database gave them.

use std::time::Duration;

use adflux::event::Platform;
use diesel::connection::SimpleConnection as _;

use crate::world::{Api, TestDatabase, count, given, until, variable};

const SHORT: Duration = Duration::from_millis(20);
const TIME: i64 = 1_769_817_600_000_000;
const EVENTS: &str = "/campaign/cmp-1/events?limit=1";

fn start(database: &TestDatabase) -> Api {
    Api::start(&database.url(), None, SHORT)
}

fn with_events() -> TestDatabase {
    let database = TestDatabase::create();
    let event = |n| given("cmp-1", Platform::Meta, TIME + n, [1, 1, 0, 1, 1]);
    count(&mut database.connect(), &[event(1), event(2)]);
    database
}

fn next(api: &Api, path: &str) -> String {
    let page = api.get(path).json();
    let cursor = page["paging"]["next_cursor"].as_str();
    cursor
        .unwrap_or_else(|| panic!("{path}: {page}"))
        .to_owned()
}

fn refused(api: &Api, path: &str) {
    let answer = api.get(path);
    assert_eq!(answer.status, 400, "{path}: {answer:?}");
    assert_eq!(
        answer.json()["type"],
        "urn:adflux:problem:invalid-cursor",
        "{path}"
    );
}

fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, b| {
        (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

/// Windows where no calendar goes: such a cursor had a checksum only, and the request no answer.
#[test]
fn a_forged_cursor_is_refused_before_its_numbers_are_looked_at() {
    let database = with_events();
    let api = start(&database);
    let (far, further) = (8_210_266_876_799_999_000_i64, 8_210_266_876_799_999_990_i64);
    for increment in ["hour", "day", "week", "month"] {
        let question = format!("time_increment={increment}&time_zone=Asia/Kolkata");
        let numbers = format!("0.{far}.{further}.0.1");
        let sum = fnv(&format!("?{question}&"));
        for before in [
            format!("{sum:08x}{:08x}", fnv(&numbers)),
            format!("{sum:08x}{:032x}", fnv(&numbers)),
            format!("{sum:08x}"),
            String::new(),
        ] {
            refused(
                &api,
                &format!("/insights?{question}&cursor={before}.{numbers}"),
            );
        }
    }
    let given = [
        ("/campaigns?limit=1", 2),
        (EVENTS, 2),
        ("/dead-letters?limit=1", 3),
        ("/alerts?limit=1", 1),
        (
            "/insights?time_increment=day&since=2026-01-30&until=2026-02-02&limit=1",
            5,
        ),
    ];
    for (path, many) in given {
        let numbers = vec![i64::MAX.to_string(); many].join(".");
        for before in [
            "",
            "811c9dc5811c9dc5.",
            "811c9dc500000000000000000000000000000000.",
        ] {
            refused(&api, &format!("{path}&cursor={before}{numbers}"));
        }
    }
    // One that was given, and changed.
    let cursor = next(&api, EVENTS);
    let (signed, number) = cursor.rsplit_once('.').expect("numbers");
    let number: i64 = number.parse().expect("a number");
    refused(&api, &format!("{EVENTS}&cursor={signed}.{}", number + 1));
    refused(&api, &format!("{EVENTS}&cursor={}", cursor.to_uppercase()));
    assert_eq!(api.get(&format!("{EVENTS}&cursor={cursor}")).status, 200);
    assert_eq!(api.get("/livez").status, 200);
}

#[test]
fn every_server_of_a_database_takes_its_cursors_until_their_key_is_changed() {
    let (database, other) = (with_events(), with_events());
    let first = start(&database);
    let cursor = next(&first, EVENTS);
    let path = format!("{EVENTS}&cursor={cursor}");
    assert_eq!(start(&database).get(&path).status, 200, "another server");
    drop(first);
    assert_eq!(start(&database).get(&path).status, 200, "the next one");
    // Each database has a key of its own.
    refused(&start(&other), &path);
    database
        .connect()
        .batch_execute("UPDATE cursor_key SET secret = DEFAULT")
        .expect("changes");
    let after = start(&database);
    refused(&after, &path);
    let path = format!("{EVENTS}&cursor={}", next(&after, EVENTS));
    assert_eq!(after.get(&path).status, 200);
}

/// With Redis it is the same list, however the numbers have moved; without, its pages are where it began.
#[test]
fn a_list_goes_on_at_another_server_through_redis() {
    let database = TestDatabase::create();
    let name = |n: i64| format!("cmp-{n}");
    let event = |n: i64, id: i64, clicks: i64| {
        given(
            &name(n),
            Platform::Meta,
            TIME + id,
            [clicks, clicks, 0, 1, 1],
        )
    };
    let events: Vec<_> = (1..=9).map(|n| event(n, n, 10 - n)).collect();
    count(&mut database.connect(), &events);
    let redis = variable("REDIS_URL");
    let servers = [(); 2].map(|()| Api::start(&database.url(), Some(&redis), SHORT));
    for api in &servers {
        until("it has met Redis", || {
            api.get("/campaign/cmp-1/insights").cache == "redis"
        });
    }
    let alone = start(&database);
    let path = "/campaigns?sort=clicks&limit=2";
    let mut page = servers[0].get(path).json();
    count(&mut database.connect(), &[event(9, 10, 1_000)]);
    let mut found = Vec::new();
    for api in servers.iter().rev().cycle() {
        let rows = page["data"].as_array().expect("rows");
        found.extend(rows.iter().map(|row| row["campaign_id"].clone()));
        assert_eq!(page["paging"]["total"], 9);
        let Some(cursor) = page["paging"]["next_cursor"].as_str() else {
            break;
        };
        let path = format!("{path}&cursor={cursor}");
        let refused = alone.get(&path);
        assert_eq!(refused.status, 410, "{refused:?}");
        assert_eq!(refused.json()["type"], "urn:adflux:problem:expired-cursor");
        page = api.get(&path).json();
    }
    let expected: Vec<_> = (1..=9).map(name).collect();
    assert_eq!(found, expected);
    // This page is of the first server again, which has the numbers of the first page.
    let last = &page["data"][0];
    assert_eq!(last["campaign_id"], "cmp-9");
    assert_eq!(last["clicks"], 1);
}
