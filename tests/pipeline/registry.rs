//! A schema registry: Apicurio's server, and Confluent's client as another producer.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use adflux::codec::{self, SCHEMA_JSON, SchemaIds};
use adflux::event::Platform;
use adflux::report_row::Values;
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::peers::{NEWER, as_json};
use crate::process::{Ended, Process};
use crate::proxy::{Link, Proxy};
use crate::records::{Event, Record};
use crate::reports::Row;
use crate::roles::ask;
use crate::security::{EVENT, REPORT};
use crate::standing::get;
use crate::support::ports::free_address;
use crate::support::registry::{Front, Registry, register, shared};
use crate::wait::wait_until;
use crate::world::{World, required};

/// Confluent's serializer registers `schema`, and its producer sends these. The id.
fn confluent(world: &World, registry: &str, schema: &str, records: &[Value]) -> u32 {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("schema.avsc");
    std::fs::write(&file, schema).expect("written");
    let mut python = Command::new(required("ADFLUX_PYTHON"))
        .arg(root.join("tests/pipeline/registry_peer.py"))
        .args([&world.brokers, registry, &world.topic])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ADFLUX_PYTHON starts");
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    let mut pipe = python.stdin.take().expect("piped");
    pipe.write_all(lines.as_bytes()).expect("it reads all");
    drop(pipe);
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "registry_peer.py failed");
    let id = String::from_utf8(output.stdout).expect("a number");
    id.trim().parse().expect("a number")
}

/// Has the record of an event another id.
fn framed(event: &Event, id: u32) -> Record {
    let mut record = event.record();
    let payload = record.payload.as_mut().expect("an event");
    payload[1..5].copy_from_slice(&id.to_be_bytes());
    record
}

/// Version 1 with a doc of its own: another schema to a registry, and the same values.
fn reworded(words: &str) -> String {
    let unique = format!("{words} {:x}.", rand::random::<u64>());
    SCHEMA_JSON.replacen("Version 1.", &unique, 1)
}

/// So that no id is the one that it has without a registry.
fn register_others(url: &str) {
    for other in ["a", "b"] {
        let schema = format!(r#"{{"type":"record","name":"Other","doc":"{other}","fields":[]}}"#);
        register(url, "others", &schema, None);
    }
}

fn with_registry<'a>(url: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["--schema-registry", url], args].concat()
}

fn tiktok(campaign: &str) -> Event {
    Event {
        platform: Platform::TikTok,
        ..Event::of(campaign)
    }
}

#[test]
fn what_confluents_serializer_has_registered_is_counted() {
    let world = World::new("confluent");
    world.create_topic(3, &[]);
    let registry = shared();
    let mut ledger = Ledger::default();
    let events: Vec<Event> = (0..60).map(|n| tiktok(&format!("cmp-{n}"))).collect();
    events.iter().for_each(|event| ledger.event(event.counts));

    let [ours, evolved, millis] = [0, 20, 40].map(|at| &events[at..at + 20]);
    let plain = |events: &[Event]| events.iter().map(as_json).collect::<Vec<_>>();
    confluent(&world, registry, &reworded("Ours."), &plain(ours));
    let mut newer = plain(evolved);
    newer
        .iter_mut()
        .for_each(|event| event["creative"] = json!("blue banner"));
    let with_default = NEWER.replace(
        r#""name":"creative","type":["null","string"]"#,
        r#""name":"creative","type":["null","string"],"default":null"#,
    );
    confluent(&world, registry, &with_default, &newer);
    // Byte by byte the layout of ours, and yet another instant.
    let in_millis = reworded("In milliseconds.").replace("timestamp-micros", "timestamp-millis");
    confluent(&world, registry, &in_millis, &plain(millis));

    let row = Row::of("google:1:10", "2024-06-03", "2024-06-04T07:00:00Z", 5);
    let mut report = crate::peers::report_as_json(&row);
    report["day"] = json!(row.day.to_string());
    report["file"] = Value::Null;
    confluent(&world, registry, codec::report::SCHEMA_JSON, &[report]);
    ledger.event(Values::of(row.values).beyond(&Values::default()));

    let args = with_registry(registry, &[]);
    world.process_until_end(&args).success();
    world.assert_counted(&ledger);
    for (events, unit) in [(ours, 1), (evolved, 1), (millis, 1_000)] {
        for event in events {
            let stored = world.number(&format!(
                "SELECT (extract(epoch FROM event_time) * 1000000)::bigint FROM ad_events WHERE event_id = '{}'",
                event.id
            ));
            assert_eq!(stored, event.time / unit * unit);
        }
    }
}

