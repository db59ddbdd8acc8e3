//! The API's own description: every question on it answered, every answer as described, and the tests
//! passed that schemathesis makes from it.

use std::process::Command;
use std::time::Duration;

use adflux::event::Platform;
use chrono::{Days, Utc};
use serde_json::Value;

use crate::live::{Client, Event};
use crate::world::{Answer, Api, TestDatabase, count, given, until, variable};

const SHORT: Duration = Duration::from_millis(20);

/// Campaigns that did something yesterday at noon; every other one at a loss.
fn with_yesterday() -> TestDatabase {
    let database = TestDatabase::create();
    let yesterday = Utc::now().date_naive() - Days::new(1);
    let noon = yesterday.and_hms_opt(12, 0, 0).expect("noon").and_utc();
    let events: Vec<_> = (0..6)
        .map(|n| {
            let platform = if n < 4 {
                Platform::Meta
            } else {
                Platform::TikTok
            };
            let revenue = if n % 2 == 0 { 2_000_000 } else { 500_000 };
            let numbers = [100, 10, 1, 1_000_000, revenue];
            given(
                &format!("cmp-{n}"),
                platform,
                noon.timestamp_micros(),
                numbers,
            )
        })
        .chain([given(
            "cmp-42",
            Platform::Meta,
            noon.timestamp_micros(),
            [1, 1, 1, 1, 1],
        )
        .with_conversions(1_500_000)])
        .collect();
    count(&mut database.connect(), &events);
    database
}

pub fn document(api: &Api) -> Value {
    let answer = api.get("/openapi.json");
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (200, "application/json")
    );
    answer.json()
}

/// What of a value is not as a schema says: enough of JSON Schema for the schemas there are.
pub fn faults(document: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        let target = &document["components"]["schemas"][name];
        assert!(target.is_object(), "no schema {name}");
        return faults(document, target, value, at, out);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| {
            let mut inner = Vec::new();
            faults(document, choice, value, at, &mut inner);
            inner.is_empty()
        });
        if !fits {
            out.push(format!("{at}: {value} is none of {choices:?}"));
        }
        return;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number");
    if !fits {
        out.push(format!("{at}: {value} is not {kinds:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        out.push(format!("{at}: {value} is none of {words:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        faults(document, &schema["items"], item, &format!("{at}[]"), out);
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().expect("a name")) {
                out.push(format!("{at}: lacks {name}"));
            }
        }
        for (name, field) in fields {
            match &schema["properties"][name] {
                Value::Null if schema["additionalProperties"] == false => {
                    out.push(format!("{at}: {name} is not described"));
                }
                property => faults(document, property, field, &format!("{at}.{name}"), out),
            }
        }
    }
}

/// Holds an answer against what the document says of this method on this path.
pub fn assert_described(api: &Api, method: &str, path: &str, answer: &Answer) {
    let document = document(api);
    let status = answer.status.to_string();
    let content = &document["paths"][path][method]["responses"][status]["content"];
    let schema = &content[answer.content_type.as_str()]["schema"];
    assert!(!schema.is_null(), "{method} {path}: {answer:?}");
    let mut wrong = Vec::new();
    faults(&document, schema, &answer.json(), path, &mut wrong);
    assert!(wrong.is_empty(), "{method} {path}: {wrong:#?}");
}

