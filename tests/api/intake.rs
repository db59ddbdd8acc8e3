//! Events and reports that are sent to the API: taken whole or not at all, counted once, and told of by a receipt.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use adflux::api::{self, Brokers, Limits};
use adflux::kafka::{Cluster, topic};
use adflux::keys::{self, Scope};
use adflux::run::ServeSettings;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use reqwest::Method;
use serde_json::{Value, json};

use crate::openapi::{assert_described, try_what_is_described};
use crate::support::ports::free_address;
use crate::support::proxy::{Link, Proxy};
use crate::world::{Answer, Api, TestDatabase, settings, until, variable};

const SHORT: Duration = Duration::from_millis(20);
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// A topic, a database, an API before them, and a processor once it is started. The topic stays with the brokers, which are
/// the tests' own.
struct World {
    database: TestDatabase,
    topic: String,
    api: Api,
    processor: Option<Child>,
}

pub fn cluster(brokers: String) -> Cluster {
    Cluster {
        brokers,
        properties: Vec::new(),
    }
}

impl World {
    fn new() -> World {
        World::with(api::Settings::default())
    }

    fn with(api: api::Settings) -> World {
        World::before(variable("KAFKA_BROKERS"), api)
    }

    /// One whose API has these brokers.
    fn before(brokers: String, api: api::Settings) -> World {
        let database = TestDatabase::create();
        let topic = database.name.replace('_', "-");
        let own = cluster(variable("KAFKA_BROKERS"));
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(topic::create(&own, &topic, 2, 1))
            .expect("a topic");
        let api = Api::serve(ServeSettings {
            topic: topic.clone(),
            brokers: Some(Brokers {
                cluster: cluster(brokers),
                cluster_id: None,
            }),
            api,
            ..settings(&database.url(), None, SHORT)
        });
        World {
            database,
            topic,
            api,
            processor: None,
        }
    }

    fn count(&mut self) {
        let processor = Command::new(env!("CARGO_BIN_EXE_adflux"))
            .arg("process")
            .env("KAFKA_BROKERS", variable("KAFKA_BROKERS"))
            .env("ADFLUX_TOPIC", &self.topic)
            .env("ADFLUX_GROUP", &self.topic)
            .env("ADFLUX_DLQ_TOPIC", "off")
            .env("DATABASE_URL", self.database.url())
            .env_remove("REDIS_URL")
            .spawn();
        self.processor = Some(processor.expect("starts"));
    }

    fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        self.api.send(Method::POST, path, content_type, &body)
    }

    /// Sends what is taken, and gives the path of its receipt.
    fn taken(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> String {
        let answer = self.post(path, content_type, body);
        assert_eq!(answer.status, 202, "{answer:?}");
        let route = path.split('?').next().expect("a path");
        assert_described(&self.api, "post", route, &answer);
        let taken = answer.json();
        assert_eq!(taken["location"], json!(answer.location));
        answer.location
    }

    fn receipt(&self, location: &str) -> Value {
        let answer = self.api.get(location);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_described(&self.api, "get", "/receipts/{id}", &answer);
        answer.json()
    }

    /// What has become of what a receipt is for, once none of it waits.
    fn outcome(&self, location: &str) -> Value {
        let mut receipt = Value::Null;
        until("it is counted", || {
            receipt = self.receipt(location);
            receipt["state"] == "counted"
        });
        receipt
    }

    fn number(&self, query: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let query = format!("SELECT ({query})::bigint AS number");
        let row: Row = sql_query(query)
            .get_result(&mut self.database.connect())
            .expect("a number");
        row.number
    }

    fn sum_of_clicks(&self) -> i64 {
        self.number("SELECT COALESCE(sum(clicks), 0) FROM metrics_total")
    }

    fn stored(&self) -> i64 {
        self.number("SELECT COALESCE(sum(records), 0) FROM stream_positions")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut processor) = self.processor.take() {
            let _ = processor.kill();
            let _ = processor.wait();
        }
    }
}

/// An event with so many clicks.
pub fn event(n: u32, clicks: i64) -> Value {
    json!({
        "event_id": format!("00000000-0000-4000-8000-{n:012}"),
        "campaign_id": format!("cmp-{}", n % 3),
        "platform": "Google",
        "event_time": "2026-11-29T12:00:00.5Z",
        "impressions": 100,
        "clicks": clicks,
        "conversions": 1,
        "cost_micros": 2_500_000,
        "revenue_micros": 4_000_001,
    })
}

