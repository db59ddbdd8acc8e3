//! Dead letters that can be counted by now are sent back, and count once.

use std::collections::BTreeMap;
use std::io::Write;

use adflux::codec::SCHEMA_JSON;
use adflux::event::{Count, MAX_AHEAD};
use adflux::offset::Offset;
use adflux::store::read::dead_letters::{Filter, Row};
use adflux::time::Length;

use crate::ledger::Ledger;
use crate::process::{Ended, Process};
use crate::proxy::{Fault, Proxy};
use crate::records::{Event, Record};
use crate::wait::wait_until;
use crate::world::World;

/// The schema id of a writer nobody told the processor about.
const OTHER: u8 = 7;

/// The record of an event that its producer framed with [`OTHER`].
fn of_other_writer(event: &Event) -> Record {
    let mut record = event.record();
    record.payload.as_mut().expect("an event")[4] = OTHER;
    record
}

/// That writer's schema, for `--writer-schema`.
struct OtherSchema {
    _file: tempfile::NamedTempFile,
    setting: String,
}

impl OtherSchema {
    fn new() -> OtherSchema {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(SCHEMA_JSON.as_bytes()).expect("room for it");
        OtherSchema {
            setting: format!("--writer-schema={OTHER}={}", file.path().display()),
            _file: file,
        }
    }
}

fn redrive(world: &World, args: &[&str]) -> Ended {
    start_redrive(world, args).end()
}

fn start_redrive(world: &World, args: &[&str]) -> Process {
    Process::start(&mut dlq(world, "redrive", args))
}

fn dlq(world: &World, what: &str, args: &[&str]) -> std::process::Command {
    let args: Vec<&str> = [what].iter().chain(args).copied().collect();
    world.command("dlq", &args)
}

fn letters(world: &World, filter: &Filter) -> Vec<Row> {
    world.letters(filter)
}

fn says(ended: &Ended, text: &str) {
    assert!(ended.stdout.contains(text), "no '{text}': {}", ended.stdout);
}

/// Sends `n` events of the other writer and counts the topic without knowing its schema.
fn sent_unknown(world: &World, n: usize, ledger: &mut Ledger) -> Vec<Event> {
    let events: Vec<Event> = (0..n).map(|n| Event::of(&format!("cmp-{n}"))).collect();
    let records: Vec<Record> = events
        .iter()
        .map(|event| Record {
            headers: vec![("trace".into(), Some(vec![0, 0xff]))],
            ..of_other_writer(event)
        })
        .collect();
    world.send(&records);
    for _ in &events {
        ledger.dead("unknown_schema");
    }
    world.process_until_end(&[]).success();
    world.assert_counted(ledger);
    events
}

