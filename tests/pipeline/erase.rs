//! A campaign is forgotten while processors count, and what they count besides is as if it had never been.

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};

use crate::process::Process;
use crate::records::{Event, Record};
use crate::reports::Row;
use crate::support::redis::run;
use crate::wait::wait_until;
use crate::world::{World, required};

const FORGOTTEN: &str = "google:77:forgotten-campaign";

/// Where it stands in the database: as text, and in bytes.
fn places(world: &World) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text)]
        line: String,
    }
    let mut connection = world.connect();
    let mut lines = |sql: &str| -> Vec<String> {
        let lines = sql_query(sql).load::<Line>(&mut connection);
        let lines = lines.unwrap_or_else(|e| panic!("{e}: {sql}"));
        lines.into_iter().map(|row| row.line).collect()
    };
    let tables = lines(
        "SELECT format('%I', relname) AS line FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1",
    );
    let hex: String = FORGOTTEN
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut found = Vec::new();
    for table in &tables {
        found.extend(lines(&format!(
            "SELECT '{table} ' || left(t::text, 200) AS line FROM {table} AS t
             WHERE strpos(t::text, '{FORGOTTEN}') > 0 OR strpos(t::text, '{hex}') > 0"
        )));
    }
    found
}

fn redis_keys(campaign: &str) -> usize {
    match run(
        &required("REDIS_URL"),
        &format!("KEYS adflux:*:insight2:{campaign}"),
    ) {
        redis::Value::Array(keys) => keys.len(),
        other => panic!("{other:?}"),
    }
}

fn erase(world: &World, args: &[&str]) -> Process {
    let mut command = world.command("erase", args);
    command.env("REDIS_URL", required("REDIS_URL"));
    Process::start(&mut command)
}

#[test]
fn a_campaign_goes_while_others_are_counted() {
    let world = World::new("erase");
    world.create_topic(4, &[]);
    let mut command = world.command("process", &[]);
    command.env("REDIS_URL", required("REDIS_URL"));
    let mut process = Process::start(&mut command);
    let simulate = world.start_simulate(&["--rate", "2000", "--campaigns", "50"]);
    let events: Vec<Event> = (0..40).map(|_| Event::of(FORGOTTEN)).collect();
    let mut records: Vec<Record> = events.iter().map(Event::record).collect();
    let said = ["2024-06-04T07:00:00Z", "2024-06-05T07:00:00Z"];
    for (at, clicks) in said.into_iter().zip([5, 7]) {
        let mut row = Row::of(FORGOTTEN, "2024-06-03", at, clicks);
        row.account = "77";
        records.push(row.record());
    }
    // One that ends too early, one that nobody can read, and one of a longer name.
    let mut truncated = events[0].record();
    truncated.payload.as_mut().expect("an event").pop();
    let noise = Record {
        key: None,
        payload: Some(format!("{{\"campaign\": \"{FORGOTTEN}\"}}").into_bytes()),
        ..Record::default()
    };
    let other = Record {
        key: Some(b"another".to_vec()),
        payload: Some(b"google:77:other".to_vec()),
        ..Record::default()
    };
    world.send(&records);
    world.send(&[truncated, noise, other]);
    world.wait_until_counted(1);
    wait_until("they are counted", || {
        world.number(&format!(
            "SELECT COALESCE((SELECT sum(events) FROM metrics_total WHERE campaign_id = '{FORGOTTEN}'), 0)"
        )) == 42
            && world.number("SELECT count(*) FROM dead_letters") == 3
            && redis_keys(FORGOTTEN) > 0
    });
    assert!(!places(&world).is_empty());

    // First only what would be.
    let planned = erase(&world, &["--campaign", FORGOTTEN]).end().success();
    for line in [
        "events            42",
        "dead letters      2",
        "nothing was removed",
    ] {
        assert!(planned.stdout.contains(line), "{line}: {}", planned.stdout);
    }
    for nothing in [["--account", "google:78"], ["--campaign", "google:78:none"]] {
        let planned = erase(&world, &nothing).end().success();
        assert!(
            planned.stdout.contains("nothing is known of it"),
            "{}",
            planned.stdout
        );
    }
    let certificate = tempfile::NamedTempFile::new().expect("a file");
    let path = certificate.path().to_str().expect("text");
    let erased = erase(
        &world,
        &[
            "--campaign",
            FORGOTTEN,
            "--yes",
            "--format",
            "json",
            "--certificate",
            path,
        ],
    );
    let erased = erased.end().success();
    let written = std::fs::read_to_string(path).expect("a certificate");
    assert_eq!(written, erased.stdout);
    let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!(written["removed"]["events"], 42);
    assert_eq!(written["removed"]["dead_letters"], 2);
    assert_eq!(written["removed"]["report_history"], 1);
    assert_eq!(written["name"], FORGOTTEN);
    let found = places(&world);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(redis_keys(FORGOTTEN), 0);

    // Counting goes on, also of what is sent again.
    process.wait_for_log("or was erased");
    let again = Event::of(FORGOTTEN);
    world.send(&[again.record(), events[1].record(), again.record()]);
    let mut sent = simulate.stop_sending();
    world.wait_until_all_counted();
    process.terminate().success();
    sent.event(again.counts);
    sent.event(events[1].counts);
    world.assert_totals(sent.totals);
    assert_eq!(world.number("SELECT sum(erased) FROM stream_positions"), 44);
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
    let rebuilt = Process::start(&mut world.command("rebuild", &[]))
        .end()
        .success();
    assert!(!rebuilt.stdout.contains("were wrong"), "{}", rebuilt.stdout);
    world.assert_totals(sent.totals);
}
