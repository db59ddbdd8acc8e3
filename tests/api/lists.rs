//! Lists in pages, while data moves; events and dead letters; tables.

use std::collections::BTreeSet;
use std::time::Duration;

use adflux::event::Platform;
use adflux::time::Length;
use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use crate::world::{Answer, Api, TestDatabase, count, given, until};

/// 2026-01-31T00:00:00Z
const MIDNIGHT: i64 = 1_769_817_600_000_000;

fn api(database: &TestDatabase) -> Api {
    Api::start(&database.url(), None, Duration::from_millis(20))
}

fn ids(page: &Value) -> Vec<String> {
    let rows = page["data"].as_array().unwrap_or_else(|| panic!("{page}"));
    let id = |row: &Value| row["campaign_id"].as_str().expect("an id").to_owned();
    rows.iter().map(id).collect()
}

#[test]
fn pages_neither_skip_nor_repeat_while_every_number_moves() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let earn = |campaign: String, revenue| {
        given(
            &campaign,
            Platform::Meta,
            MIDNIGHT,
            [10, 1, 1, 1_000, revenue],
        )
    };
    let events: Vec<_> = (0..60).map(|n| earn(format!("cmp-{n}"), n * 10)).collect();
    count(&mut connection, &events);
    let api = api(&database);
    let first = api.get("/campaigns?sort=revenue&limit=7").json();
    assert_eq!(first["paging"]["total"], 60);
    // Of the whole list, on each of its pages.
    assert_eq!(
        first["totals"]["revenue_micros"],
        (0..60).map(|n| n * 10).sum::<i64>()
    );
    let totals = first["totals"].clone();
    let mut seen = ids(&first);
    let mut page = first;
    let mut round = 0;
    while let Some(cursor) = page["paging"]["next_cursor"].as_str() {
        // Those that were last overtake everybody, and new ones come in.
        round += 1;
        let events: Vec<_> = (0..60)
            .map(|n| earn(format!("cmp-{n}"), (60 - n) * 1_000 * round))
            .chain([earn(format!("new-{round}"), 1_000_000)])
            .collect();
        count(&mut connection, &events);
        page = api
            .get(&format!("/campaigns?sort=revenue&limit=7&cursor={cursor}"))
            .json();
        assert_eq!(page["paging"]["total"], 60);
        assert_eq!(page["totals"], totals);
        seen.extend(ids(&page));
    }
    let in_order: Vec<String> = (0..60).rev().map(|n| format!("cmp-{n}")).collect();
    assert_eq!(seen, in_order, "the list as it was when it was asked for");
    until("a new list has the new campaigns", || {
        let now = ids(&api.get("/campaigns?sort=revenue&limit=500").json());
        now.len() == 60 + round as usize && now.first().is_some_and(|id| id == "cmp-0")
    });
    // A page can be asked for again, in another size.
    let first = api.get("/campaigns?sort=events&limit=10").json();
    let cursor = first["paging"]["next_cursor"].as_str().expect("more");
    let again = |limit| {
        ids(&api
            .get(&format!(
                "/campaigns?sort=events&limit={limit}&cursor={cursor}"
            ))
            .json())
    };
    assert_eq!(again(5), again(20)[..5]);
}

