//! Alerts about what platforms report: over days that are final or expected, and of accounts whose reports stay away.

use std::time::Duration;

use adflux::alerts::overdue::Overdue;
use adflux::alerts::past;
use adflux::alerts::rule::{Minutes, Rule};
use adflux::alerts::watch::Given;
use adflux::alerts::{Settings, draft::Draft};
use adflux::api;
use adflux::event::Platform;
use chrono::{DateTime, Days, NaiveDate, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{Array, Text};
use diesel::{PgConnection, QueryableByName, RunQueryDsl as _, sql_query};
use reqwest::Method;
use serde_json::{Value, json};

use crate::alerts::{AHEAD, COUNTED_LONG_AGO, evaluate_as, put, report as report_partition, rule};
use crate::openapi::assert_described;
use crate::reports::{EURO, Row, report};
use crate::world::{Api, TestDatabase, count, given, until};

/// A zone in which it is about noon, so that no test sees a day end.
fn noon_zone() -> Tz {
    let hours = 12 - i64::from(Utc::now().hour());
    // Their names have the sign of POSIX.
    let name = format!("Etc/GMT{:+}", -hours);
    let name = name.replace("GMT+0", "GMT").replace("GMT-0", "GMT");
    name.parse().expect("a zone")
}

fn today(zone: Tz) -> NaiveDate {
    Utc::now().with_timezone(&zone).date_naive()
}

/// So many hours after a day of the zone began.
fn hours(zone: Tz, day: NaiveDate, hours: u32) -> DateTime<Utc> {
    let time = day.and_hms_opt(hours, 0, 0).expect("a time");
    let time = zone.from_local_datetime(&time).single();
    time.expect("an instant").to_utc()
}

fn leaked(text: impl ToString) -> &'static str {
    text.to_string().leak()
}