/// What a platform says of a day, with so many clicks.
fn row(campaign: &str, observed_at: &str, clicks: i64) -> Value {
    json!({
        "campaign_id": format!("google:1:{campaign}"),
        "campaign_name": "Été",
        "platform": "Google",
        "account": "1",
        "time_zone": "Europe/Berlin",
        "currency": "EUR",
        "day": "2026-11-20",
        "observed_at": observed_at,
        "impressions": clicks * 100,
        "clicks": clicks,
        "conversions": 1.5,
        "cost": "12.345678",
        "revenue": null,
    })
}

pub fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// The numbers of a receipt: waiting, counted, duplicates, dead.
pub fn numbers(receipt: &Value) -> [i64; 4] {
    ["waiting", "counted", "duplicates", "dead"]
        .map(|name| receipt[name].as_i64().expect("a number"))
}

#[test]
fn events_are_counted_once_however_often_they_are_sent() {
    let mut world = World::new();
    let events: Vec<Value> = (0..30).map(|n| event(n, 2)).collect();
    let first = world.taken("/events", NDJSON, lines(&events));
    // Nobody counts yet.
    let receipt = world.receipt(&first);
    assert_eq!(receipt["state"], "waiting");
    assert_eq!(receipt["records"], 30);
    assert_eq!(numbers(&receipt), [30, 0, 0, 0]);
    world.count();
    assert_eq!(numbers(&world.outcome(&first)), [0, 30, 0, 0]);
    let again = world.taken("/events", JSON, json!(events).to_string());
    assert_ne!(first, again);
    assert_eq!(numbers(&world.outcome(&again)), [0, 0, 30, 0]);
    let one = world.taken("/events", JSON, event(99, 5).to_string());
    assert_eq!(numbers(&world.outcome(&one)), [0, 1, 0, 0]);
    assert_eq!(world.sum_of_clicks(), 65);
    assert_eq!(numbers(&world.receipt(&first)), [0, 30, 0, 0]);
    let money = "SELECT sum(revenue_micros) FROM metrics_total";
    assert_eq!(world.number(money), 31 * 4_000_001);
}

#[test]
fn a_dead_letter_is_told_by_its_line() {
    let mut world = World::new();
    world.count();
    let first = world.taken("/events", NDJSON, lines(&[event(1, 1), event(2, 1)]));
    world.outcome(&first);
    // The same id with another content; that alone only a processor can know.
    let body = format!("{}\n\n{}\n", event(3, 1), event(2, 7));
    let receipt = world.outcome(&world.taken("/events", NDJSON, body));
    assert_eq!(numbers(&receipt), [0, 1, 0, 1]);
    let letter = &receipt["dead_letters"][0];
    assert_eq!(letter["number"], 3, "{receipt}");
    assert_eq!(letter["reason"], "conflicting_duplicate");
    let path = format!(
        "/dead-letters/{}/{}/{}",
        world.topic, letter["partition"], letter["offset"]
    );
    assert_eq!(world.api.get(&path).status, 200, "{path}");
    assert_eq!(world.sum_of_clicks(), 3);
}

#[test]
fn report_rows_are_state() {
    let mut world = World::new();
    world.count();
    let day = [
        row("10", "2026-11-21T09:00:00Z", 5),
        row("11", "2026-11-21T09:00:00Z", 7),
    ];
    let first = world.taken("/reports", JSON, json!(day).to_string());
    assert_eq!(numbers(&world.outcome(&first)), [0, 2, 0, 0]);
    let again = world.taken("/reports", NDJSON, lines(&day));
    assert_eq!(numbers(&world.outcome(&again)), [0, 0, 2, 0]);
    // Newer and less; newer and the same; older.
    let later = [
        row("10", "2026-11-28T09:00:00Z", 4),
        row("11", "2026-11-28T09:00:00Z", 7),
        row("10", "2026-11-20T20:00:00Z", 1),
    ];
    let later = world.taken("/reports", NDJSON, lines(&later));
    assert_eq!(numbers(&world.outcome(&later)), [0, 1, 2, 0]);
    assert_eq!(world.sum_of_clicks(), 11);
    let of = |column: &str| world.number(&format!("SELECT sum({column}) FROM report_rows"));
    assert_eq!(of("conversion_micros"), 3_000_000);
    assert_eq!(of("cost_micros"), 2 * 12_345_678);
    let unknown = "SELECT count(*) FROM report_rows WHERE revenue_micros IS NULL";
    assert_eq!(world.number(unknown), 2);
    // The same instant and something else.
    let other = row("11", "2026-11-28T09:00:00Z", 8).to_string();
    let receipt = world.outcome(&world.taken("/reports", JSON, other));
    assert_eq!(receipt["dead_letters"][0]["reason"], "conflicting_report");
}

