//! What the API answers when all is well.

use std::time::Duration;

use adflux::event::{MAX_SUM, Platform};
use adflux::time::Length;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz};
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::world::{Api, TestDatabase, count, count_on, given, until, variable};

/// 2026-01-31T00:00:00Z
const MIDNIGHT: i64 = 1_769_817_600_000_000;

#[test]
fn an_insight_has_sums_ratios_platforms_window_and_freshness() {
    let database = TestDatabase::create();
    count(
        &mut database.connect(),
        &[
            given(
                "cmp-1",
                Platform::Meta,
                MIDNIGHT,
                [10_000, 200, 10, 50_000_000, 400_000_000],
            ),
            given(
                "cmp-1",
                Platform::TikTok,
                MIDNIGHT + 60_000_000,
                [90_000, 0, 0, 0, 0],
            ),
            given("cmp-2", Platform::Google, MIDNIGHT, [1, 1, 1, 1, 1]),
        ],
    );
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    let answer = api.get("/campaign/cmp-1/insights");
    assert_eq!((answer.status, answer.cache.as_str()), (200, "database"));
    let body = answer.json();
    assert_eq!(body["campaign_id"], "cmp-1");
    assert_eq!(body["window"], json!({ "since": null, "until": null }));
    assert_eq!(
        body["freshness"]["first_event_time"],
        "2026-01-31T00:00:00.000000Z"
    );
    assert_eq!(
        body["freshness"]["last_event_time"],
        "2026-01-31T00:01:00.000000Z"
    );
    assert_eq!(body["freshness"]["stale"], false);
    assert_eq!(
        body["totals"],
        json!({
            "claimed_by": ["Meta"], "events": 2, "impressions": 100_000, "clicks": 200, "conversions": 10,
            "cost_micros": 50_000_000, "revenue_micros": 400_000_000, "profit_micros": 350_000_000,
            "cost": 50.0, "revenue": 400.0, "profit": 350.0,
            "ctr": 0.002, "cvr": 0.05, "cpc": 0.25, "cpm": 0.5, "cpa": 5.0, "roas": 8.0, "aov": 40.0,
        })
    );
    // The whole window is one row, and by platform as many as have events.
    assert_eq!(body["data"][0]["revenue"], 400.0);
    assert_eq!(body["paging"], json!({ "next_cursor": null, "total": 1 }));
    let by_platform = api
        .get("/campaign/cmp-1/insights?breakdown=platform&fields=clicks")
        .json();
    assert_eq!(
        by_platform["data"],
        json!([
            { "since": null, "until": null, "platform": "Meta", "clicks": 200 },
            { "since": null, "until": null, "platform": "TikTok", "clicks": 0 },
        ])
    );
    let all = api.get("/insights?fields=clicks").json();
    assert_eq!(all["totals"], json!({ "clicks": 201 }));
    assert_eq!(body["platforms"][0]["platform"], "Meta");
    assert_eq!(body["platforms"][0]["ctr"], 0.02);
    // A zero denominator is null, not zero and not an error.
    let tiktok = &body["platforms"][1];
    assert_eq!(tiktok["platform"], "TikTok");
    assert_eq!((&tiktok["ctr"], &tiktok["cpm"]), (&json!(0.0), &json!(0.0)));
    for ratio in ["cvr", "cpc", "cpa", "roas", "aov"] {
        assert!(tiktok[ratio].is_null(), "{ratio}");
    }
}

#[test]
fn a_sum_over_campaigns_that_fits_no_number_is_said_to_be_so() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let mut most = |n: i32| {
        let campaign = format!("cmp-{n}");
        let event = given(&campaign, Platform::Meta, MIDNIGHT, [0, 0, 0, 0, MAX_SUM]);
        count_on(&mut connection, n, &[event]);
    };
    // Of each campaign as much as there may be: eight of them fit 64 bits, and no further one.
    (0..8).for_each(&mut most);
    let api = Api::start(&database.url(), None, Duration::from_millis(1));
    let questions = [
        "/insights",
        "/campaigns?limit=1",
        "/insights?breakdown=platform&format=csv",
    ];
    let all = 8 * MAX_SUM;
    for question in &questions[..2] {
        let totals = api.get(question).json()["totals"].clone();
        assert_eq!(totals["revenue_micros"], all, "{question}");
    }
    (8..12).for_each(&mut most);
    for question in questions {
        until("a sum is too large", || api.get(question).status == 422);
        let answer = api.get(question).json();
        assert_eq!(
            answer["type"], "urn:adflux:problem:sum-too-large",
            "{question}"
        );
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("fewer campaigns"), "{detail}");
    }
    // What fits is answered.
    let one = api.get("/campaign/cmp-11/insights").json();
    assert_eq!(one["totals"]["revenue_micros"], MAX_SUM);
    let some = api.get("/campaigns?search=cmp-1&limit=1").json();
    assert_eq!(some["totals"]["revenue_micros"], 3 * MAX_SUM);
}