#[test]
fn an_id_that_is_not_there_is_a_dead_letter_and_is_sent_back_once_it_is_registered() {
    let world = World::new("registered_later");
    let registry = Registry::start();
    let url = registry.url.as_str();
    register_others(url);
    let command = |name: &str, args: &[&str]| {
        Process::start(&mut world.command(name, &with_registry(url, args))).end()
    };
    command("simulate", &["--count", "10"])
        .code(1)
        .says("adflux schemas register");
    let mut own = vec!["register"];
    own.extend(with_registry(url, &[]));
    let registered = Process::start(&mut world.command("schemas", &own))
        .end()
        .success();
    for text in ["AdEvent", "-value", "id 3", "ReportRow", "id 4"] {
        assert!(registered.stdout.contains(text), "{}", registered.stdout);
    }
    let mut ledger = Ledger::parse(
        &command("simulate", &["--count", "500", "--rate", "max"])
            .success()
            .stdout,
    );
    let id = |record: &Record| codec::schema_id(record.payload.as_deref().expect("a value"));
    assert!(
        world
            .read_topic()
            .iter()
            .all(|record| id(record) == Some(3))
    );

    let later = Event::of("cmp-later");
    world.send(&[framed(&later, 5)]);
    world
        .process_until_end(&with_registry(url, &[]))
        .success()
        .says("the registry does not know this id");
    ledger.dead("unknown_schema");
    world.assert_counted(&ledger);
    let redrive = || {
        let mut args = vec!["redrive"];
        args.extend(with_registry(url, &[]));
        Process::start(&mut world.command("dlq", &args))
            .end()
            .success()
    };
    let says = |ended: &Ended, text: &str| {
        assert!(ended.stdout.contains(text), "{}", ended.stdout);
    };
    says(&redrive(), "0 sent back");

    assert_eq!(register(url, "later", &reworded("Later."), None), 5);
    says(&redrive(), "1 sent back");
    world.process_until_end(&with_registry(url, &[])).success();
    ledger.event(later.counts);
    world.assert_counted(&ledger);
}

/// `run` registers, and what it sends, `import` and `serve` send has the ids of the registry.
#[test]
fn whoever_sends_frames_with_the_ids_of_the_registry() {
    let world = World::new("registry_senders");
    world.create_topic(2, &[]);
    let registry = Registry::start();
    let url = registry.url.as_str();
    register_others(url);
    let told = doctor_of(&world, url).stdout;
    let missing = format!("AdEvent is not registered under {}-value", world.topic);
    assert!(told.contains(&missing), "{told}");

    let address = free_address();
    let args = ["--register-schemas", "--rate", "200", "--listen", &address];
    let running = Process::start(&mut world.command("run", &with_registry(url, &args)));
    world.wait_until_counted(100);
    let send = |address: &str, path: &str, body: &str| {
        wait_until("it is taken in", || {
            ask(address, "POST", path, body).is_some_and(|taken| taken.starts_with("HTTP/1.1 202"))
        });
    };
    send(&address, "/events", EVENT);
    wait_until("both schemas are known", || {
        get(&address, "/metrics").is_some_and(|(_, metrics)| {
            metrics.contains("adflux_schema_lookups_total{result=\"found\"} 1")
                && metrics.contains("adflux_schemas_known 1")
        })
    });
    running.terminate().success();

    let address = free_address();
    let args = ["--listen", &address, "--brokers", &world.brokers];
    let serving = Process::start(&mut world.command("serve", &with_registry(url, &args)));
    send(&address, "/reports", ROW);
    serving.terminate().success();

    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), REPORT).expect("written");
    let file = file.path().display().to_string();
    let said = [
        "--account",
        "123-456-7890",
        "--time-zone",
        "Europe/Berlin",
        "--observed-at",
        "2024-07-01T08:00:00Z",
        &file,
    ];
    Process::start(&mut world.command("import", &with_registry(url, &said)))
        .end()
        .success();

    world.process_until_end(&with_registry(url, &[])).success();
    assert_eq!(world.counted(), world.log_size());
    assert!(
        world.dead_letters().is_empty(),
        "{:?}",
        world.dead_letters()
    );
    let mut ids = BTreeMap::new();
    for record in world.read_topic() {
        let id = codec::schema_id(record.payload.as_deref().expect("a value"));
        *ids.entry(id).or_insert(0) += 1;
    }
    let rows = ids.remove(&Some(4)).expect("rows of reports");
    assert!(rows >= 2, "{rows}: one by HTTP, the others of the file");
    assert_eq!(ids.keys().collect::<Vec<_>>(), [&Some(3)]);
    let told = doctor_of(&world, url).success().stdout;
    assert!(
        told.contains("AdEvent has id 3, ReportRow has id 4"),
        "{told}"
    );
}