pub const GOOGLE: &str = "Campaign report\n\"November 20, 2026 - November 21, 2026\"\nDay,Campaign,Campaign ID,Currency code,Impr.,Clicks,Cost,Conversions,Conv. value\n\
     2026-11-20,Summer,10,EUR,\"1,000\",50,12.50,1.25,99.99\n2026-11-21,Summer,10,EUR,\"2,000\",60, --,0,0\n";
pub const OPTIONS: &str =
    "account=123-456-7890&time_zone=Europe/Berlin&observed_at=2026-11-22T09:00:00Z";

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

#[test]
fn files_of_platforms_are_taken_as_they_are() {
    let mut world = World::new();
    world.count();
    let path = format!("/reports?{OPTIONS}");
    let csv = world.taken(&path, "text/csv; charset=utf-8", GOOGLE);
    assert_eq!(numbers(&world.outcome(&csv)), [0, 2, 0, 0]);
    let packed = world.taken(&path, "application/gzip", gz(GOOGLE.as_bytes()));
    assert_eq!(numbers(&world.outcome(&packed)), [0, 0, 2, 0]);
    assert_eq!(world.sum_of_clicks(), 110);
    // Its zone is remembered; another is refused.
    let later = "/reports?account=1234567890&observed_at=2026-11-23T09:00:00Z";
    let same = world.taken(later, "text/csv", GOOGLE);
    assert_eq!(numbers(&world.outcome(&same)), [0, 0, 2, 0]);
    let other = format!("{later}&time_zone=UTC");
    let answer = world.post(&other, "text/csv", GOOGLE);
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.text.contains("Europe/Berlin"), "{answer:?}");
    let rows = "SELECT count(*) FROM report_rows WHERE campaign_id = 'google:1234567890:10' AND line IN (4, 5) AND file_id IS NOT NULL";
    assert_eq!(world.number(rows), 2);
    let meta = json!({ "data": [{
        "account_id": "55", "account_currency": "USD", "campaign_id": "9", "campaign_name": "Winter",
        "date_start": "2026-11-20", "date_stop": "2026-11-20", "impressions": "10", "clicks": "3", "spend": "1.5",
    }] });
    let path = "/reports?time_zone=UTC&observed_at=2026-11-22T09:00:00Z";
    let answer = world.taken(path, JSON, meta.to_string());
    assert_eq!(numbers(&world.outcome(&answer)), [0, 1, 0, 0]);
    assert_eq!(world.sum_of_clicks(), 113);
}