#[test]
fn what_can_be_counted_by_now_is_sent_back_once_and_the_rest_says_why_not() {
    let world = World::new("redrive");
    world.create_topic(4, &[]);
    let mut ledger = Ledger::default();
    let events = sent_unknown(&world, 20, &mut ledger);
    // Among them some that no schema will make countable.
    let mut future = Event::of("cmp-0");
    future.time += MAX_AHEAD.get() + Length::HOUR.get();
    let mut truncated = Event::of("cmp-1").record();
    truncated.payload.as_mut().expect("an event").pop();
    let counted = Event::of("cmp-2");
    let mut conflicting = counted.clone();
    conflicting.counts.clicks += Count::new(1);
    ledger.event(counted.counts);
    for reason in ["future_event_time", "truncated", "conflicting_duplicate"] {
        ledger.dead(reason);
    }
    world.send(&[
        future.record(),
        truncated,
        counted.record(),
        conflicting.record(),
    ]);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);

    let schema = OtherSchema::new();
    let before = world.log_size();
    let blind = redrive(&world, &[]).success();
    says(&blind, "0 sent back");
    says(&blind, "23 stay");
    says(&blind, "give --writer-schema 7=FILE");
    let dry = redrive(&world, &["--dry-run", &schema.setting]).success();
    assert_eq!(dry.stdout.matches("would be sent back\n").count(), 20);
    says(&dry, "it can be counted from ");
    says(&dry, "the value ends in the middle of a field");
    says(&dry, "the first one stands; it would be refused again");
    says(&dry, "20 would be sent back");
    assert_eq!(world.log_size(), before);
    assert_eq!(letters(&world, &Filter::default()).len(), 23);

    // First those of one place, then of one reason and no more than asked for, then the rest.
    let place = letters(&world, &Filter::default())
        .iter()
        .find(|l| l.reason == "unknown_schema")
        .expect("one of them")
        .place();
    says(
        &redrive(&world, &[&place, &schema.setting]).success(),
        "1 sent back",
    );
    let args = ["--reason", "truncated", &schema.setting];
    says(&redrive(&world, &args).success(), "0 sent back");
    let args = ["--limit", "5", &schema.setting];
    says(&redrive(&world, &args).success(), "5 sent back");
    let rest = redrive(&world, &[&schema.setting]).success();
    says(&rest, "14 sent back");
    says(&rest, "if it was started with --writer-schema 7=FILE");
    let last = redrive(&world, &[&schema.setting]).success();
    says(&last, "0 sent back");
    says(&last, "3 stay");
    assert_eq!(world.log_size(), before + 20);

    // Sent back unchanged, with its own headers and the place it comes from.
    let topic = world.read_topic();
    let redriven: Vec<Row> = letters(&world, &Filter::everything())
        .into_iter()
        .filter(|l| l.redriven_at.is_some())
        .collect();
    assert_eq!(redriven.len(), 20);
    for letter in &redriven {
        let to = (letter.redriven_partition, letter.redriven_offset);
        let record = topic
            .iter()
            .find(|r| (Some(r.partition), Some(Offset::new(r.offset))) == to)
            .expect("it is where it is said to be");
        assert_eq!(
            (&record.key, &record.payload),
            (&letter.key, &letter.payload)
        );
        assert_eq!(record.partition, letter.partition);
        let origin = Some(letter.place().into_bytes());
        assert_eq!(
            record.headers,
            [
                ("trace".to_owned(), Some(vec![0, 0xff])),
                ("adflux.redriven.from".to_owned(), origin)
            ]
        );
    }
    assert_eq!(letters(&world, &Filter::default()).len(), 3);
    let list = Process::start(&mut dlq(&world, "list", &[]))
        .end()
        .success();
    assert!(!list.stdout.contains("unknown_schema"), "{}", list.stdout);

    world.process_until_end(&[&schema.setting]).success();
    for event in &events {
        ledger.event(event.counts);
    }
    world.assert_counted(&ledger);
    let show = Process::start(&mut dlq(&world, "show", &[&place]))
        .end()
        .success();
    says(&show, "its event is counted");
    says(&show, "header          trace = 0x00ff");
}

/// Whoever sent it back knew the schema, and the processor did not: it is a dead letter again, says
/// so, and does not go round in circles.
#[test]
fn what_is_refused_again_is_not_sent_again_unless_asked_for() {
    let world = World::new("refused_again");
    world.create_topic(2, &[]);
    let mut ledger = Ledger::default();
    let events = sent_unknown(&world, 3, &mut ledger);
    let schema = OtherSchema::new();
    says(
        &redrive(&world, &[&schema.setting]).success(),
        "3 sent back",
    );
    world.process_until_end(&[]).success();
    for _ in &events {
        ledger.dead("unknown_schema");
    }
    world.assert_counted(&ledger);

    let again = redrive(&world, &[&schema.setting]).success();
    says(&again, "0 sent back");
    assert_eq!(again.stdout.matches("refused it again").count(), 3);
    for letter in letters(&world, &Filter::default()) {
        let place = letter.place();
        let shown = Process::start(&mut dlq(&world, "show", &[&place, &schema.setting]));
        let shown = shown.end().success();
        says(&shown, "first dead at");
        says(&shown, "then --again sends this one");
        says(&shown, "schema id       7");
        says(&shown, "impressions     100");
    }
    says(
        &redrive(&world, &["--again", &schema.setting]).success(),
        "3 sent back",
    );
    world.process_until_end(&[&schema.setting]).success();
    for event in &events {
        ledger.event(event.counts);
    }
    world.assert_counted(&ledger);
    // However often it was sent, the first place is remembered.
    let headers: BTreeMap<usize, usize> =
        world
            .read_topic()
            .iter()
            .fold(BTreeMap::new(), |mut all, r| {
                *all.entry(r.headers.len()).or_default() += 1;
                all
            });
    assert_eq!(headers, BTreeMap::from([(1, 3), (2, 6)]));
}