fn listed(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.get(&format!("/alerts{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_described(api, "get", "/alerts", &answer);
    answer.json()["data"].as_array().expect("an array").clone()
}

/// The rules of these alerts, by name.
fn names(alerts: &[Value]) -> Vec<&str> {
    let names = alerts.iter().filter_map(|alert| alert["rule"].as_str());
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names
}

fn checked(rules: &[Draft]) -> Vec<Rule> {
    let rules = rules.iter().map(|draft| draft.check(&|_| true));
    rules.collect::<Result<_, _>>().expect("rules")
}

/// What the same rules would have opened in the last minutes.
fn opened_in_the_past(
    connection: &mut PgConnection,
    rules: &[Draft],
    settings: &Settings,
) -> Vec<(String, Value)> {
    let (until, days) = (Utc::now(), settings.provisional_days);
    let since = until - TimeDelta::minutes(3);
    let (alerts, _) = past::test(
        connection,
        &checked(rules),
        days,
        since.into(),
        until.into(),
    )
    .expect("a past");
    let alerts = alerts.into_iter().map(|past| {
        assert_eq!(past.resolved_at, None, "{past:?}");
        (past.rule, json!(past.opened_values))
    });
    alerts.collect()
}

#[test]
fn days_that_still_change_are_left_out_of_what_is_settled() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let zone = noon_zone();
    let (today, observed_at) = (today(zone), leaked(Utc::now().to_rfc3339()));
    // The three days before today are provisional: most of what they will bring is not known yet.
    let rows = (1..=20).map(|n| Row {
        zone,
        day: leaked(today - Days::new(n)),
        observed_at,
        values: {
            let revenue = if n <= 3 { 5_000_000 } else { 20_000_000 };
            [
                Some(1_000),
                Some(50),
                Some(1_000_000),
                Some(10_000_000),
                Some(revenue),
            ]
        },
        ..EURO
    });
    report(&mut connection, &rows.collect::<Vec<_>>());
    connection.batch_execute(COUNTED_LONG_AGO).expect("updates");
    report_partition(&mut connection, 0, "idle", AHEAD);
    let rules = vec![
        rule("known-low", "roas < 1 over 3d"),
        rule("known-high", "roas > 1 over 3d"),
        rule("settled-low", "roas < 1 over 7d settled"),
        rule("settled-high", "roas > 1 over 7d settled"),
        rule(
            "settled-mean",
            "revenue over 3d settled < 110% of mean over 9d",
        ),
        rule("expected", "expected roas < 100 over 3d"),
    ];
    let settings = Settings {
        given: Some(Given {
            rules: rules.clone(),
            webhooks: Vec::new(),
        }),
        provisional_days: "google=3".parse().expect("valid"),
        ..Settings::default()
    };
    let of_api = api::Settings {
        provisional_days: settings.provisional_days,
        ..api::Settings::default()
    };
    let api = Api::start_with(&database.url(), None, Duration::ZERO, of_api);
    let open = evaluate_as(&database.url(), &settings, 2, || {
        until("they open", || listed(&api, "?state=open").len() >= 3);
        listed(&api, "?measure=now")
    });
    // What is expected of an account that was never seen before, nobody can say.
    assert_eq!(names(&open), ["known-low", "settled-high", "settled-mean"]);
    let settled = open.iter().find(|alert| alert["rule"] == "settled-high");
    let settled = settled.expect("an alert");
    let values =
        json!([{ "condition": "roas > 1 over 7d settled", "value": 2.0, "threshold": 1.0 }]);
    assert_eq!(settled["opened_values"], values);
    assert_eq!(settled["current_values"], values);
    let described = [
        "campaign_id",
        "campaign_name",
        "platform",
        "account_id",
        "currency",
    ];
    assert_eq!(
        described.map(|name| settled[name].clone()),
        ["google:1:10", "Sommer Ä", "Google", "1", "EUR"].map(Value::from)
    );
    let mean = open.iter().find(|alert| alert["rule"] == "settled-mean");
    assert_eq!(
        mean.expect("an alert")["opened_values"][0]["threshold"],
        json!(66.0)
    );
    let mut live: Vec<(String, Value)> = open
        .iter()
        .map(|alert| {
            (
                alert["rule"].as_str().expect("a name").to_owned(),
                alert["opened_values"].clone(),
            )
        })
        .filter(|(rule, _)| rule.starts_with("settled"))
        .collect();
    live.sort_by(|a, b| a.0.cmp(&b.0));
    let mut past = opened_in_the_past(&mut connection, &rules, &settings);
    past.retain(|(rule, _)| rule.starts_with("settled"));
    past.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(past, live);
}

/// Eighty days of a campaign that was asked about at six each morning until today's: on the second morning each has twice as
/// many conversions as on the first, and then no more.
fn doubling(database: &TestDatabase, zone: Tz) {
    let mut connection = database.connect();
    let (today, noon) = (today(zone), |day| hours(zone, day, 12).timestamp_micros());
    let known = |n: u64| (10 + n as i64 % 3) * if n == 0 { 1 } else { 2 };
    let events = (0..80).map(|n| {
        let time = noon(today - Days::new(n + 1));
        let counts = [10, 5, 0, 1_000_000, 0];
        given("google:1:1", Platform::Google, time, counts).with_conversions(known(n) * 1_000_000)
    });
    count(&mut connection, &events.collect::<Vec<_>>());
    let values = "10, 5, 1000000, 0, NULL, NULL, now()";
    let columns = "campaign_id, day, slice, definition_id, event_id, observed_at, confirmed_at, event_time, conversion_micros, \
                   impressions, clicks, cost_micros, revenue_micros, file_id, line, counted_at";
    let days = format!(
        "SELECT 'google:1:1', d.day, '', k.definition_id, md5(d.day::text)::uuid, d.at, d.confirmed, d.at, d.conversions * 1000000, {values}
         FROM report_definitions AS k,
             LATERAL (SELECT n, DATE '{today}' - n - 1 AS day, 10 + n % 3 AS size FROM generate_series(0, 79) AS n) AS of_day,"
    );
    connection
        .batch_execute(&format!(
            "INSERT INTO report_definitions (platform, account, time_zone, currency, conversions, revenue, grain)
                 VALUES (1, '1', '{zone}', 'EUR', '', '', '');
             UPDATE campaigns SET definition_id = k.definition_id, described_at = (DATE '{today}' + TIME '6:00') AT TIME ZONE '{zone}'
                 FROM report_definitions AS k WHERE campaign_id = 'google:1:1';
             INSERT INTO report_history ({columns}) {days}
                 LATERAL (SELECT of_day.*, NULL::timestamptz[] AS confirmed, size AS conversions,
                     (day + 1 + TIME '6:00') AT TIME ZONE '{zone}' AS at) AS d WHERE d.n > 0;
             INSERT INTO report_rows ({columns}) {days}
                 LATERAL (SELECT of_day.*, size * (1 + LEAST(n, 1)) AS conversions,
                     CASE WHEN n > 1 THEN ARRAY[(DATE '{today}' + TIME '6:00') AT TIME ZONE '{zone}'] END AS confirmed,
                     (day + 1 + LEAST(n, 1) + TIME '6:00') AT TIME ZONE '{zone}' AS at) AS d;
             {COUNTED_LONG_AGO}"
        ))
        .expect("reports");
    report_partition(&mut connection, 0, "idle", AHEAD);
}

#[test]
fn days_that_still_grow_are_measured_by_what_they_will_come_to() {
    let database = TestDatabase::create();
    let zone = noon_zone();
    doubling(&database, zone);
    // Known are 10, 22 and 24 of the last three days; the last one will have twice as many.
    let rules = vec![
        rule("known", "conversions > 60 over 3d"),
        rule("expected", "expected conversions > 60 over 3d"),
        rule("expected-low", "expected conversions < 60 over 3d"),
        rule("cheap", "expected cpa < 0.05 over 3d"),
        // None of its days ever had revenue, so nobody can say how that grows.
        rule("no-revenue", "expected revenue = 0 over 3d"),
        rule("with-final-days", "expected conversions >= 1758 over 80d"),
        rule("mean", "expected conversions over 1d < 95% of mean over 2d"),
    ];
    let settings = Settings {
        given: Some(Given {
            rules: rules.clone(),
            webhooks: Vec::new(),
        }),
        ..Settings::default()
    };
    let api = Api::start(&database.url(), None, Duration::ZERO);
    let open = evaluate_as(&database.url(), &settings, 1, || {
        until("they open", || listed(&api, "?state=open").len() >= 4);
        listed(&api, "?measure=now")
    });
    assert_eq!(
        names(&open),
        ["cheap", "expected", "mean", "with-final-days"]
    );
    let values = |rule: &str| {
        let alert = open.iter().find(|alert| alert["rule"] == rule);
        let alert = alert.expect("an alert");
        assert_eq!(alert["opened_values"], alert["current_values"], "{rule}");
        alert["opened_values"][0].clone()
    };
    assert_eq!(
        values("expected"),
        json!({ "condition": "expected conversions > 60 over 3d", "value": 66.0, "threshold": 60.0 })
    );
    let mean = values("mean");
    let about = |name: &str, is: f64| {
        let value = mean[name].as_f64().expect("a number");
        assert!((value - is).abs() < 1e-6, "{mean}");
    };
    about("value", 20.0);
    about("threshold", 23.0 * 0.95);
    let mut connection = database.connect();
    let past = opened_in_the_past(&mut connection, &rules, &settings);
    let expected = past.iter().find(|(rule, _)| rule == "expected");
    assert_eq!(expected.expect("it would have").1[0], values("expected"));
}

#[test]
fn an_account_whose_reports_stay_away_is_told_of_once_until_they_come() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let now = Utc::now();
    let row = |account: &'static str, hours_ago: i64| Row {
        account,
        campaign: leaked(format!("google:{account}:10")),
        day: "2024-06-03",
        observed_at: leaked((now - TimeDelta::hours(hours_ago)).to_rfc3339()),
        ..EURO
    };
    // The second is on time, the third has ended long ago.
    report(
        &mut connection,
        &[row("1", 40), row("2", 1), row("3", 24 * 30)],
    );
    report_partition(&mut connection, 0, "idle", AHEAD);
    let settings = Settings {
        given: Some(Given {
            rules: vec![Draft {
                to: vec!["growth".into()],
                ..rule("never", "cost < 0 over 1h")
            }],
            webhooks: vec![("growth".into(), "https://hooks.example.com".into())],
        }),
        ..Settings::default()
    };
    let api = Api::start(&database.url(), None, Duration::ZERO);
    let refused = put(&api, "reports", &json!({ "when": "cost > 1 over 1h" }));
    assert_eq!(refused.status, 400, "{refused:?}");
    evaluate_as(&database.url(), &settings, 3, || {
        until("it opens", || !listed(&api, "?state=open").is_empty());
        let all = listed(&api, "?measure=now");
        let [alert] = all.as_slice() else {
            panic!("{all:?}")
        };
        let expected = json!({
            "rule": "reports", "campaign_id": null, "campaign_name": null, "platform": "Google", "account_id": "1",
            "severity": "warning", "condition": "reports more than 1d12h old", "state": "open",
        });
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&alert[name], value, "{alert}");
        }
        let value = &alert["opened_values"][0];
        assert!(value["value"].as_f64() >= Some(40.0), "{alert}");
        assert_eq!(value["threshold"], json!(36.0));
        assert_eq!(told(&mut connection), ["growth alert.opened Google 1"]);
        // Another evaluator finds the same.
        report(&mut connection, &[row("1", 39)]);
        assert_eq!(listed(&api, "?state=open").len(), 1);
    });
    let muted = api.send(
        Method::PUT,
        "/alerts/mutes/reports",
        "application/json",
        r#"{"until": "2999-01-01T00:00:00Z"}"#,
    );
    assert_eq!(muted.status, 200, "{muted:?}");
    evaluate_as(&database.url(), &settings, 2, || {
        report(&mut connection, &[row("1", 2)]);
        until("it resolves", || listed(&api, "?state=resolved").len() == 1);
        let resolved = listed(&api, "").remove(0);
        assert_eq!(resolved["resolved_because"], "condition");
        let value = resolved["resolved_values"][0]["value"].as_f64();
        assert!(value < Some(36.0), "{resolved}");
        assert_eq!(
            told(&mut connection),
            ["growth alert.opened Google 1"],
            "it is muted"
        );
    });
    // Where that is earlier, the others are late too; and where nobody wants to hear of it, none is.
    let at_once = Settings {
        reports_overdue: Overdue(Some(Minutes(30))),
        ..settings.clone()
    };
    evaluate_as(&database.url(), &at_once, 1, || {
        until("both open", || listed(&api, "?state=open").len() == 2);
    });
    let off = Settings {
        reports_overdue: Overdue(None),
        ..settings.clone()
    };
    evaluate_as(&database.url(), &off, 1, || {
        until("all resolve", || listed(&api, "?state=open").is_empty());
    });
    let because = |alert: &Value| alert["resolved_because"].as_str().map(str::to_owned);
    let because: Vec<_> = listed(&api, "").iter().filter_map(because).collect();
    assert_eq!(because, ["rule", "rule", "condition"]);
}

/// What webhooks are told of accounts.
fn told(connection: &mut PgConnection) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Array<Text>)]
        told: Vec<String>,
    }
    let told = "SELECT coalesce(array_agg(concat_ws(' ', webhook, event, alerts[1]::jsonb ->> 'platform', alerts[1]::jsonb ->> 'account_id')), '{}')
             AS told
         FROM alert_deliveries WHERE rule_name = 'reports'";
    let row: Row = sql_query(told).get_result(connection).expect("asks");
    row.told
}
