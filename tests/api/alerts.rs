//! `/alerts` and `/alerts/rules`, and what several evaluators make of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use adflux::alerts::Settings;
use adflux::alerts::draft::Draft;
use adflux::alerts::watch::{self, Given};
use adflux::api;
use adflux::event::Platform;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::{PgConnection, RunQueryDsl as _, sql_query};
use reqwest::Method;
use serde_json::{Value, json};

use crate::keys::keys;
use crate::live::Client;
use crate::openapi::assert_described;
use crate::world::{Answer, Api, TestDatabase, count, count_on, given, until};

const JSON: &str = "application/json";

pub fn put(api: &Api, name: &str, rule: &Value) -> Answer {
    let path = format!("/alerts/rules/{name}");
    api.send(Method::PUT, &path, JSON, &rule.to_string())
}

fn names(answer: &Value) -> Vec<&str> {
    let data = answer["data"].as_array().expect("an array");
    data.iter().filter_map(|r| r["name"].as_str()).collect()
}

#[test]
fn rules_are_made_changed_and_deleted() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, std::time::Duration::ZERO);
    let burning = json!({ "name": "burning", "when": "roas < 1 over 1h and cost > 50", "campaigns": ["a-*"], "for": "10m" });
    let made = api.send(Method::POST, "/alerts/rules", JSON, &burning.to_string());
    assert_eq!(made.status, 201, "{made:?}");
    let rule = made.json();
    assert_eq!(
        rule["understood_as"],
        "roas < 1 over 1h and cost > 50 over 1h"
    );
    assert_eq!(
        (&rule["source"], &rule["for"]),
        (&json!("api"), &json!("10m"))
    );
    assert_described(&api, "post", "/alerts/rules", &made);
    let one = api.get("/alerts/rules/burning");
    assert_described(&api, "get", "/alerts/rules/{name}", &one);
    assert_eq!(one.json(), rule);

    let again = api.send(Method::POST, "/alerts/rules", JSON, &burning.to_string());
    assert_eq!(again.status, 409);
    assert_described(&api, "post", "/alerts/rules", &again);
    let other = put(&api, "burning", &json!({ "when": "no data for 30m" }));
    assert_eq!(other.status, 200);
    assert_described(&api, "put", "/alerts/rules/{name}", &other);
    assert_eq!(other.json()["campaigns"], json!([]));
    assert_eq!(
        put(&api, "silent", &json!({ "when": "no data for 5m" })).status,
        201
    );
    let all = api.get("/alerts/rules");
    assert_described(&api, "get", "/alerts/rules", &all);
    assert_eq!(names(&all.json()), ["burning", "silent"]);
    assert_eq!(api.get("/alerts/rules?limit=1").status, 400);

    let delete = |name: &str| api.request(Method::DELETE, &format!("/alerts/rules/{name}"));
    assert_eq!(delete("burning").status, 204);
    for none in ["burning", "%00", "a%20b", "%2E%2E%2E"] {
        assert_eq!(api.get(&format!("/alerts/rules/{none}")).status, 404);
        assert_eq!(delete(none).status, 404);
    }
    assert_eq!(api.get("/alerts?rule=%00").status, 400);
    let refused = api.request(Method::PATCH, "/alerts/rules");
    assert_eq!(
        (refused.status, refused.allow.as_str()),
        (405, "GET, HEAD, POST")
    );
}