/// Every refusal names what is wrong, and none of it leaves anything behind.
#[test]
fn what_is_refused_is_named_and_nothing_of_it_is_sent() {
    let mut world = World::new();
    let with = |mut record: Value, field: &str, value: Value| {
        record[field] = value;
        record
    };
    let without = |mut record: Value, field: &str| {
        record.as_object_mut().expect("an object").remove(field);
        record
    };
    let refused = |path: &str, content_type: &str, body: &str| {
        let answer = world.post(path, content_type, body);
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        let route = path.split('?').next().expect("a path");
        assert_described(&world.api, "post", route, &answer);
        answer.json()
    };
    let good = event(1, 1);
    for (field, value, says) in [
        ("clicks", json!(-1), "negative_value"),
        ("clicks", json!(1.5), "not a whole number"),
        ("clicks", json!("5"), "not a whole number"),
        ("cost_micros", json!(1_i64 << 60), "sum_overflow"),
        ("conversions", json!(i64::MAX), "sum_overflow"),
        ("event_id", json!("5"), "invalid_event_id"),
        ("campaign_id", json!("a b"), "invalid_campaign_id"),
        ("platform", json!("Snapchat"), "unknown_platform"),
        ("event_time", json!(1_769_817_600), "RFC 3339"),
        (
            "event_time",
            json!("2999-01-01T00:00:00Z"),
            "future_event_time",
        ),
        (
            "event_time",
            json!("1969-01-01T00:00:00Z"),
            "invalid_event_time",
        ),
        ("cost", json!(1.5), "written otherwise"),
        ("colour", json!("red"), "no such field"),
    ] {
        let body = lines(&[good.clone(), with(good.clone(), field, value.clone())]);
        let problem = refused("/events", NDJSON, &body);
        let refusal = &problem["refusals"][0];
        assert_eq!(problem["refused"], 1, "{problem}");
        assert_eq!(refusal["number"], 2, "{problem}");
        assert_eq!(refusal["place"], "line 2", "{problem}");
        assert_eq!(refusal["field"], field, "{problem}");
        let reason = refusal["reason"].as_str().expect("a reason");
        assert!(reason.contains(says), "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(
            detail.contains("line 2") && detail.contains(field),
            "{problem}"
        );
    }
    let good = row("1", "2026-11-21T09:00:00Z", 1);
    for (field, value, says) in [
        ("impressions", json!(-1), "negative_value"),
        ("cost", json!("1.2345678"), "six decimals"),
        ("cost", json!("1,5"), "not a number"),
        ("cost", json!(true), "not a number"),
        ("revenue", json!(1e30), "larger"),
        ("revenue", json!(-2e7), "negative_value"),
        ("cost_micros", json!(1), "written otherwise"),
        ("account", json!(""), "invalid_account"),
        ("time_zone", json!("Berlin"), "invalid_time_zone"),
        ("currency", json!("EURO"), "invalid_currency"),
        ("day", json!("20.11.2026"), "not a date"),
        ("day", json!("2026-11-29"), "invalid_day"),
        ("slice", json!("x".repeat(2_000)), "text_too_long"),
        ("campaign_name", json!("a\0b"), "nul_byte"),
        ("observed_at", Value::Null, "lacks observed_at"),
    ] {
        let body = json!([good, with(good.clone(), field, value)]).to_string();
        let problem = refused("/reports", JSON, &body);
        let refusal = &problem["refusals"][0];
        assert_eq!(refusal["place"], "record 2", "{problem}");
        let reason = refusal["reason"].as_str().expect("a reason");
        assert!(reason.contains(says), "{problem}");
        if !says.starts_with("lacks") {
            assert_eq!(refusal["field"], field, "{problem}");
        }
    }
    let many: Vec<Value> = (0..50).map(|n| without(event(n, 1), "clicks")).collect();
    let problem = refused("/events", NDJSON, &lines(&many));
    assert_eq!(problem["refused"], 50);
    assert_eq!(problem["refusals"].as_array().expect("some").len(), 20);
    let twice = r#"{"clicks": 1, "clicks": 2}"#;
    for (body, says) in [
        ("[]", "no record"),
        ("\n", "no record"),
        ("[1]", "not a JSON object"),
        ("{", "not a JSON object"),
        ("[{", "not a JSON array"),
        ("hello", "not a JSON object"),
        (twice, "twice"),
    ] {
        let content_type = if body == "\n" { NDJSON } else { JSON };
        let problem = refused("/events", content_type, body);
        assert!(problem["detail"].to_string().contains(says), "{problem}");
    }
    // What a file does not say is asked for by the name of the parameter.
    let problem = refused("/reports", "text/csv", GOOGLE);
    let told = problem["refusals"].to_string();
    for parameter in ["account", "time_zone", "observed_at"] {
        assert!(
            told.contains(&format!("the parameter {parameter}")),
            "{told}"
        );
    }
    assert!(!told.contains("--"), "{told}");
    let path = format!("/reports?{OPTIONS}");
    let bad = GOOGLE.replace(",50,", ",fifty,");
    let problem = refused(&path, "text/csv", &bad);
    assert_eq!(problem["refusals"][0]["number"], 4, "{problem}");
    refused(&path, "application/zip", "PK\u{3}\u{4}");
    let status = |path: &str, content_type: &str, body: &str| {
        let answer = world.post(path, content_type, body);
        (answer.status, answer.json()["type"].to_string())
    };
    let (code, kind) = status("/events", "text/csv", "a");
    assert!(
        code == 415 && kind.contains("unsupported-media-type"),
        "{code} {kind}"
    );
    let (code, kind) = status("/events", "text/plain", "a");
    assert!(
        code == 415 && kind.contains("unsupported-media-type"),
        "{code} {kind}"
    );
    let (code, kind) = status("/reports?time_zone=UTC", JSON, &good.to_string());
    assert!(
        code == 400 && kind.contains("invalid-parameter"),
        "{code} {kind}"
    );
    let (code, kind) = status("/reports?currency=EURO", "text/csv", GOOGLE);
    assert!(
        code == 400 && kind.contains("invalid-parameter"),
        "{code} {kind}"
    );
    let encoded = [("content-type", NDJSON), ("content-encoding", "gzip")];
    let answer = world.api.ask(Method::POST, "/events", &encoded, &gz(b"{}"));
    assert_eq!(answer.status, 415);
    // What is too large is refused by what its head says.
    let mut large = TcpStream::connect(world.api.address).expect("connects");
    write!(
        large,
        "POST /events HTTP/1.1\r\nHost: {}\r\nContent-Type: {NDJSON}\r\nContent-Length: 8388609\r\nConnection: close\r\n\r\n",
        world.api.address
    )
    .expect("sent");
    let mut said = String::new();
    large.read_to_string(&mut said).expect("an answer");
    assert!(
        said.starts_with("HTTP/1.1 413") && said.contains("body-too-large"),
        "{said}"
    );
    let (code, kind) = status("/events", NDJSON, &"{}\n".repeat(100_001));
    assert!(
        code == 413 && kind.contains("too-many-records"),
        "{code} {kind}"
    );
    // Nothing was sent: the first record that is taken is the only one there is.
    world.count();
    let taken = world.taken("/events", JSON, event(1, 1).to_string());
    world.outcome(&taken);
    assert_eq!(world.stored(), 1);
}