#[test]
fn which_meta_campaigns_lost_money_is_one_request() {
    let database = TestDatabase::create();
    // Yesterday in Berlin; the third was on another day there, though the same in UTC.
    let now = chrono::Utc::now();
    let berlin = now.with_timezone(&chrono_tz::Europe::Berlin).date_naive();
    let midnight = |days| {
        let date = berlin - chrono::Days::new(days);
        let local = date.and_hms_opt(0, 0, 0).expect("a time");
        local
            .and_local_timezone(chrono_tz::Europe::Berlin)
            .earliest()
            .expect("exists")
            .timestamp_micros()
    };
    let (start, end) = (midnight(1), midnight(0));
    let lost = [100, 10, 1, 5_000_000, 2_000_000];
    count(
        &mut database.connect(),
        &[
            given("lost", Platform::Meta, start, lost),
            given("lost-on-google", Platform::Google, start, lost),
            given(
                "the-day-before",
                Platform::Meta,
                start - Length::MINUTE.get(),
                lost,
            ),
            given("today", Platform::Meta, end, lost),
            given(
                "lost-more",
                Platform::Meta,
                end - Length::MINUTE.get(),
                [100, 10, 0, 9_000_000, 0],
            ),
            given(
                "earned",
                Platform::Meta,
                start,
                [100, 10, 1, 2_000_000, 5_000_000],
            ),
        ],
    );
    let api = api(&database);
    let question = "/campaigns?platform=Meta&date_preset=yesterday&time_zone=Europe/Berlin&filter=profit%3C0&sort=profit&order=asc&fields=profit,roas";
    let body = api.get(question).json();
    assert_eq!(
        body["data"],
        json!([
            {
                "campaign_id": "lost-more", "campaign_name": null, "account_id": null, "currency": null,
                "account_time_zone": null, "profit": -9.0, "roas": 0.0,
            },
            {
                "campaign_id": "lost", "campaign_name": null, "account_id": null, "currency": null,
                "account_time_zone": null, "profit": -3.0, "roas": 0.4,
            },
        ])
    );
    let table = api.get(&format!("{question}&format=csv"));
    assert_eq!(table.content_type, "text/csv; charset=utf-8");
    assert_eq!(
        table.text,
        "campaign_id,campaign_name,account_id,currency,account_time_zone,profit,roas\nlost-more,,,,,-9,0\nlost,,,,,-3,0.4\n"
    );
}

#[test]
fn a_comparison_has_values_absolute_and_relative_change() {
    let database = TestDatabase::create();
    let day = Length::DAY.get();
    count(
        &mut database.connect(),
        &[
            given(
                "cmp-1",
                Platform::Meta,
                MIDNIGHT - day,
                [100, 10, 0, 4_000_000, 0],
            ),
            given(
                "cmp-1",
                Platform::Meta,
                MIDNIGHT,
                [300, 15, 3, 5_000_000, 9_000_000],
            ),
        ],
    );
    let api = api(&database);
    let window = "since=2026-01-31&until=2026-02-01&compare=previous_period";
    let fields = "fields=impressions,cost,ctr,cpa,roas,revenue";
    let expected = json!({
        "previous": { "impressions": 100, "cost": 4.0, "revenue": 0.0, "ctr": 0.1, "cpa": null, "roas": 0.0 },
        "absolute": { "impressions": 200, "cost": 1.0, "revenue": 9.0, "ctr": -0.05, "cpa": null, "roas": 1.8 },
        "relative": { "impressions": 2.0, "cost": 0.25, "revenue": null, "ctr": -0.5, "cpa": null, "roas": null },
    });
    let body = api
        .get(&format!("/campaign/cmp-1/insights?{window}&{fields}"))
        .json();
    assert_eq!(
        body["previous_window"],
        json!({ "since": "2026-01-30T00:00:00Z", "until": "2026-01-31T00:00:00Z" })
    );
    assert_eq!(body["totals"]["comparison"], expected);
    assert_eq!(body["data"][0]["comparison"], expected);
    let list = api.get(&format!("/campaigns?{window}&{fields}")).json();
    assert_eq!(list["data"][0]["comparison"], expected);
    let table = api
        .get(&format!("/campaigns?{window}&fields=roas&format=csv"))
        .text;
    assert_eq!(
        table,
        "campaign_id,campaign_name,account_id,currency,account_time_zone,roas,previous_roas,absolute_roas,relative_roas\n\
         cmp-1,,,,,1.8,0,1.8,\n"
    );
    // All time has nothing before it.
    let all = api
        .get("/insights?compare=previous_period&fields=clicks")
        .json();
    assert_eq!(
        all["totals"]["comparison"],
        json!({ "previous": null, "absolute": { "clicks": null }, "relative": { "clicks": null } })
    );
}

