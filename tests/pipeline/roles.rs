//! Least privilege: who owns the schema migrates it, and who counts or answers may do that and no more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use adflux::offset::Offset;
use adflux::store::keep::carry::Due;
use adflux::store::keep::receipts;
use adflux::store::write::positions::{self, Partition};
use adflux::store::{self, Limits, identity, keep};
use diesel::connection::SimpleConnection as _;

use crate::process::Process;
use crate::support::ports::free_address;
use crate::wait::{wait_for, wait_until};
use crate::world::World;

pub const ROLES: &str = include_str!("../../docs/roles.sql");

/// A database, as a user of its own sees it. Gone with the value.
pub struct User {
    pub name: String,
    pub url: String,
    server: String,
}

impl User {
    /// One of the world's database, with a role.
    pub fn create(world: &World, role: &str) -> User {
        User::of(&world.database_url, &format!("IN ROLE {role}"))
    }

    pub fn of(database_url: &str, options: &str) -> User {
        let name = format!("user_{:08x}", rand::random::<u32>());
        let create = format!("CREATE ROLE {name} LOGIN PASSWORD 'secret' {options}");
        let mut server = store::connect(database_url, Limits::API).expect("it answers");
        server.batch_execute(&create).expect("a user");
        let (scheme, rest) = database_url.split_once("://").expect("a URL");
        let (_, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        User {
            url: format!("{scheme}://{name}:secret@{place}"),
            server: database_url.to_owned(),
            name,
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let dropped = store::connect(&self.server, Limits::API)
            .map(|mut c| c.batch_execute(&format!("DROP ROLE {}", self.name)));
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("role {} is left behind", self.name);
        }
    }
}

/// What a server answers.
pub fn ask(address: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn each_role_does_its_work_with_the_documented_grants() {
    let world = World::new("roles");
    let sent = world.simulate(&["--count", "3000", "--rate", "max", "--malformed", "1%"]);
    Process::start(&mut world.command("migrate", &[]))
        .end()
        .success();
    world.connect().batch_execute(ROLES).expect("roles");
    world.connect().batch_execute(ROLES).expect("roles, again");

    let counting = User::create(&world, "adflux_processor");
    let rules = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        rules.path(),
        "[[rule]]\nname = \"any\"\nwhen = \"clicks > 0 over 1d\"\n",
    )
    .expect("written");
    let mut command = world.command(
        "process",
        &["--no-migrate", "--metrics-listen", "127.0.0.1:0"],
    );
    command
        .env("DATABASE_URL", &counting.url)
        .env("ADFLUX_ALERT_RULES", rules.path())
        .env("RUST_LOG", "debug");
    let process = Process::start(&mut command);
    world.wait_until_counted(3_000);
    wait_until("dead letters are published", || {
        world.number("SELECT count(*) FROM dead_letter_publications") > 0
    });
    wait_until("alerts open", || {
        world.number("SELECT count(*) FROM alerts") > 0
    });
    let log = process.terminate().success().log;
    for denied in ["permission denied", "must be owner", "lacks"] {
        assert!(!log.contains(denied), "{log}");
    }
    world.assert_counted(&sent);
    // What runs beside it once a minute, or an hour.
    let mut connection = store::connect(&counting.url, Limits::PROCESSOR).expect("a connection");
    keep::merge::merge_some(&mut connection, Duration::ZERO).expect("merges");
    while keep::carry::carry_some(&mut connection, Due::AT_ONCE)
        .expect("carries")
        .is_some()
    {}
    keep::carry::merge_some(&mut connection).expect("merges sums");
    identity::raise_generation(&mut connection).expect("disowns what caches hold");
    identity::identity(&mut connection).expect("knows which database it is");
    let mut command = world.command("dlq", &["redrive", "--again"]);
    command.env("DATABASE_URL", &counting.url);
    Process::start(&mut command).end().success();
    // As `adflux skip` does, with what cannot be read.
    let cluster_id = world.cluster_id();
    let of = Partition {
        cluster_id: &cluster_id,
        topic: &world.topic,
        partition: 0,
    };
    let at = Offset::new(world.positions()[&0]);
    let skipped = positions::skip(&mut connection, of, (at, at.next()), "a test", "nobody");
    assert!(skipped.expect("gives up what cannot be read"));
    // Nor to make it forget.
    let mut command = world.command("erase", &["--campaign", "cmp-1", "--yes"]);
    command.env("DATABASE_URL", &counting.url);
    Process::start(&mut command)
        .end()
        .code(1)
        .says("what erasing takes");
    // Not the keys.
    for table in ["api_keys", "cursor_key"] {
        let keys = connection.batch_execute(&format!("SELECT FROM {table}"));
        assert!(keys.is_err(), "a processor needs no {table}");
    }

    let answering = User::create(&world, "adflux_api");
    let api = free_address();
    let mut command = world.command("serve", &["--listen", &api]);
    command
        .env("DATABASE_URL", &answering.url)
        .env("ADFLUX_ORIGINALS", "postgres")
        .env("ADFLUX_NO_MIGRATE", "yes");
    let server = Process::start(&mut command);
    for path in [
        "/readyz",
        "/insights",
        // With a cursor, which is signed.
        "/campaigns?limit=1",
        "/campaign/cmp-1/insights",
        "/dead-letters",
        "/pipeline",
        "/alerts",
        "/alerts/rules",
    ] {
        let answer = wait_for(path, || ask(&api, "GET", path, ""));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let rule = r#"{"name": "more", "when": "clicks > 1 over 1h"}"#;
    let made = ask(&api, "POST", "/alerts/rules", rule).expect("it answers");
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let mute = r#"{"until": "2999-01-01T00:00:00Z"}"#;
    let alerts = ask(&api, "GET", "/alerts", "").expect("it answers");
    let (_, rest) = alerts
        .split_once("\"alert_id\":\"")
        .expect("an alert is open");
    let (alert, _) = rest.split_once('"').expect("its id");
    for (path, body) in [
        ("/alerts/mutes/more".to_owned(), mute),
        (format!("/alerts/acknowledgements/{alert}"), ""),
    ] {
        let made = ask(&api, "PUT", &path, body).expect("it answers");
        assert!(made.starts_with("HTTP/1.1 20"), "{path}: {made}");
    }
    let event = r#"{"event_id": "00000000-0000-4000-8000-000000000001", "campaign_id": "cmp-1", "platform": "Meta",
        "event_time": "2026-01-31T12:00:00Z", "impressions": 1, "clicks": 0, "conversions": 0, "cost_micros": 0, "revenue_micros": 0}"#;
    let taken = ask(&api, "POST", "/events", event).expect("it answers");
    assert!(taken.starts_with("HTTP/1.1 202"), "{taken}");
    // A file twice, which is kept once.
    let file = r#"{"data": [{"account_id": "55", "account_currency": "USD", "campaign_id": "9", "date_start": "2026-01-20",
        "date_stop": "2026-01-20", "impressions": "10", "clicks": "3", "spend": "1.5"}]}"#;
    for _ in 0..2 {
        let path = "/reports?time_zone=UTC&observed_at=2026-01-22T09:00:00Z";
        let taken = ask(&api, "POST", path, file).expect("it answers");
        assert!(taken.starts_with("HTTP/1.1 202"), "{taken}");
    }
    assert_eq!(world.number("SELECT count(*) FROM report_file_chunks"), 1);
    server.terminate().success();
    receipts::forget(&mut connection).expect("forgets old receipts");
    let mut connection = store::connect(&answering.url, Limits::API).expect("a connection");
    for written in [
        "DELETE FROM event_blocks",
        "UPDATE cursor_key SET secret = DEFAULT",
        "SELECT bytes FROM report_file_chunks",
    ] {
        let written = connection.batch_execute(written);
        assert!(
            written.is_err(),
            "a server writes neither events nor its key, and reads no file"
        );
    }
    drop(connection);
}