#[test]
fn every_question_on_the_page_is_answered_by_one_request_as_described() {
    let database = with_yesterday();
    let api = Api::start(&database.url(), None, SHORT);
    let document = document(&api);
    let mut asked = 0;
    for (path, operation) in document["paths"].as_object().expect("paths") {
        let responses = &operation["get"]["responses"];
        // A path may be there to change something only.
        let questions = operation["get"]["x-questions"].as_array();
        for question in questions.into_iter().flatten() {
            asked += 1;
            let ask = question["ask"].as_str().expect("a request");
            let schema = &responses["200"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                // A feed: it is answered, and does not end.
                continue;
            }
            let answer = api.get(ask);
            if ask.contains("currency=") && answer.status == 422 {
                // Nobody has said of what currency these campaigns are.
                continue;
            }
            assert_eq!(answer.status, 200, "{ask}: {answer:?}");
            let mut wrong = Vec::new();
            faults(&document, schema, &answer.json(), path, &mut wrong);
            assert!(wrong.is_empty(), "{ask}: {wrong:#?}");
        }
    }
    assert!(asked > 8, "only {asked} questions");
    for path in ["/livez", "/readyz", "/pipeline", "/subjects"] {
        let responses = &document["paths"][path]["get"]["responses"]["200"];
        let answer = api.get(path);
        let schema = &responses["content"][answer.content_type.as_str()]["schema"];
        let mut wrong = Vec::new();
        faults(&document, schema, &answer.json(), path, &mut wrong);
        assert!(!schema.is_null() && wrong.is_empty(), "{path}: {wrong:#?}");
    }
    let mut wrong = Vec::new();
    let problem = serde_json::json!({ "$ref": "#/components/schemas/Problem" });
    let answer = api.get("/campaigns?limit=0").json();
    faults(&document, &problem, &answer, "problem", &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn events_of_live_feeds_are_as_described() {
    let database = with_yesterday();
    let api = Api::start(&database.url(), None, SHORT);
    let document = document(&api);
    let describes = |path: &str, event: &Event| {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
        let items = content["text/event-stream"]["x-itemSchema"]["oneOf"].as_array();
        let is_it = |item: &&Value| item["properties"]["event"]["const"] == event.name;
        let item = items.expect("events").iter().find(is_it);
        let data = &item.expect("this event")["properties"]["data"]["contentSchema"];
        let mut wrong = Vec::new();
        faults(&document, data, &event.data, &event.name, &mut wrong);
        assert!(!data.is_null() && wrong.is_empty(), "{path}: {wrong:#?}");
    };
    let mut all = Client::open(&api, "/live", None);
    let progress = all.until("the start", |event| event.name == "progress");
    describes("/live", &progress);
    let event = given("cmp-42", Platform::Meta, 1_769_817_600_000_000, [1; 5]);
    count(&mut database.connect(), &[event]);
    let totals = all.until("a change", |event| event.name == "totals");
    describes("/live", &totals);
    let mut one = Client::open(&api, "/campaign/cmp-42/live", None);
    let totals = one.until("its sums", |event| event.name == "totals");
    describes("/campaign/{id}/live", &totals);
    let mut back = Client::open(&api, "/live", Some("999.999"));
    let reset = back.until("a reset", |event| event.name == "reset");
    describes("/live", &reset);
}

#[test]
fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, SHORT);
    let page = api.get("/docs");
    assert_eq!(
        (page.status, page.content_type.as_str()),
        (200, "text/html; charset=utf-8")
    );
    assert!(!page.text.contains("http://") && !page.text.contains("https://"));
    for loading in ["src=", "@import", "<link", ": url("] {
        assert!(!page.text.contains(loading), "{loading}");
    }
}

#[test]
fn the_pipeline_says_what_was_counted() {
    let database = with_yesterday();
    let api = Api::start(&database.url(), None, SHORT);
    let pipeline = api.get("/pipeline").json();
    assert_eq!(pipeline["totals"]["events"], 7);
    assert_eq!(pipeline["totals"]["records"], 7);
    assert_eq!(pipeline["partitions"][0]["next_offset"], 7);
    // The pace is that of the last minute, which may be over on a busy machine.
    until("the pace is seen", || {
        let again = given(
            "cmp-0",
            Platform::Meta,
            1_769_817_600_000_000,
            [1, 1, 1, 1, 1],
        );
        count(&mut database.connect(), &[again]);
        let pipeline = api.get("/pipeline").json();
        pipeline["events_per_second"].as_f64().expect("a number") > 0.0
            && pipeline["batches"]["mean_events"].as_f64() >= Some(1.0)
            && pipeline["seconds_since_commit"].as_f64() < Some(60.0)
    });
    assert_eq!(pipeline["dead_letters"], serde_json::json!([]));
}

/// Schemathesis makes requests from the document, right ones and wrong ones, and holds the answers
/// against it.
#[test]
fn schemathesis_finds_nothing() {
    let database = with_yesterday();
    let api = Api::start(&database.url(), None, SHORT);
    // Feeds do not end.
    try_what_is_described(&api, &["--exclude-path-regex", "live$"]);
}

/// Has schemathesis try the paths that these arguments choose.
pub fn try_what_is_described(api: &Api, chosen: &[&str]) {
    let python = variable("ADFLUX_PYTHON");
    let folder = tempfile::tempdir().expect("a folder for what it keeps");
    let output = Command::new(&python)
        .current_dir(&folder)
        .args(["-m", "schemathesis.cli", "run"])
        .arg(api.url("/openapi.json"))
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"])
        .args(chosen)
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "25"])
        .args(["--seed", "1", "--max-failures", "5", "--request-timeout", "20"])
        .args(["--generation-database", "none", "--no-color"])
        .output()
        .unwrap_or_else(|e| panic!("{python}: {e}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("passed"), "{said}");
}