#[test]
fn series_are_paged_and_written_as_tables() {
    let database = TestDatabase::create();
    let events: Vec<_> = (0..48)
        .map(|n| {
            given(
                "cmp-1",
                Platform::Meta,
                MIDNIGHT + n * Length::HOUR.get(),
                [n, 1, 0, 0, 0],
            )
        })
        .collect();
    count(&mut database.connect(), &events);
    let api = api(&database);
    let question = "/campaign/cmp-1/insights?time_increment=hour&fields=impressions";
    let all = api.get(question).json();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(48));
    assert_eq!(
        all["data"][1],
        json!({ "since": "2026-01-31T01:00:00Z", "until": "2026-01-31T02:00:00Z", "impressions": 1 })
    );
    let mut paged = Vec::new();
    let mut path = format!("{question}&limit=10");
    loop {
        let page = api.get(&path).json();
        paged.extend(page["data"].as_array().expect("rows").clone());
        let Some(cursor) = page["paging"]["next_cursor"].as_str() else {
            break;
        };
        path = format!("{question}&limit=10&cursor={cursor}");
    }
    assert_eq!(Value::from(paged), all["data"]);
    let table = api.get(&format!("{question}&format=csv"));
    assert_eq!(table.text.lines().count(), 49);
    assert!(
        table
            .text
            .starts_with("since,until,impressions\n2026-01-31T00:00:00Z,2026-01-31T01:00:00Z,0\n")
    );
}

fn walk(api: &Api, question: &str, name: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut path = question.to_owned();
    loop {
        let answer: Answer = api.get(&path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let page = answer.json();
        all.extend(
            page["data"]
                .as_array()
                .expect("rows")
                .iter()
                .map(|row| row[name].clone()),
        );
        let Some(cursor) = page["paging"]["next_cursor"].as_str() else {
            break;
        };
        path = format!("{question}&cursor={cursor}");
    }
    all
}

#[test]
fn the_newest_events_of_a_campaign_are_paged() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let event = |n: i64| {
        let platform = Platform::ALL[n as usize % 4];
        let time = MIDNIGHT + (n % 10) * Length::MINUTE.get();
        given(
            &format!("cmp-{}", n % 3),
            platform,
            time,
            [n, 0, 0, 1_500_000, 0],
        )
    };
    for block in 0..20 {
        let events: Vec<_> = (0..15).map(|n| event(block * 15 + n)).collect();
        count(&mut connection, &events);
    }
    let api = api(&database);
    let expected = |fits: &dyn Fn(i64) -> bool| {
        let of_campaign = (0..300).rev().filter(|n| n % 3 == 1 && fits(*n));
        of_campaign.map(Value::from).collect::<Vec<_>>()
    };
    let events = walk(&api, "/campaign/cmp-1/events?limit=7", "impressions");
    assert_eq!(events, expected(&|_| true));
    let meta = walk(
        &api,
        "/campaign/cmp-1/events?limit=7&platform=Meta",
        "impressions",
    );
    assert_eq!(meta, expected(&|n| n % 4 == 0));
    let window = "since=2026-01-31T00:02:00Z&until=2026-01-31T00:05:00Z";
    let some = walk(
        &api,
        &format!("/campaign/cmp-1/events?limit=3&{window}"),
        "impressions",
    );
    assert_eq!(some, expected(&|n| (2..5).contains(&(n % 10))));
    // What is counted meanwhile comes before the first page.
    let first = api.get("/campaign/cmp-1/events?limit=50").json();
    assert_eq!(first["data"][0]["cost"], 1.5);
    assert_eq!(first["data"][0]["offset"], 298);
    count(&mut connection, &[event(301), event(304)]);
    let cursor = first["paging"]["next_cursor"].as_str().expect("more");
    let next = api
        .get(&format!("/campaign/cmp-1/events?limit=50&cursor={cursor}"))
        .json();
    assert_eq!(next["data"][0]["impressions"], 298 - 50 * 3);
    assert_eq!(api.get("/campaign/nobody/events").status, 404);
    let table = api.get("/campaign/cmp-1/events?limit=2&format=csv").text;
    assert_eq!(table.lines().count(), 3);
}

