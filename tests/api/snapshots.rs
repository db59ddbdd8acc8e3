//! Whole documents, as they were when somebody last looked at them: what clients rely on changes only
//! where a reviewer sees it. `INSTA_UPDATE=always make test` writes them anew.

use std::time::Duration;

use adflux::event::Platform;
use diesel::connection::SimpleConnection as _;
use serde_json::Value;

use crate::world::{Api, TestDatabase, count, given};

/// 2026-01-31T12:00:00Z
const NOON: i64 = 1_769_860_800_000_000;
const HOUR: i64 = 3_600_000_000;

/// What differs from run to run.
const MOVING: &[&str] = &["counted_at", "created_at", "next_cursor", "request_id"];

fn steady(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if MOVING.contains(&name.as_str()) && !value.is_null() {
                    *value = Value::from(format!("[{name}]"));
                } else {
                    steady(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(steady),
        _ => {}
    }
}

fn counted() -> TestDatabase {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let events = [
        given(
            "spring",
            Platform::Meta,
            NOON,
            [1_000, 50, 5, 20_000_000, 90_000_000],
        ),
        given(
            "spring",
            Platform::TikTok,
            NOON + HOUR,
            [400, 8, 0, 9_500_000, 0],
        ),
        given(
            "autumn",
            Platform::Google,
            NOON - 24 * HOUR,
            [300, 9, 1, 4_000_000, 3_999_999],
        ),
        // Seen by nobody: there is nothing to divide by.
        given("winter", Platform::LinkedIn, NOON, [0, 0, 0, 0, 0]),
    ];
    count(&mut connection, &events);
    let dead = "INSERT INTO dead_letters (stream_id, \"offset\", reason, record_time, key, payload, headers, commit_id) \
         SELECT stream_id, 1000, 'truncated', '2026-01-31 12:00Z', 'spring', '\\x0000000001', \
             '[{\"key\": \"trace\", \"value\": \"6162\"}]', 1 FROM stream_positions";
    connection.batch_execute(dead).expect("a dead letter");
    database
}

#[test]
fn documents_and_problems_are_as_they_were() {
    let database = counted();
    let api = Api::start(&database.url(), None, Duration::from_millis(20));
    let window = "since=2026-01-30&until=2026-02-01&time_zone=Europe/Berlin";
    for (name, path) in [
        (
            "insights_of_a_campaign",
            "/campaign/spring/insights".to_owned(),
        ),
        (
            "insights_by_day_and_platform_compared",
            format!(
                "/campaign/spring/insights?{window}&time_increment=day&breakdown=platform&compare=previous_period&fields=cost,roas"
            ),
        ),
        (
            "insights_without_a_denominator",
            "/campaign/winter/insights".to_owned(),
        ),
        (
            "insights_of_all",
            format!("/insights?{window}&fields=cost,roas,cpa"),
        ),
        (
            "campaigns",
            format!("/campaigns?{window}&sort=roas&filter=cost%3E0"),
        ),
        ("events", "/campaign/spring/events?limit=1".to_owned()),
        ("dead_letters", "/dead-letters".to_owned()),
        (
            "problem_unknown_campaign",
            "/campaign/nobody/insights".to_owned(),
        ),
        ("problem_campaign_id", "/campaign/a%2Fb/insights".to_owned()),
        (
            "problem_unknown_parameter",
            "/campaigns?colour=red".to_owned(),
        ),
        ("problem_filter", "/campaigns?filter=roas~1".to_owned()),
        (
            "problem_zone",
            "/insights?time_zone=Mars/Olympus".to_owned(),
        ),
        (
            "problem_window",
            "/insights?since=2026-02-01&until=2026-01-01".to_owned(),
        ),
        ("problem_limit", "/campaigns?limit=1000000".to_owned()),
        (
            "problem_cursor",
            "/campaigns?cursor=0123456789abcdef.1".to_owned(),
        ),
        ("problem_path", "/nowhere".to_owned()),
    ] {
        let answer = api.get(&path);
        let mut document = answer.json();
        steady(&mut document);
        let document = serde_json::json!({
            "request": path,
            "status": answer.status,
            "content_type": answer.content_type,
            "body": document,
        });
        insta::assert_json_snapshot!(name, document);
    }
    let table = api.get(&format!("/campaigns?{window}&sort=roas&format=csv"));
    insta::assert_snapshot!("campaigns_as_csv", table.text);
}
