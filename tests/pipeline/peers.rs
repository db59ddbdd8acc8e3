//! Other producers: another implementation of Avro, another schema.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use adflux::codec;
use adflux::event::{Counts, MILLION, Platform};
use adflux::report_row::Values;
use adflux::totals::Totals;
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::process::Process;
use crate::records::{Event, Record};
use crate::reports::Row;
use crate::world::{World, required};

/// Runs fastavro_peer.py; one JSON value a line goes in and comes out.
fn fastavro(args: &[&str], input: &[Value]) -> Vec<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(required("ADFLUX_PYTHON"))
        .arg(root.join("tests/pipeline/fastavro_peer.py"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ADFLUX_PYTHON starts");
    let mut pipe = python.stdin.take().expect("piped");
    let lines: String = input.iter().map(|line| format!("{line}\n")).collect();
    let writing = std::thread::spawn(move || pipe.write_all(lines.as_bytes()));
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "fastavro_peer.py failed");
    writing.join().expect("no panic").expect("it reads all");
    let text = String::from_utf8(output.stdout).expect("JSON");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn schema_file(record: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("schemas").join(record);
    file.with_extension("avsc").display().to_string()
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("a string");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

pub fn as_json(event: &Event) -> Value {
    json!({
        "event_id": event.id,
        "campaign_id": event.campaign,
        "platform": event.platform.name(),
        "event_time": event.time,
        "impressions": event.counts.impressions,
        "clicks": event.counts.clicks,
        "conversions": event.counts.conversions.parts().0,
        "cost_micros": event.counts.cost_micros,
        "revenue_micros": event.counts.revenue_micros,
    })
}

#[test]
fn events_that_fastavro_wrote_are_counted() {
    let world = World::new("fastavro_writes");
    world.create_topic(4, &[]);
    let mut ledger = Ledger::default();
    let events: Vec<Event> = (0..200i64)
        .map(|n| Event {
            platform: Platform::ALL[n as usize % 4],
            counts: Counts::of([
                n,
                1 << (n % 53),
                ((1 << (n % 33)) - 1) * MILLION,
                n * n * n,
                0,
            ]),
            ..Event::of(&format!("cmp:{n}_.-"))
        })
        .collect();
    let input: Vec<Value> = events.iter().map(as_json).collect();
    let payloads = fastavro(&["write", &schema_file("ad_event"), "1"], &input);
    assert_eq!(payloads.len(), events.len());
    let records: Vec<Record> = events
        .iter()
        .zip(&payloads)
        .map(|(event, payload)| {
            ledger.event(event.counts);
            let payload = Some(unhex(payload));
            assert_eq!(payload, event.record().payload, "we write other bytes");
            Record {
                payload,
                ..event.record()
            }
        })
        .collect();
    world.send(&records);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
}

#[test]
fn events_on_the_topic_are_read_by_fastavro() {
    let world = World::new("fastavro_reads");
    let ledger = world.simulate(&["--count", "3000", "--rate", "max", "--late", "10%"]);
    let topic = world.read_topic();
    let payload = |record: &Record| {
        let payload = record.payload.as_deref().expect("an event");
        json!(data_encoding::HEXLOWER.encode(payload))
    };
    let input: Vec<Value> = topic.iter().map(payload).collect();
    let events = fastavro(&["read", &schema_file("ad_event"), "1"], &input);
    let mut totals = Totals::default();
    for (record, event) in topic.iter().zip(&events) {
        assert_eq!(
            event["campaign_id"].as_str().map(str::as_bytes),
            record.key.as_deref()
        );
        let number = |name: &str| event[name].as_i64().expect("a number");
        let counts = Counts::of([
            number("impressions"),
            number("clicks"),
            number("conversions") * MILLION,
            number("cost_micros"),
            number("revenue_micros"),
        ]);
        totals = totals.checked_add(Totals::of(counts)).expect("small sums");
    }
    assert_eq!(totals, ledger.totals);
    world.process_until_end(&[]).success();
    for event in events.iter().step_by(100) {
        let text = |name: &str| event[name].as_str().expect("text");
        let stored = world.number(&format!(
            "SELECT count(*) FROM ad_events WHERE event_id = '{}' AND campaign_id = '{}' AND platform = '{}' \
             AND extract(epoch FROM event_time) * 1000000 = {} AND revenue_micros = {}",
            text("event_id"), text("campaign_id"), text("platform"), event["event_time"], event["revenue_micros"],
        ));
        assert_eq!(stored, 1, "{event}");
    }
}

/// A producer a version ahead: other order, a smaller type, a field of its own.
pub const NEWER: &str = r#"{"type":"record","name":"AdEvent","namespace":"adflux","fields":[
    {"name":"creative","type":["null","string"]},
    {"name":"campaign_id","type":"string"},
    {"name":"event_time","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"event_id","type":{"type":"string","logicalType":"uuid"}},
    {"name":"platform","type":{"type":"enum","name":"Platform","symbols":["TikTok","Meta"]}},
    {"name":"clicks","type":"int"},
    {"name":"impressions","type":"long"},
    {"name":"conversions","type":"long"},
    {"name":"revenue_micros","type":"long"},
    {"name":"cost_micros","type":"long"}]}"#;

#[test]
fn another_writers_schema_is_a_dead_letter_until_it_is_known() {
    let world = World::new("evolution");
    world.create_topic(2, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let schema = folder.path().join("newer.avsc");
    std::fs::write(&schema, NEWER).expect("a file");
    let newer = |event: &Event| {
        let mut json = as_json(event);
        json["creative"] = json!("blue banner");
        let written = fastavro(&["write", &schema.display().to_string(), "7"], &[json]);
        Record {
            payload: Some(unhex(&written[0])),
            ..event.record()
        }
    };
    let event = |campaign| Event {
        platform: Platform::TikTok,
        ..Event::of(campaign)
    };
    let (first, second) = (event("cmp-1"), event("cmp-2"));
    let mut ledger = Ledger::default();
    world.send(&[newer(&first)]);
    world.process_until_end(&[]).success();
    ledger.dead("unknown_schema");
    world.assert_counted(&ledger);

    // What was refused then may come again; what was counted then may not.
    world.send(&[newer(&first), newer(&second), first.record()]);
    let known = format!("7={}", schema.display());
    world
        .process_until_end(&["--writer-schema", &known])
        .success();
    ledger.event(first.counts);
    ledger.event(second.counts);
    ledger.repeat(1);
    world.assert_counted(&ledger);
    assert_eq!(
        world.number("SELECT count(*) FROM ad_events WHERE platform = 'TikTok'"),
        2
    );

    let wrong = format!("{}={}", codec::SchemaIds::OWN.event, schema.display());
    let ended = world
        .process_until_end(&["--writer-schema", &wrong])
        .code(1);
    ended.says("schema id 1 is taken");
}

pub fn report_as_json(row: &Row) -> Value {
    let [impressions, clicks, conversions, cost, revenue] = row.values;
    let epoch = chrono::NaiveDate::default();
    json!({
        "campaign_id": row.campaign,
        "campaign_name": row.name,
        "platform": "Google",
        "account": row.account,
        "time_zone": "Europe/Berlin",
        "currency": "EUR",
        "conversions_of": "",
        "revenue_of": "",
        "day": (row.day - epoch).num_days(),
        "slice": row.slice,
        "observed_at": row.observed_at.get(),
        "impressions": impressions,
        "clicks": clicks,
        "conversion_micros": conversions,
        "cost_micros": cost,
        "revenue_micros": revenue,
        "file": "07".repeat(32),
        "line": 3,
    })
}

fn reports() -> Vec<Row> {
    let day = |n| {
        let mut row = Row::of(
            "google:1:10",
            &format!("2024-06-{n:02}"),
            "2024-06-30T07:00:00Z",
            n,
        );
        if n % 3 == 0 {
            row.values[n as usize / 3 % 5] = None;
        }
        if n % 4 == 0 {
            row.name = String::new();
        }
        row
    };
    (1..=28).map(day).collect()
}

#[test]
fn report_rows_are_what_fastavro_takes_them_for() {
    let world = World::new("fastavro_reports");
    world.create_topic(2, &[]);
    let mut ledger = Ledger::default();
    let rows = reports();
    let input: Vec<Value> = rows.iter().map(report_as_json).collect();
    let schema = schema_file("report_row");
    let payloads = fastavro(&["write", &schema, "2"], &input);
    let records: Vec<Record> = rows
        .iter()
        .zip(&payloads)
        .map(|(row, payload)| {
            ledger.event(Values::of(row.values).beyond(&Values::default()));
            let ours = row.record();
            assert_eq!(Some(unhex(payload)), ours.payload, "we write other bytes");
            ours
        })
        .collect();
    assert_eq!(fastavro(&["read", &schema, "2"], &payloads), input);
    world.send(&records);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
}

/// A producer that has no slices and no files, names its days, and knows fewer numbers.
const OTHER_REPORT: &str = r#"{"type":"record","name":"ReportRow","namespace":"com.example","fields":[
    {"name":"source","type":"string"},
    {"name":"day","type":"string"},
    {"name":"observed_at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"account","type":"string"},
    {"name":"campaign_id","type":"string"},
    {"name":"campaign_name","type":"string"},
    {"name":"platform","type":{"type":"enum","name":"Platform","symbols":["Google","Snapchat"]}},
    {"name":"currency","type":"string"},
    {"name":"time_zone","type":"string"},
    {"name":"cost_micros","type":"long"},
    {"name":"clicks","type":["null","int"]}]}"#;

#[test]
fn report_rows_of_another_writer_are_sent_back_once_their_schema_is_known() {
    let world = World::new("other_reports");
    world.create_topic(1, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let schema = folder.path().join("other.avsc");
    std::fs::write(&schema, OTHER_REPORT).expect("a file");
    let known = format!("--writer-schema=9={}", schema.display());
    let other = |row: &Row| {
        let mut json = report_as_json(row);
        json["source"] = json!("a warehouse");
        json["day"] = json!(row.day.to_string());
        json["observed_at"] = json!(row.observed_at.get() / 1_000);
        let own = json.as_object_mut().expect("an object");
        own.retain(|name, _| OTHER_REPORT.contains(&format!("\"{name}\"")));
        let written = fastavro(&["write", &schema.display().to_string(), "9"], &[json]);
        Record {
            payload: Some(unhex(&written[0])),
            ..row.record()
        }
    };
    let row = Row {
        values: [None, Some(5), None, Some(7_000_000), None],
        ..Row::of("google:1:10", "2024-06-03", "2024-06-04T07:00:00Z", 5)
    };
    let mut ledger = Ledger::default();
    world.send(&[other(&row)]);
    world.process_until_end(&[]).success();
    ledger.dead("unknown_schema");
    world.assert_counted(&ledger);
    let mut redrive = world.command("dlq", &["redrive", &known]);
    let redriven = Process::start(&mut redrive).end().success();
    assert!(
        redriven.stdout.contains("1 sent back"),
        "{}",
        redriven.stdout
    );
    // The same row, as we write it, is the same row.
    world.send(&[row.record()]);
    world.process_until_end(&[&known]).success();
    ledger.event(Values::of(row.values).beyond(&Values::default()));
    ledger.repeat(1);
    world.assert_counted(&ledger);
}