#[test]
fn receipts_are_found_by_their_id_alone() {
    let world = World::new();
    for path in [
        "/receipts/x",
        "/receipts/00000000-0000-4000-8000-000000000001",
    ] {
        let answer = world.api.get(path);
        assert_eq!(answer.status, 404, "{answer:?}");
        assert!(answer.text.contains("unknown-receipt"), "{answer:?}");
        assert_described(&world.api, "get", "/receipts/{id}", &answer);
    }
}

#[test]
fn a_server_without_brokers_says_how_to_take_something_in() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, SHORT);
    for path in ["/events", "/reports"] {
        let answer = api.send(Method::POST, path, JSON, "{}");
        assert_eq!(answer.status, 404, "{answer:?}");
        assert!(answer.text.contains("--brokers"), "{answer:?}");
        assert_described(&api, "post", path, &answer);
    }
}

#[test]
fn a_server_that_may_not_keep_receipts_takes_nothing() {
    let mut world = World::new();
    let mut connection = world.database.connect();
    // As on a server that may not migrate, of which nobody has done it yet.
    connection
        .batch_execute("ALTER TABLE receipts RENAME TO elsewhere")
        .expect("renamed");
    let answer = world.post("/events", JSON, event(1, 1).to_string());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text.contains("INSERT on receipts"), "{answer:?}");
    assert_described(&world.api, "post", "/events", &answer);
    connection
        .batch_execute("ALTER TABLE elsewhere RENAME TO receipts")
        .expect("renamed");
    drop(connection);
    world.count();
    let taken = world.taken("/events", JSON, event(2, 1).to_string());
    world.outcome(&taken);
    assert_eq!(world.stored(), 1);
}

#[test]
fn a_broker_that_is_away_is_said_and_sending_again_is_safe() {
    let api = api::Settings {
        limits: Limits {
            delivery_time: Duration::from_secs(1),
            ..Limits::default()
        },
        ..api::Settings::default()
    };
    let world = World::before(free_address(), api);
    let answer = world.post("/events", JSON, event(1, 1).to_string());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.text.contains("not-acknowledged"), "{answer:?}");
    assert!(answer.text.contains("again is safe"), "{answer:?}");
    assert_eq!(answer.retry_after, "5");
    assert_described(&world.api, "post", "/events", &answer);
}