#[test]
fn a_schema_that_is_not_up_to_date_is_said_in_one_sentence() {
    let world = World::new("behind");
    world.simulate(&["--count", "10", "--rate", "max"]);
    // Nothing is created, neither a database nor a schema.
    let ended = world.process_until_end(&["--no-migrate"]);
    ended.code(1).says("CREATE DATABASE");
    Process::start(&mut world.command("migrate", &[]))
        .end()
        .success();
    let newest = "(SELECT max(version) FROM __diesel_schema_migrations)";
    let forget =
        format!("UPDATE __diesel_schema_migrations SET version = '0' WHERE version = {newest}");
    world.connect().batch_execute(&forget).expect("forgets it");
    for (name, arguments) in [
        ("process", vec!["--no-migrate", "--until-end"]),
        ("serve", vec!["--no-migrate", "--listen", "127.0.0.1:0"]),
        ("doctor", vec!["--listen", "127.0.0.1:0"]),
    ] {
        let ended = Process::start(&mut world.command(name, &arguments))
            .end()
            .code(1);
        let said = format!("{}{}", ended.log, ended.stdout);
        assert!(said.contains("the schema lacks migration 000"), "{said}");
        assert!(said.contains("run `adflux migrate` as the owner"), "{said}");
    }
    // A user who may not is told the same, whatever the flag.
    world.connect().batch_execute(ROLES).expect("roles");
    let counting = User::create(&world, "adflux_processor");
    let mut command = world.command("process", &["--until-end"]);
    command.env("DATABASE_URL", &counting.url);
    Process::start(&mut command)
        .end()
        .code(1)
        .says("run `adflux migrate` as the owner");

    // A newer one is no reason to stop, and is said.
    let newer = "UPDATE __diesel_schema_migrations SET version = '99990101000000' WHERE version = '0'; \
                 INSERT INTO __diesel_schema_migrations (version) VALUES ('";
    let missing = migrations().pop().expect("one");
    world
        .connect()
        .batch_execute(&format!("{newer}{missing}')"))
        .expect("one more");
    let ended = world.process_until_end(&["--no-migrate"]).success();
    assert!(
        ended.log.contains("newer than this adflux"),
        "{}",
        ended.log
    );
    let ended = Process::start(&mut world.command("doctor", &["--listen", "127.0.0.1:0"])).end();
    assert!(
        ended.stdout.contains("newer than this adflux"),
        "{}",
        ended.stdout
    );
}