#[test]
fn a_fault_is_refused_where_it_is() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, std::time::Duration::ZERO);
    let refused = |rule: Value, parameter: Value, column: Value| {
        let answer = put(&api, "burning", &rule);
        let problem = answer.json();
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_described(&api, "put", "/alerts/rules/{name}", &answer);
        assert_eq!(problem["type"], "urn:adflux:problem:invalid-rule");
        assert_eq!(
            (&problem["parameter"], &problem["column"]),
            (&parameter, &column),
            "{problem}"
        );
        problem["detail"].as_str().expect("text").to_owned()
    };
    assert_eq!(
        refused(
            json!({ "when": "roas < 1 over xyz" }),
            json!("when"),
            json!(15)
        ),
        "expected a duration such as 1h, found 'xyz'"
    );
    refused(
        json!({ "when": "no data for 1m", "for": "5x" }),
        json!("for"),
        json!(1),
    );
    refused(
        json!({ "when": "no data for 1m", "to": ["nobody"] }),
        json!("to"),
        Value::Null,
    );
    refused(
        json!({ "when": "no data for 1m", "severity": "urgent" }),
        json!("severity"),
        Value::Null,
    );
    refused(
        json!({ "when": "no data for 1m", "platforms": ["X"] }),
        json!("platforms"),
        Value::Null,
    );
    refused(
        json!({ "when": "no data for 1m", "name": "other" }),
        json!("name"),
        Value::Null,
    );
    refused(json!({ "when": 1 }), Value::Null, Value::Null);
    refused(json!({ "wen": "no data for 1m" }), Value::Null, Value::Null);
    assert_eq!(
        put(&api, "a%20b", &json!({ "when": "no data for 1m" })).status,
        400
    );
    // No client could address them.
    for dots in [".", ".."] {
        let rule = json!({ "name": dots, "when": "no data for 1m" });
        let answer = api.send(Method::POST, "/alerts/rules", JSON, &rule.to_string());
        assert_eq!(
            (answer.status, &answer.json()["parameter"]),
            (400, &json!("name"))
        );
    }
    // What a page of another origin could send without being asked.
    let form = api.send(Method::POST, "/alerts/rules", "text/plain", "{}");
    assert_eq!(form.status, 415);
    assert!(announce(&api, 200_000).starts_with("HTTP/1.1 413 "));
    assert_eq!(api.get("/alerts?state=closed").status, 400);
    assert_eq!(names(&api.get("/alerts/rules").json()), Vec::<&str>::new());
}