/// Before a broker that does not answer yet, one request fills a server that takes one at a time.
#[test]
fn more_than_may_be_held_is_told_to_wait() {
    let proxy = Proxy::of_bytes();
    let brokers = variable("KAFKA_BROKERS").to_socket_addrs();
    proxy.leads_to(brokers.expect("an address").next().expect("one"));
    proxy.set_link(Link::BlackHole);
    let api = api::Settings {
        limits: Limits {
            sending: 1,
            delivery_time: Duration::from_secs(60),
            ..Limits::default()
        },
        ..api::Settings::default()
    };
    let mut world = World::before(proxy.address().to_string(), api);
    world.count();
    let body = event(1, 1).to_string();
    let mut first = TcpStream::connect(world.api.address).expect("connects");
    write!(
        first,
        "POST /events HTTP/1.1\r\nHost: {}\r\nContent-Type: {JSON}\r\nContent-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        world.api.address,
        body.len()
    )
    .expect("sent");
    // It is told to go on once there is room for it.
    let mut told = [0; 25];
    first.read_exact(&mut told).expect("an answer");
    assert!(told.starts_with(b"HTTP/1.1 100"), "{told:?}");
    first.write_all(body.as_bytes()).expect("sent");
    let answer = world.post("/events", JSON, event(2, 1).to_string());
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.text.contains("intake-full"), "{answer:?}");
    assert_eq!(answer.retry_after, "1");
    assert_described(&world.api, "post", "/events", &answer);
    proxy.set_link(Link::Through);
    let mut said = String::new();
    first.read_to_string(&mut said).expect("an answer");
    assert!(said.starts_with("HTTP/1.1 202"), "{said}");
    let (_, taken) = said.split_once("\r\n\r\n").expect("a body");
    let taken: Value = serde_json::from_str(taken).expect("JSON");
    let location = taken["location"].as_str().expect("a path");
    assert_eq!(numbers(&world.outcome(location)), [0, 1, 0, 0]);
    // And there is room again.
    let second = world.taken("/events", JSON, event(2, 1).to_string());
    world.outcome(&second);
    assert_eq!(world.stored(), 2);
}

/// The client of the documentation, also where it is told to wait.
#[test]
fn the_documented_client_sends_waits_and_tells() {
    let api = api::Settings {
        limits: Limits {
            requests_per_address: 1,
            ..Limits::default()
        },
        ..api::Settings::default()
    };
    let mut world = World::with(api);
    world.count();
    let mut client = Command::new(variable("ADFLUX_PYTHON"))
        .args(["docs/client.py", &world.api.url("")])
        .env_remove("ADFLUX_KEY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = client.stdin.take().expect("an input");
    let events = lines(&[event(1, 1), event(2, 1), event(2, 1), event(2, 9)]);
    input.write_all(events.as_bytes()).expect("written");
    drop(input);
    let output = client.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    let receipt: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(numbers(&receipt), [0, 2, 1, 1]);
    assert_eq!(receipt["dead_letters"][0]["number"], 4);
}

#[test]
fn a_key_that_sends_may_do_no_more() {
    let api = api::Settings {
        keys: true,
        ..api::Settings::default()
    };
    let world = World::with(api);
    let key = |scope: Scope| {
        let mut out = Vec::new();
        keys::create(&mut out, &world.database.url(), "test", &[scope], None).expect("a key");
        let key = String::from_utf8(out).expect("text");
        format!("Bearer {}", key.trim())
    };
    let body = event(1, 1).to_string();
    let send = |key: &str| {
        let headers = [("content-type", JSON), ("authorization", key)];
        world.api.ask(Method::POST, "/events", &headers, &body)
    };
    for scope in [Scope::Read, Scope::Write] {
        assert_eq!(send(&key(scope)).status, 403, "{scope}");
    }
    let key = key(Scope::Ingest);
    let taken = send(&key);
    assert_eq!(taken.status, 202, "{taken:?}");
    let get = |path: &str| {
        let headers = [("authorization", key.as_str())];
        world.api.request_with(Method::GET, path, &headers).status
    };
    assert_eq!(get(&taken.location), 200);
    assert_eq!(get("/campaigns"), 403);
    assert_eq!(get("/dead-letters"), 403);
    assert_eq!(world.api.get(&taken.location).status, 401);
}

#[test]
fn what_is_sent_is_answered_as_described_whatever_it_is() {
    let world = World::new();
    let paths = ["--include-path-regex", "^/(events|reports|receipts)"];
    try_what_is_described(&world.api, &paths);
}