const ROW: &str = r#"{"campaign_id":"google:1:2","platform":"Google","account":"1","time_zone":"Europe/Berlin",
    "currency":"EUR","day":"2024-06-03","observed_at":"2024-06-04T09:00:00Z","impressions":10,"clicks":1,"cost":1.5}"#;

/// What the doctor says, who is told of a registry.
fn doctor_of(world: &World, url: &str) -> Ended {
    let args = with_registry(url, &["--listen", "127.0.0.1:0"]);
    Process::start(&mut world.command("doctor", &args)).end()
}

#[test]
fn a_registry_that_is_away_holds_up_only_who_needs_it_and_loses_nothing() {
    let world = World::new("registry_away");
    world.create_topic(2, &[]);
    let registry = shared();
    let rest = registry.strip_prefix("http://").expect("http");
    let (server, path) = rest.split_once('/').expect("a path");
    let proxy = Proxy::of_bytes();
    let server = server.to_socket_addrs().expect("an address").next();
    proxy.leads_to(server.expect("an address"));
    let url = format!("http://{}/{path}", proxy.address());
    let mut ledger = Ledger::default();
    // One event of a new schema, and others before and after it; where the one is.
    let mut send = |subject: &str| {
        let id = register(registry, subject, &reworded("Away."), None);
        let events: Vec<Event> = (0..40).map(|n| Event::of(&format!("cmp-{n}"))).collect();
        events.iter().for_each(|event| ledger.event(event.counts));
        let records = (0..).zip(&events).map(|(n, event)| match n {
            20 => framed(event, id),
            _ => event.record(),
        });
        world.send(&records.collect::<Vec<_>>());
        let topic = world.read_topic();
        let one = topic.iter().find(|record| {
            codec::schema_id(record.payload.as_deref().expect("a value")) == Some(id)
        });
        one.map(|record| (record.partition, record.offset))
            .expect("it was sent")
    };
    let all_but = |(partition, offset): (i32, i64)| {
        let mut ends = world.log_ends();
        ends.insert(partition, offset);
        wait_until("all else is counted", || world.positions() == ends);
    };
    let waits = send("away-1");

    proxy.cut();
    let address = free_address();
    // Known without asking, as those of all who run without a registry.
    let own = SchemaIds::OWN.event.to_string();
    let mut command = world.command(
        "process",
        &with_registry(
            &url,
            &[
                "--schema-id",
                &own,
                "--metrics-listen",
                &address,
                "--standstill-after",
                "2s",
            ],
        ),
    );
    let mut process = Process::start(&mut command);
    process.wait_for_log("assigned partitions");
    all_but(waits);
    process.wait_for_log("standing still, waiting for schema_registry");
    let (status, body) = get(&address, "/readyz").expect("it answers");
    assert!(
        status == 503 && body.contains("\"standstill\":\"schema_registry\""),
        "{body}"
    );
    proxy.mend();
    world.wait_until_all_counted();
    wait_until("it is ready", || {
        get(&address, "/readyz").is_some_and(|(status, _)| status == 200)
    });

    // In the middle of a run nobody even says no.
    proxy.set_link(Link::BlackHole);
    all_but(send("away-2"));
    proxy.set_link(Link::Through);
    proxy.reset();
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
}

