//! What the API answers when it is asked about the past.

use std::time::Duration;

use adflux::event::Platform;
use chrono::{DateTime, SecondsFormat, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use serde_json::{Value, json};

use crate::world::{Api, TestDatabase, count, given};

/// 2026-01-31T00:00:00Z
const MIDNIGHT: i64 = 1_769_817_600_000_000;

fn clock(connection: &mut PgConnection) -> DateTime<Utc> {
    #[derive(QueryableByName)]
    struct Clock {
        #[diesel(sql_type = Timestamptz)]
        now: DateTime<Utc>,
    }
    let clock: Clock = diesel::sql_query("SELECT clock_timestamp() AS now")
        .get_result(connection)
        .expect("a time");
    clock.now
}

fn insights(instant: &DateTime<Utc>, more: &str) -> String {
    let instant = instant.to_rfc3339_opts(SecondsFormat::Micros, true);
    format!("/campaign/cmp-1/insights?as_of={instant}{more}")
}

fn report(n: i64) -> [crate::world::Given; 1] {
    let time = MIDNIGHT + n * 3_600_000_000;
    [given("cmp-1", Platform::Google, time, [100 * n, n, 1, 0, 0]).with_conversions(n * 333_333)]
}

#[test]
fn an_answer_about_the_past_is_what_was_answered_then() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let api = Api::start(&database.url(), None, Duration::ZERO);
    let before_all = clock(&mut connection);
    let windows = ["", "&since=2026-01-31T02:00:00Z&until=2026-01-31T04:00:00Z"];
    let mut remembered: Vec<(DateTime<Utc>, &str, Value)> = Vec::new();
    for n in 1..=4 {
        count(&mut connection, &report(n));
        let now = clock(&mut connection);
        for window in windows {
            let path = format!("/campaign/cmp-1/insights?{window}");
            remembered.push((now, window, api.get(&path).json()));
        }
    }
    for (instant, window, then) in &remembered {
        let answer = api.get(&insights(instant, window));
        assert_eq!((answer.status, answer.cache.as_str()), (200, "database"));
        let mut body = answer.json();
        let told = body.as_object_mut().expect("an object").remove("as_of");
        assert_eq!(
            told,
            Some(json!(instant.to_rfc3339_opts(SecondsFormat::Micros, true)))
        );
        assert_eq!(&body, then);
    }
    // What an answer rests on.
    let (_, _, last) = &remembered[6];
    assert_eq!(last["totals"]["events"], 4);
    assert_eq!(
        last["freshness"]["positions"],
        json!([{ "topic": "ad-events", "partition": 0, "next_offset": 4 }])
    );

    // A preset means what it meant at that instant: then as now, nothing was reported for that day.
    let today = api
        .get(&insights(&remembered[0].0, "&date_preset=today"))
        .json();
    assert_eq!(today["totals"]["events"], 0);
    let day = remembered[0].0.format("%Y-%m-%dT00:00:00Z").to_string();
    assert_eq!(today["window"]["since"], day);

    let early = api.get(&insights(&before_all, ""));
    assert_eq!(early.status, 404);
    let problem = early.json();
    assert_eq!(problem["type"], "urn:adflux:problem:unknown-campaign");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("had been counted by"), "{detail}");
}

#[test]
fn what_cannot_be_answered_is_said() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    count(&mut connection, &report(1));
    let api = Api::start(&database.url(), None, Duration::ZERO);
    let tomorrow = clock(&mut connection) + chrono::Duration::days(1);
    for wrong in [
        insights(&tomorrow, ""),
        "/campaign/cmp-1/insights?as_of=yesterday".to_owned(),
        "/campaign/cmp-1/insights?as_of=".to_owned(),
        "/campaign/cmp-1/insights?as_of=1969-01-01T00:00:00Z".to_owned(),
        "/campaign/cmp-1/insights?as_of=2026-01-01T00:00:00Z&as_of=2026-01-01T00:00:00Z".to_owned(),
    ] {
        let answer = api.get(&wrong);
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
        assert_eq!(answer.json()["parameter"], "as_of", "{wrong}");
    }

    // A commit that does not end: said, and not waited for without a bound.
    let now = clock(&mut connection);
    connection
        .batch_execute(
            "SET idle_in_transaction_session_timeout = 0; BEGIN; UPDATE stream_positions SET owner = 'frozen'",
        )
        .expect("updates");
    let answer = api.get(&insights(&clock(&mut database.connect()), ""));
    assert_eq!(
        (answer.status, answer.retry_after.as_str()),
        (503, "1"),
        "{answer:?}"
    );
    connection.batch_execute("ROLLBACK").expect("rolls back");
    assert_eq!(api.get(&insights(&now, "")).status, 200);
}