/// Killed when Kafka had it and the database did not know: it is sent twice and counted once.
#[test]
fn killed_between_sending_and_marking_it_counts_once() {
    let world = World::new("redrive_killed");
    world.create_topic(2, &[]);
    let mut ledger = Ledger::default();
    let events = sent_unknown(&world, 10, &mut ledger);
    let schema = OtherSchema::new();
    let proxy = Proxy::before(&world.database_url);
    for (statement, on_topic) in [("SET redrive_started_at", 10), ("SET redriven_at", 20)] {
        proxy.fault(statement, Fault::Hold);
        let mut command = dlq(&world, "redrive", &[&schema.setting]);
        command.env("DATABASE_URL", proxy.url(&world.database_url));
        let process = Process::start(&mut command);
        wait_until("the statement is on its way", || proxy.is_holding());
        assert_eq!(world.log_size(), on_topic, "before {statement}");
        process.kill();
        // With its connections goes what was held.
        proxy.cut();
        proxy.release();
        proxy.mend();
    }
    let started = letters(&world, &Filter::default());
    assert_eq!(started.len(), 10);
    assert!(
        started
            .iter()
            .all(|l| l.redrive_started_at.is_some() && l.redriven_at.is_none()),
        "a letter that may be on the topic must say so"
    );
    says(
        &redrive(&world, &[&schema.setting]).success(),
        "10 sent back",
    );
    assert_eq!(world.log_size(), 30);
    world.process_until_end(&[&schema.setting]).success();
    for event in &events {
        ledger.event(event.counts);
    }
    ledger.repeat(10);
    world.assert_counted(&ledger);
    assert!(letters(&world, &Filter::default()).is_empty());
}

#[test]
fn two_at_once_do_not_send_the_same() {
    let world = World::new("redrive_twice");
    world.create_topic(2, &[]);
    let mut ledger = Ledger::default();
    let events = sent_unknown(&world, 10, &mut ledger);
    let schema = OtherSchema::new();
    let proxy = Proxy::before(&world.database_url);
    proxy.fault("SET redriven_at", Fault::Hold);
    let mut command = dlq(&world, "redrive", &[&schema.setting]);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    let first = Process::start(&mut command);
    wait_until("the first has sent", || proxy.is_holding());
    redrive(&world, &[&schema.setting])
        .code(1)
        .says("another `adflux dlq redrive` is running");
    proxy.release();
    says(&first.end().success(), "10 sent back");
    assert_eq!(world.log_size(), 20);
    world.process_until_end(&[&schema.setting]).success();
    for event in &events {
        ledger.event(event.counts);
    }
    world.assert_counted(&ledger);
}

#[test]
fn without_a_topic_or_a_broker_it_says_so_and_changes_nothing() {
    let world = World::new("redrive_nowhere");
    world.create_topic(1, &[]);
    let mut ledger = Ledger::default();
    sent_unknown(&world, 1, &mut ledger);
    let schema = OtherSchema::new();
    redrive(&world, &["--topic", "no-such-topic", &schema.setting])
        .code(1)
        .says("'no-such-topic' does not exist");
    // Nobody listens on port 1.
    redrive(&world, &["--brokers", "127.0.0.1:1", &schema.setting])
        .code(1)
        .says("Kafka at 127.0.0.1:1: ");
    let mut command = dlq(&world, "redrive", &["--reason", "trunkated"]);
    Process::start(&mut command)
        .end()
        .code(2)
        .says("there is no such reason");
    let letters = letters(&world, &Filter::default());
    assert!(letters.iter().all(|l| l.redrive_started_at.is_none()));
    assert_eq!(letters.len(), 1);
}