#[test]
fn any_window_equals_the_events_in_it() {
    #[derive(QueryableByName)]
    struct Sum {
        #[diesel(sql_type = BigInt)]
        cost: i64,
        #[diesel(sql_type = BigInt)]
        events: i64,
    }
    let database = TestDatabase::create();
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let events: Vec<_> = (0..3_000)
        .map(|n| {
            let time = MIDNIGHT + random.random_range(0..40 * Length::DAY.get());
            let platform = Platform::ALL[random.random_range(0..4)];
            given(
                &format!("cmp-{}", n % 2),
                platform,
                time,
                [n, 1, 0, random.random_range(0..1_000_000), 0],
            )
        })
        .collect();
    let mut connection = database.connect();
    count(&mut connection, &events);
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    for _ in 0..60 {
        let length = Length::MINUTE.get() << random.random_range(0..16);
        let since = MIDNIGHT + random.random_range(-Length::DAY.get()..40 * Length::DAY.get());
        let since = since - since % Length::MINUTE.get();
        let until = since + length;
        let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros).expect("valid");
        let query = |micros| time(micros).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let body = api
            .get(&format!(
                "/campaign/cmp-1/insights?since={}&until={}",
                query(since),
                query(until)
            ))
            .json();
        let expected: Sum = diesel::sql_query(
            "SELECT coalesce(sum(cost_micros), 0)::bigint AS cost, count(*) AS events FROM ad_events \
             WHERE campaign_id = $1 AND event_time >= $2 AND event_time < $3",
        )
        .bind::<Text, _>("cmp-1")
        .bind::<Timestamptz, _>(time(since))
        .bind::<Timestamptz, _>(time(until))
        .get_result(&mut connection)
        .expect("sums");
        assert_eq!(
            body["totals"]["events"],
            expected.events,
            "{} to {}",
            query(since),
            query(until)
        );
        assert_eq!(body["totals"]["cost_micros"], expected.cost);
    }
}

#[test]
fn campaigns_are_sorted_and_paged_without_skipping_or_repeating() {
    let database = TestDatabase::create();
    let events: Vec<_> = (0..25)
        .map(|n| {
            // Every fifth has no clicks, so no cpc; several share a value.
            let clicks = if n % 5 == 0 { 0 } else { n % 7 };
            given(
                &format!("cmp-{n}"),
                Platform::Meta,
                MIDNIGHT,
                [
                    1_000 + n,
                    clicks,
                    n % 3,
                    1_000_000 * n,
                    2_000_000 * (25 - n),
                ],
            )
        })
        .collect();
    count(&mut database.connect(), &events);
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    let keys = "events impressions clicks conversions cost cost_micros revenue profit ctr cvr cpc cpm cpa roas aov";
    for key in keys.split(' ') {
        for order in ["asc", "desc"] {
            let all = api
                .get(&format!("/campaigns?sort={key}&order={order}&limit=500"))
                .json();
            let all = all["data"].as_array().expect("a list").clone();
            assert_eq!(all.len(), 25);
            let values: Vec<Option<f64>> = all.iter().map(|c| c[key].as_f64()).collect();
            for pair in values.windows(2) {
                let in_order = match (pair[0], pair[1]) {
                    (Some(a), Some(b)) if order == "asc" => a <= b,
                    (Some(a), Some(b)) => a >= b,
                    (None, Some(_)) => false,
                    (_, None) => true,
                };
                assert!(in_order, "{key} {order}: {pair:?}");
            }
            let mut paged = Vec::new();
            let mut path = format!("/campaigns?sort={key}&order={order}&limit=4");
            loop {
                let page = api.get(&path).json();
                paged.extend(page["data"].as_array().expect("a list").clone());
                match page["paging"]["next_cursor"].as_str() {
                    Some(cursor) => {
                        path =
                            format!("/campaigns?sort={key}&order={order}&limit=4&cursor={cursor}")
                    }
                    None => break,
                }
            }
            assert_eq!(paged, all, "{key} {order}");
        }
    }
    let windowed = api
        .get("/campaigns?since=2026-01-31T00:00:00Z&until=2026-01-31T00:01:00Z&limit=500")
        .json();
    assert_eq!(windowed["data"].as_array().expect("a list").len(), 25);
    let before = api
        .get("/campaigns?since=2026-01-30T00:00:00Z&until=2026-01-31T00:00:00Z")
        .json();
    assert_eq!(before["data"], json!([]));
}

#[test]
fn health_and_metrics_name_what_they_are_about() {
    let database = TestDatabase::create();
    let api = Api::start(
        &database.url(),
        Some(&variable("REDIS_URL")),
        Duration::from_millis(50),
    );
    assert_eq!(api.get("/livez").json(), json!({ "status": "ok" }));
    until("all of it answers", || {
        api.get("/readyz").json() == json!({ "status": "ok", "postgresql": "ok", "redis": "ok" })
    });
    api.get("/campaign/x/insights");
    let metrics = api.get("/metrics");
    assert!(
        metrics
            .content_type
            .starts_with("text/plain; version=0.0.4")
    );
    for name in [
        "adflux_events_total",
        "adflux_duplicates_total",
        "adflux_http_request_seconds_bucket",
    ] {
        assert!(metrics.text.contains(name), "{name}");
    }
}
