//! A day that its platform still restates has what is expected of it beside what is known.

use std::time::Duration;

use adflux::event::Platform;
use chrono::{NaiveDate, NaiveTime};
use diesel::connection::SimpleConnection;
use diesel::sql_types::Date;
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use serde_json::{Value, json};

use crate::world::{Api, TestDatabase, count, given};

/// Eighty days of a campaign in Berlin, asked about each evening until yesterday's: on the day after, each has twice as many
/// conversions, and then no more. Gives yesterday.
fn reported(database: &TestDatabase) -> NaiveDate {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Date)]
        day: NaiveDate,
    }
    let mut connection = database.connect();
    let today = "SELECT (now() AT TIME ZONE 'Europe/Berlin')::date AS day";
    let today: Row = sql_query(today).get_result(&mut connection).expect("today");
    let yesterday = today.day.pred_opt().expect("valid");
    let noon = yesterday.and_time(NaiveTime::from_hms_opt(12, 0, 0).expect("noon"));
    let time = noon.and_utc().timestamp_micros();
    let counts = [10, 1, 11, 1_000_000, 0];
    count(
        &mut connection,
        &[
            given("google:1:1", Platform::Google, time, counts),
            given("cmp-0", Platform::Google, time, counts),
        ],
    );
    let values = "0, 0, 0, NULL, NULL, NULL, now()";
    let columns = "campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, event_time, conversion_micros, \
                   impressions, clicks, cost_micros, revenue_micros, file_id, line, counted_at";
    let days = format!(
        "SELECT 'google:1:1', d.day, '', k.definition_id, md5(d.day::text)::uuid, d.at, d.confirmed, d.at, d.conversions * 1000000, {values}
         FROM report_definitions AS k,
             LATERAL (SELECT n, DATE '{yesterday}' - n AS day, 10 + n % 3 AS size FROM generate_series(0, 79) AS n) AS of_day,"
    );
    connection
        .batch_execute(&format!(
            "INSERT INTO report_definitions (platform, account, time_zone, currency, conversions, revenue, grain)
                 VALUES (1, '1', 'Europe/Berlin', 'EUR', '', '', '');
             UPDATE campaigns SET definition_id = k.definition_id, described_at = now()
                 FROM report_definitions AS k WHERE campaign_id = 'google:1:1';
             INSERT INTO report_history ({columns}) {days}
                 LATERAL (SELECT of_day.*, NULL::timestamptz[] AS confirmed, size AS conversions,
                     (day + TIME '18:00') AT TIME ZONE 'Europe/Berlin' AS at) AS d WHERE d.n > 0;
             INSERT INTO report_rows ({columns}) {days}
                 LATERAL (SELECT of_day.*, size * (1 + LEAST(n, 1)) AS conversions,
                     CASE WHEN n > 1 THEN ARRAY[(DATE '{yesterday}' + TIME '18:00') AT TIME ZONE 'Europe/Berlin'] END AS confirmed,
                     (day + LEAST(n, 1) + TIME '18:00') AT TIME ZONE 'Europe/Berlin' AS at) AS d;"
        ))
        .expect("reports");
    yesterday
}

/// What is expected of the day so many before yesterday.
fn expected(answer: &Value, yesterday: NaiveDate, before: u64) -> Value {
    let day = yesterday - chrono::Days::new(before);
    let is_of = |row: &&Value| {
        let since = row["since"].as_str().expect("an instant");
        since.starts_with(&day.to_string())
    };
    let rows = answer["data"].as_array().expect("rows");
    let row = rows
        .iter()
        .find(is_of)
        .unwrap_or_else(|| panic!("no {day} in {answer}"));
    row["expected"].clone()
}

#[test]
fn a_provisional_day_has_what_is_known_and_what_is_expected() {
    let database = TestDatabase::create();
    let yesterday = reported(&database);
    let api = Api::start(&database.url(), None, Duration::ZERO);
    let ask = |path: &str, more: &str| {
        let days = "date_preset=last_90d_including_today&time_increment=day";
        let answer = api.get(&format!("{path}?{days}&{more}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let path = "/campaign/google:1:1/insights";
    let berlin = ask(path, "time_zone=Europe/Berlin");
    let of = |known: f64, expected: f64| {
        let number = json!({ "known": known, "expected": expected, "low": expected, "high": expected, "days": 50 });
        json!({ "conversions": number, "revenue": null })
    };
    assert_eq!(expected(&berlin, yesterday, 0), of(10.0, 20.0));
    assert_eq!(
        expected(&berlin, yesterday, 1),
        of(22.0, 22.0),
        "asked about on the day after"
    );
    assert_eq!(expected(&berlin, yesterday, 29), of(24.0, 24.0));
    assert_eq!(expected(&berlin, yesterday, 30), Value::Null, "final");
    assert_eq!(expected(&berlin, yesterday, 70), Value::Null, "final");

    let google = ask(
        path,
        "time_zone=Europe/Berlin&breakdown=platform&platform=Google",
    );
    assert_eq!(expected(&google, yesterday, 0), of(10.0, 20.0));
    // Of what is no day of the account, not of what it reports, or not reported at all, nothing is expected.
    for (path, more) in [
        (path, "time_zone=UTC"),
        (path, "time_zone=Europe/Berlin&platform=Meta"),
        (path, "time_zone=Europe/Berlin&fields=cost"),
        ("/campaign/cmp-0/insights", "time_zone=Europe/Berlin"),
        ("/insights", "time_zone=Europe/Berlin"),
    ] {
        assert_eq!(
            expected(&ask(path, more), yesterday, 0),
            Value::Null,
            "{path} {more}"
        );
    }
}
