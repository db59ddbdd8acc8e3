//! The API as a schema registry.

use std::io::Write as _;
use std::time::Duration;

use adflux::codec::{self, Decoder, SchemaIds};
use adflux::currency::Currency;
use adflux::event::{CampaignId, Platform};
use adflux::report_row::{Definition, Origin, ReportRow, Values};
use adflux::run::ServeSettings;
use adflux::time::Timestamp;
use data_encoding::HEXLOWER;
use serde_json::json;

use crate::world::{Api, TestDatabase, settings, variable};

/// 2026-01-31T00:00:00Z
const MIDNIGHT: i64 = 1_769_817_600_000_000;

#[test]
fn the_schema_registry_answers_what_deserializers_ask() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    let subjects = ["ad-events-value", "ad-events-adflux.ReportRow"];
    assert_eq!(api.get("/subjects").json(), json!(subjects));
    for (id, subject) in (1..).zip(subjects) {
        let by_id = api.get(&format!(
            "/schemas/ids/{id}?subject={subject}&fetchMaxId=false"
        ));
        assert_eq!(by_id.status, 200);
        assert_eq!(by_id.content_type, "application/vnd.schemaregistry.v1+json");
        let by_id = by_id.json();
        let text = by_id["schema"].as_str().expect("text");
        apache_avro::Schema::parse_str(text).expect("Avro");
        let versions = format!("/subjects/{subject}/versions");
        assert_eq!(api.get(&versions).json(), json!([1]));
        for version in ["latest", "1", "-1"] {
            let version = api.get(&format!("{versions}/{version}")).json();
            assert_eq!(
                version,
                json!({ "subject": subject, "version": 1, "id": id, "schema": text })
            );
        }
    }
    for (path, code) in [
        ("/schemas/ids/3", 40403),
        ("/subjects/x/versions/latest", 40401),
        ("/subjects/ad-events-value/versions/2", 40402),
        ("/subjects/ad-events-adflux.ReportRow/versions/2", 40402),
    ] {
        let answer = api.get(path);
        assert_eq!(
            (answer.status, &answer.json()["error_code"]),
            (404, &json!(code)),
            "{path}"
        );
    }
}

#[test]
fn the_schema_registry_knows_the_schemas_of_other_writers() {
    let database = TestDatabase::create();
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let other = adflux::codec::SCHEMA_JSON.replacen("Version 1.", "Of another writer.", 1);
    file.write_all(other.as_bytes()).expect("room for it");
    let settings = |writer_schemas| ServeSettings {
        writer_schemas,
        ..settings(&database.url(), None, Duration::from_millis(50))
    };
    let api = Api::serve(settings(vec![(7, file.path().to_owned())]));
    let answer = api.get("/schemas/ids/7");
    assert_eq!(answer.status, 200, "{answer:?}");
    let schema = answer.json()["schema"].as_str().map(str::to_owned);
    let schema: serde_json::Value = serde_json::from_str(&schema.expect("text")).expect("JSON");
    let doc = schema["doc"].as_str().expect("a text");
    assert!(doc.starts_with("Of another writer."), "{doc}");
    assert_eq!(api.get("/schemas/ids/1").status, 200);
    assert_eq!(api.get("/schemas/ids/2").status, 200);
    assert_eq!(api.get("/schemas/ids/8").status, 404);
    // What a processor would not take, a server does not either.
    for (id, file, said) in [
        (1, file.path().to_owned(), "schema id 1 is taken by our own"),
        (2, file.path().to_owned(), "schema id 2 is taken by our own"),
        (
            7,
            "/nowhere.avsc".into(),
            "cannot read the writer schema /nowhere.avsc",
        ),
    ] {
        let refused = Api::refused(settings(vec![(id, file)]));
        assert!(refused.contains(said), "{refused}");
    }
}

/// What Confluent's Python client, with our API as its registry, makes of it.
fn confluent(api: &Api, direction: &str, argument: &str) -> String {
    let output = std::process::Command::new(variable("ADFLUX_PYTHON"))
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/api/confluent_peer.py"
        ))
        .args([direction, &api.url(""), argument])
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout).expect("text");
    printed.trim().to_owned()
}

#[test]
fn confluents_python_client_reads_an_event_with_our_api_as_its_registry() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    let mut simulator = adflux::simulator::Simulator::new(&adflux::simulator::Settings {
        seed: 1,
        campaigns: 10,
        faults: adflux::simulator::Faults::default(),
        schema_id: SchemaIds::OWN.event,
    });
    let value = simulator.next_record(Timestamp::new(MIDNIGHT)).value;
    let read = confluent(&api, "read", &HEXLOWER.encode(value));
    let read: serde_json::Value = serde_json::from_str(&read).expect("JSON");
    let mut decoder = Decoder::new(SchemaIds::OWN).expect("a decoder");
    let message = decoder.decode(value).expect("decodes");
    let event = message.event().expect("an event");
    assert_eq!(read["event_id"], event.event_id.to_string());
    assert_eq!(read["campaign_id"], event.campaign_id.as_str());
    assert_eq!(read["platform"], event.platform.name());
    assert_eq!(read["event_time"], event.event_time.get());
    assert_eq!(read["revenue_micros"], event.counts.revenue_micros.get());
}

#[test]
fn confluents_python_client_reads_and_writes_a_report_row() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    let row = ReportRow {
        campaign_id: CampaignId::parse("google:1:10").expect("an id"),
        campaign_name: "Été",
        definition: Definition {
            platform: Platform::Google,
            account: "1",
            time_zone: chrono_tz::Europe::Berlin,
            currency: Currency::from_code("EUR").expect("a currency"),
            conversions: "purchase",
            revenue: "",
        },
        day: "2024-06-03".parse().expect("a day"),
        slice: "ad_group=7",
        observed_at: Timestamp::new(MIDNIGHT + 1),
        values: Values::of([Some(100), Some(5), Some(1_500_000), None, Some(0)]),
        origin: Origin {
            file: Some([7; 32]),
            line: Some(3),
        },
    };
    let mut value = Vec::new();
    codec::report::encode(&row, SchemaIds::OWN.report, &mut value);
    let value = HEXLOWER.encode(&value);
    let read = confluent(&api, "read", &value);
    let expected = json!({
        "campaign_id": "google:1:10", "campaign_name": "Été", "platform": "Google", "account": "1",
        "time_zone": "Europe/Berlin", "currency": "EUR", "conversions_of": "purchase", "revenue_of": "",
        "day": "2024-06-03", "slice": "ad_group=7", "observed_at": MIDNIGHT + 1, "impressions": 100, "clicks": 5,
        "conversion_micros": 1_500_000, "cost_micros": null, "revenue_micros": 0, "file": "07".repeat(32), "line": 3,
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&read).expect("JSON"),
        expected
    );
    assert_eq!(confluent(&api, "write", &read), value);
}