/// What is answered to the head of a request with a body of so many bytes.
fn announce(api: &Api, bytes: usize) -> String {
    let mut stream = TcpStream::connect(api.address).expect("connects");
    let head = format!(
        "POST /alerts/rules HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("writes");
    let mut answer = [0; 12 + 1];
    stream.read_exact(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Evaluators, until dropped.
pub fn evaluate<T>(
    url: &str,
    given: Option<&Given>,
    evaluators: usize,
    test: impl FnOnce() -> T,
) -> T {
    let settings = Settings {
        given: given.cloned(),
        ..Settings::default()
    };
    evaluate_as(url, &settings, evaluators, test)
}

/// The same with other settings.
pub fn evaluate_as<T>(
    url: &str,
    settings: &Settings,
    evaluators: usize,
    test: impl FnOnce() -> T,
) -> T {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = Done(&done);
        for _ in 0..evaluators {
            scope.spawn(|| watch::run(url, settings, &done));
        }
        test()
    })
}

pub fn rule(name: &str, when: &str) -> Draft {
    Draft {
        name: name.into(),
        when: when.into(),
        ..Draft::default()
    }
}

/// Reports a partition as a processor would; `minutes` ago.
pub fn report(connection: &mut PgConnection, partition: i32, state: &str, minutes: i64) {
    sql_query(
        "INSERT INTO partition_states (cluster_id, topic, partition, state, is_still, since, log_end, owner, seen_at)
         VALUES ('test', 'ad-events', $1, $2, false, '2026-01-01', 1000, 'test', clock_timestamp() - $3 * interval '1 minute')
         ON CONFLICT (cluster_id, topic, partition) DO UPDATE SET state = EXCLUDED.state, seen_at = EXCLUDED.seen_at",
    )
    .bind::<Integer, _>(partition)
    .bind::<Text, _>(state)
    .bind::<BigInt, _>(minutes)
    .execute(connection)
    .expect("reports");
}

/// All that was counted was an hour before: no more of it comes in.
pub const COUNTED_LONG_AGO: &str = "UPDATE sum_chunks SET committed_at = substr(committed_at, 1, 1)
         || int8send(('x' || encode(substr(committed_at, 2, 8), 'hex'))::bit(64)::bigint - 3600000000)
         || substr(committed_at, 10);";

/// For as long as a test takes.
pub const AHEAD: i64 = -1_000_000;

#[test]
fn what_is_not_counted_yet_opens_nothing_and_the_pipeline_once() {
    let database = TestDatabase::create();
    let url = database.url();
    let api = Api::start(&url, None, std::time::Duration::ZERO);
    let mut connection = database.connect();
    let now = chrono::Utc::now().timestamp_micros();
    let minute = 60_000_000;
    let at = |campaign: &str, minutes: i64| {
        given(
            campaign,
            Platform::Meta,
            now - minutes * minute,
            [1_000, 10, 1, 1_000_000, 1],
        )
    };
    // Both have been silent for four hours, as far as they are counted: the first up to now, the second up to then.
    count_on(&mut connection, 0, &[at("cmp-0", 240)]);
    count_on(&mut connection, 1, &[at("cmp-1", 240)]);
    let age = format!("{COUNTED_LONG_AGO}
        UPDATE stream_positions SET last_record_time = extract(epoch FROM clock_timestamp() - interval '4 hours') * 1000000");
    connection.batch_execute(&age).expect("updates");
    report(&mut connection, 0, "idle", AHEAD);
    report(&mut connection, 1, "catching_up", AHEAD);
    let of_file = Given {
        rules: vec![
            rule("silent", "no data for 3h"),
            rule("idle", "cost < 1 over 1h"),
        ],
        webhooks: Vec::new(),
    };
    let listed = |query: &str| {
        let answer = api.get(&format!("/alerts{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_described(&api, "get", "/alerts", &answer);
        answer.json()["data"].as_array().expect("an array").clone()
    };
    evaluate(&url, Some(&of_file), 2, || {
        until("both rules hold of the first", || {
            listed("?state=open").len() == 2
        });
        until("the pipeline waits to be told of", || {
            let pending = "SELECT 1 FROM alerts WHERE rule_name = 'pipeline' AND opened_at IS NULL";
            sql_query(pending).execute(&mut connection).expect("asks") == 1
        });
        let past = "UPDATE alerts SET pending_since = pending_since - interval '1 hour' WHERE opened_at IS NULL";
        connection.batch_execute(past).expect("updates");
        until("the pipeline is told of", || {
            listed("?rule=pipeline").len() == 1
        });
        let alert = listed("?rule=pipeline").remove(0);
        assert_eq!(
            (
                &alert["campaign_id"],
                &alert["severity"],
                &alert["condition"]
            ),
            (
                &Value::Null,
                &json!("critical"),
                &json!("pipeline more than 10m behind")
            )
        );
        assert!(
            alert["opened_values"][0]["value"].as_f64() >= Some(239.0),
            "{alert}"
        );
        assert!(listed("?campaign=cmp-1").is_empty());

        // It was not silent, as it turns out.
        count_on(&mut connection, 1, &[at("cmp-1", 0)]);
        report(&mut connection, 1, "idle", AHEAD);
        until("the pipeline can resolve", || {
            let clear = "UPDATE alerts SET clear_since = clear_since - interval '1 hour'
                WHERE rule_name = 'pipeline' AND clear_since > clock_timestamp() - interval '30 minutes'";
            sql_query(clear).execute(&mut connection).expect("updates");
            !listed("?rule=pipeline&state=resolved").is_empty()
        });
        assert_eq!(listed("").len(), 3);
    });
}

#[test]
fn rules_are_muted_and_alerts_acknowledged_by_whose_key_it_is() {
    let database = TestDatabase::create();
    let url = database.url();
    let mut connection = database.connect();
    let key = keys(&database, &["create", "night shift", "--scope", "admin"]).expect("a key");
    let settings = api::Settings {
        keys: true,
        ..api::Settings::default()
    };
    let api = Api::start_with(&url, None, std::time::Duration::ZERO, settings);
    let ask = |method: Method, path: &str, body: &str| {
        let authorization = format!("Bearer {key}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", JSON),
        ];
        api.ask(method, path, &headers, body)
    };
    let put = |path: &str, body: &Value| ask(Method::PUT, path, &body.to_string());
    let spends = json!({ "when": "cost > 50 over 1h", "severity": "critical" });
    assert_eq!(put("/alerts/rules/spends", &spends).status, 201);
    let of_file = Given {
        rules: vec![rule("of-file", "cost > 70 over 1h")],
        webhooks: Vec::new(),
    };
    let now = chrono::Utc::now().timestamp_micros();
    let spent = given("cmp-1", Platform::Meta, now, [1, 1, 1, 60_000_000, 1]);
    count(&mut connection, &[spent]);
    report(&mut connection, 0, "idle", AHEAD);
    evaluate(&url, Some(&of_file), 1, || {
        until("it opens", || {
            let all = ask(Method::GET, "/alerts?state=open", "").json();
            all["data"].as_array().expect("an array").len() == 1
        });
    });

    let rules = || ask(Method::GET, "/alerts/rules", "").json()["data"].clone();
    let written_by = |rules: &Value| [0, 1].map(|n| rules[n]["written_by"].clone());
    assert_eq!(written_by(&rules()), [json!("file"), json!("night shift")]);
    let until_then = json!({ "until": "2999-01-01T00:00:00Z" });
    for name in ["of-file", "spends", "pipeline"] {
        let path = format!("/alerts/mutes/{name}");
        let muted = put(&path, &until_then);
        assert_eq!(muted.status, 200, "{muted:?}");
        assert_eq!(muted.json()["muted_by"], "night shift");
    }
    assert_eq!(rules()[0]["muted_until"], "2999-01-01T00:00:00.000000Z");
    assert_eq!(ask(Method::DELETE, "/alerts/mutes/of-file", "").status, 204);
    assert_eq!(rules()[0]["muted_until"], Value::Null);
    assert_eq!(rules()[1]["muted_by"], "night shift");
    assert_eq!(put("/alerts/mutes/nothing", &until_then).status, 404);
    for past in [
        json!({ "until": "2020-01-01T00:00:00Z" }),
        json!({ "until": 1 }),
        json!({}),
    ] {
        assert_eq!(put("/alerts/mutes/spends", &past).status, 400, "{past}");
    }

    let alert = ask(Method::GET, "/alerts", "").json()["data"][0].clone();
    assert_eq!(
        (&alert["severity"], &alert["acknowledged_at"]),
        (&json!("critical"), &Value::Null)
    );
    let path = format!(
        "/alerts/acknowledgements/{}",
        alert["alert_id"].as_str().expect("an id")
    );
    let seen = ask(Method::PUT, &path, "").json();
    assert_eq!(seen["acknowledged_by"], "night shift");
    assert_eq!(
        ask(Method::PUT, &path, "").json(),
        seen,
        "the first one stays"
    );
    assert_eq!(ask(Method::GET, "/alerts", "").json()["data"][0], seen);
    assert_eq!(ask(Method::DELETE, &path, "").json(), alert);
    for unknown in ["x", "00000000-0000-0000-0000-000000000000"] {
        let path = format!("/alerts/acknowledgements/{unknown}");
        assert_eq!(ask(Method::PUT, &path, "").status, 404);
    }
}

#[test]
fn alerts_follow_what_is_counted_and_which_rules_there_are() {
    let database = TestDatabase::create();
    report(&mut database.connect(), 0, "idle", AHEAD);
    let url = database.url();
    let api = Api::start(&url, None, std::time::Duration::ZERO);
    let mut connection = database.connect();
    let now = chrono::Utc::now().timestamp_micros();
    let mut event = |campaign: &str, platform, cost: i64, revenue: i64| {
        let numbers = [1_000, 10, 0, cost * 1_000_000, revenue * 1_000_000];
        count(&mut connection, &[given(campaign, platform, now, numbers)]);
    };
    let listed = |query: &str| {
        let answer = api.get(&format!("/alerts{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"].as_array().expect("an array").clone()
    };
    let of_file = Given {
        rules: vec![
            rule("burning", "roas < 1 over 1h and cost > 50"),
            Draft {
                platforms: vec!["Meta".into()],
                ..rule("on-meta", "cost > 10 over 1h")
            },
            Draft {
                hold: Some("10m".into()),
                ..rule("later", "cost > 1 over 1h")
            },
        ],
        webhooks: Vec::new(),
    };
    let mut feed = Client::open(&api, "/live", None);
    let mut told = |alert: &Value| {
        let event = feed.until("the alert", |event| event.name == "alert");
        assert_eq!(&event.data, alert);
    };
    evaluate(&url, Some(&of_file), 3, || {
        event("cmp-1", Platform::Google, 60, 30);
        event("cmp-2", Platform::Google, 60, 90);
        until("it opens", || listed("?state=open").len() == 1);
        let alert = listed("").remove(0);
        told(&alert);
        assert_described(&api, "get", "/alerts", &api.get("/alerts"));
        let mut feed_of_one = Client::open(&api, "/campaign/cmp-1/live", None);
        assert_eq!(
            (&alert["rule"], &alert["campaign_id"], &alert["state"]),
            (&json!("burning"), &json!("cmp-1"), &json!("open"))
        );
        assert_eq!(
            alert["opened_values"],
            json!([
                { "condition": "roas < 1 over 1h", "value": 0.5, "threshold": 1.0 },
                { "condition": "cost > 50 over 1h", "value": 60.0, "threshold": 50.0 },
            ])
        );
        // More of the same opens nothing more; another platform's rule, another alert.
        event("cmp-1", Platform::Meta, 20, 0);
        until("the other opens", || listed("?state=open").len() == 2);
        let other = listed("?rule=on-meta").remove(0);
        assert_eq!(other["campaign_id"], "cmp-1");
        told(&other);
        let event_of_one = feed_of_one.until("its alert", |event| event.name == "alert");
        assert_eq!(event_of_one.data, other);
        // What each is measured at by now is said where it is asked for, over the platforms of its rule.
        let answer = api.get("/alerts?measure=now");
        assert_described(&api, "get", "/alerts", &answer);
        let answer = answer.json();
        let current = |rule: &str| {
            let alerts = answer["data"].as_array().expect("an array");
            let alert = alerts.iter().find(|alert| alert["rule"] == rule);
            alert.expect("an alert")["current_values"].clone()
        };
        assert_eq!(
            current("burning"),
            json!([
                { "condition": "roas < 1 over 1h", "value": 0.375, "threshold": 1.0 },
                { "condition": "cost > 50 over 1h", "value": 80.0, "threshold": 50.0 },
            ])
        );
        assert_eq!(
            current("on-meta"),
            json!([{ "condition": "cost > 10 over 1h", "value": 20.0, "threshold": 10.0 }])
        );
        assert!(other.get("current_values").is_none());
        event("cmp-1", Platform::Google, 0, 500);
        until("it resolves", || listed("?state=resolved").len() == 1);
        let resolved = listed("?state=resolved&campaign=cmp-1&measure=now").remove(0);
        assert_eq!(resolved["alert_id"], alert["alert_id"]);
        told(&resolved);
        assert_eq!(
            (&resolved["rule"], &resolved["resolved_because"]),
            (&json!("burning"), &json!("condition"))
        );

        // A rule of the API is evaluated at once, and gone with its alerts.
        assert_eq!(
            put(&api, "spends", &json!({ "when": "cost > 50 over 1h" })).status,
            201
        );
        until("both open", || listed("?rule=spends&state=open").len() == 2);
        assert_eq!(
            api.request(Method::DELETE, "/alerts/rules/spends").status,
            204
        );
        until("both resolve", || {
            listed("?rule=spends&state=resolved").len() == 2
        });
        assert_eq!(listed("?rule=spends")[0]["resolved_because"], "rule");
        // Pages, newest happening first.
        let first = api.get("/alerts?limit=3").json();
        let cursor = first["paging"]["next_cursor"]
            .as_str()
            .expect("a cursor")
            .to_owned();
        let second = listed(&format!("?limit=3&cursor={cursor}"));
        assert_eq!(second.len(), 1);
        assert_eq!(second[0]["rule"], "on-meta");
        assert_eq!(api.get("/alerts?cursor=x").status, 400);

        // What the file says is the file's.
        assert_eq!(
            put(&api, "burning", &json!({ "when": "no data for 1m" })).status,
            409
        );
        assert_eq!(
            api.request(Method::DELETE, "/alerts/rules/burning").status,
            409
        );
    });
    // The one that has to hold for ten minutes has waited all the time, and was shown to nobody.
    assert!(listed("?rule=later").is_empty());
    let past = "UPDATE alerts SET pending_since = pending_since - interval '1 hour' WHERE rule_name = 'later'";
    connection.batch_execute(past).expect("updates");
    evaluate(&url, Some(&of_file), 1, || {
        until("they open", || listed("?rule=later&state=open").len() == 2);
        assert_eq!(listed("").len(), 6);
    });

    // Another file: its rules in place of the former.
    let other = Given {
        rules: vec![rule("conversions", "conversions = 0 over 1h and cost > 1")],
        webhooks: Vec::new(),
    };
    evaluate(&url, Some(&other), 2, || {
        until("the new one opens", || {
            listed("?rule=conversions&state=open").len() == 2
        });
        until("the old ones resolve", || listed("?state=open").len() == 2);
        assert_eq!(names(&api.get("/alerts/rules").json()), ["conversions"]);
    });
}