/// Another one that is at it, or a lock that a pooler has kept, is waited for and no longer than wanted.
#[test]
fn a_stop_is_heeded_while_another_process_migrates() {
    let world = World::new("waiting");
    world.simulate(&["--count", "10", "--rate", "max"]);
    Process::start(&mut world.command("migrate", &[]))
        .end()
        .success();
    let mut other = world.connect();
    let forget = "DELETE FROM __diesel_schema_migrations WHERE version = \
                  (SELECT max(version) FROM __diesel_schema_migrations); SELECT pg_advisory_lock(7236002113)";
    other.batch_execute(forget).expect("the lock");
    let waiting = world.start_process(&[]);
    wait_until("it has come", || {
        world.number(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'adflux'",
        ) > 0
    });
    waiting.terminate().success();
    // What is up to date needs no lock.
    let missing = migrations().pop().expect("one");
    let again = format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{missing}')");
    other.batch_execute(&again).expect("as it was");
    world.process_until_end(&[]).success();
    assert_eq!(world.counted(), 10);
}

/// The versions of the migrations, oldest first.
fn migrations() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut versions: Vec<String> = std::fs::read_dir(folder)
        .expect("the migrations")
        .filter_map(|entry| {
            let name = entry.expect("an entry").file_name();
            let (version, _) = name.to_str()?.split_once('_')?;
            Some(version.to_owned())
        })
        .collect();
    versions.sort();
    versions
}