#[test]
fn credentials_and_certificates_are_asked_for_by_the_names_of_their_settings() {
    let world = World::new("registry_auth");
    let front = Front::before(shared(), Some("Basic YWRmbHV4OnNlY3JldA=="), true);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let authority = file("ca.pem", front.certificate.as_deref().expect("TLS"));
    let password = file("password", b"secret\n");
    let simulate = |args: &[&str], set: &[(&str, &Path)]| {
        let mut command = world.command("simulate", args);
        command.args(["--count", "100", "--rate", "max"]);
        command.env("SCHEMA_REGISTRY_URL", &front.url);
        command.envs(set.iter().copied());
        Process::start(&mut command)
    };
    let trusted = ("SCHEMA_REGISTRY_CA_FILE", authority.as_path());
    let user = ("SCHEMA_REGISTRY_USERNAME", Path::new("adflux"));
    let mut untrusting = simulate(&[], &[]);
    untrusting.wait_for_log("name that one's in SCHEMA_REGISTRY_CA_FILE");
    untrusting.terminate().success();
    simulate(&[], &[trusted])
        .end()
        .code(1)
        .says("SCHEMA_REGISTRY_USERNAME");
    let mut doctor = world.command("doctor", &["--listen", "127.0.0.1:0"]);
    doctor
        .env("SCHEMA_REGISTRY_URL", &front.url)
        .envs([trusted]);
    let told = Process::start(&mut doctor).end().code(1).stdout;
    assert!(told.contains("PROBLEM schema registry"), "{told}");
    assert!(told.contains("does not know who asks (401)"), "{told}");
    let wrong = ("SCHEMA_REGISTRY_PASSWORD", Path::new("wrong"));
    simulate(&[], &[trusted, user, wrong])
        .end()
        .code(1)
        .says("does not know who asks (401)");
    simulate(&[], &[trusted, user])
        .end()
        .code(1)
        .says("SCHEMA_REGISTRY_USERNAME is set, and no SCHEMA_REGISTRY_PASSWORD");
    simulate(&[], &[("SCHEMA_REGISTRY_CA_FILE", &password)])
        .end()
        .code(1)
        .says("there is no certificate in");
    let right = ("SCHEMA_REGISTRY_PASSWORD_FILE", password.as_path());
    let sent = simulate(&["--register-schemas"], &[trusted, user, right]).end();
    let ledger = Ledger::parse(&sent.success().stdout);
    let mut command = world.command("process", &["--until-end"]);
    command.env("SCHEMA_REGISTRY_URL", &front.url);
    command.envs([trusted, user, right]);
    Process::start(&mut command).end().success();
    world.assert_counted(&ledger);

    let mut elsewhere = world.command("simulate", &["--count", "1"]);
    let (wrong, _) = shared().split_once("/apis").expect("its path");
    elsewhere.env("SCHEMA_REGISTRY_URL", wrong);
    Process::start(&mut elsewhere)
        .end()
        .code(1)
        .says("/apis/ccompat/v7");
}

#[test]
fn ids_that_lead_to_nothing_stop_nobody_for_long_and_flood_no_registry() {
    let world = World::new("random_ids");
    world.create_topic(2, &[]);
    let front = Front::before(shared(), None, false);
    let mut ledger = Ledger::default();
    let mut records = Vec::new();
    // A company has other schemas too, and other kinds.
    let other = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#;
    let in_json = r#"{"type":"object","properties":{"id":{"type":"integer"}}}"#;
    let foreign = [
        register(shared(), "orders", other, None),
        register(shared(), "orders-json", in_json, Some("JSON")),
    ];
    for id in foreign {
        records.push(framed(&Event::of("cmp-foreign"), id));
        ledger.dead("incompatible_schema");
    }
    for n in 0..400 {
        let event = Event::of(&format!("cmp-{n}"));
        // No registry comes to such ids for a long time, and to every other one of these never.
        records.push(framed(&event, 2_000_000_000 + n % 2 * 2_000_000_000 + n));
        ledger.dead("unknown_schema");
        let event = Event::of(&format!("cmp-{n}"));
        ledger.event(event.counts);
        records.push(event.record());
    }
    world.send(&records);
    let ended = world
        .process_until_end(&with_registry(&front.url, &["--max-bad-share", "1"]))
        .success();
    for text in [
        "type JSON",
        "named Order",
        "without the registry being asked",
    ] {
        assert!(ended.log.contains(text), "{}", ended.log);
    }
    world.assert_counted(&ledger);
    // Thirty, of which five four times, and some more that two partitions had under way; and what was there.
    let asked = front.requests();
    assert!((30..70).contains(&asked), "{asked} requests");
}