#[test]
fn dead_letters_are_filtered_and_paged() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    count(
        &mut connection,
        &[given("cmp-1", Platform::Meta, MIDNIGHT, [1, 1, 1, 1, 1])],
    );
    // Several of one instant, as one statement stores them.
    connection
        .batch_execute(
            "INSERT INTO dead_letters (stream_id, \"offset\", reason, key, payload, headers, commit_id, created_at)
             SELECT (SELECT min(stream_id) FROM stream_positions), n,
                 CASE n % 3 WHEN 0 THEN 'truncated' ELSE 'no_payload' END, convert_to('cmp-' || n % 2, 'UTF8'),
                 CASE n % 3 WHEN 0 THEN '\\x00ff'::bytea END, '[{\"key\": \"a\", \"value\": null}]', 1,
                 timestamptz '2026-01-31T00:00:00Z' + n / 10 * interval '1 minute'
             FROM generate_series(1000, 1099) AS n",
        )
        .expect("inserts");
    let api = api(&database);
    let offsets = |question: &str| -> Vec<i64> {
        walk(&api, question, "offset")
            .iter()
            .filter_map(Value::as_i64)
            .collect()
    };
    let expected =
        |fits: &dyn Fn(i64) -> bool| (1000..1100).rev().filter(|n| fits(*n)).collect::<Vec<_>>();
    assert_eq!(offsets("/dead-letters?limit=7"), expected(&|_| true));
    assert_eq!(
        offsets("/dead-letters?limit=7&reason=truncated&key=cmp-1"),
        expected(&|n| n % 3 == 0 && n % 2 == 1)
    );
    let window = "since=2026-01-31T01:42:00Z&until=2026-01-31T01:45:00Z";
    assert_eq!(
        offsets(&format!("/dead-letters?limit=7&{window}")),
        expected(&|n| (1020..1050).contains(&n))
    );
    assert!(offsets("/dead-letters?limit=7&topic=other").is_empty());
    assert!(offsets("/dead-letters?limit=7&partition=1").is_empty());
    let page = api.get("/dead-letters?reason=truncated&limit=1").json();
    assert_eq!(
        page["data"][0],
        json!({
            "topic": "ad-events", "partition": 0, "offset": 1098, "reason": "truncated",
            "explanation": "the value ends in the middle of a field",
            "created_at": "2026-01-31T01:49:00.000000Z", "record_time": null, "key": "cmp-0", "key_hex": "636d702d30",
            "payload_hex": "00ff", "payload_bytes": 2, "headers": [{ "key": "a", "value": null }],
            "more": null,
        })
    );
    let one = "/dead-letters/ad-events/0/1098";
    assert_eq!(api.get(one).json(), page["data"][0]);
    let rest = api.get(&format!("{one}?payload_from=1")).json();
    assert_eq!(
        (&rest["payload_hex"], &rest["payload_bytes"]),
        (&json!("ff"), &json!(2))
    );
    for (path, status) in [
        ("/dead-letters/ad-events/0/1", 404),
        ("/dead-letters/other/0/1098", 404),
        ("/dead-letters/ad-events/x/1098", 400),
        ("/dead-letters/ad-events/0/1098?payload_from=-1", 400),
    ] {
        assert_eq!(api.get(path).status, status, "{path}");
    }
    let distinct: BTreeSet<i64> = offsets("/dead-letters?limit=500").into_iter().collect();
    assert_eq!(distinct.len(), 100);
}
