//! Every dead letter is on the dead-letter topic too, as Kafka Connect would have put it there.

use std::collections::BTreeSet;

use adflux::event::Reason;

use crate::ledger::Ledger;
use crate::process::Process;
use crate::proxy::{Fault, Proxy};
use crate::records::{Event, Record};
use crate::wait::wait_until;
use crate::world::World;

/// Records that cannot be counted, each with a header of its own, among good ones.
fn send(world: &World, n: usize, ledger: &mut Ledger) -> Vec<Record> {
    let mut records = Vec::new();
    let mut bad = Vec::new();
    for n in 0..n {
        let good = Event::of(&format!("cmp-{n}"));
        ledger.event(good.counts);
        records.push(good.record());
        let mut record = Event::of(&format!("cmp-{n}")).record();
        match n % 3 {
            0 => {
                record.payload.as_mut().expect("an event").pop();
                ledger.dead("truncated");
            }
            1 => {
                record.key = None;
                ledger.dead("key_mismatch");
            }
            _ => {
                record.payload = None;
                ledger.dead("no_payload");
            }
        }
        record.headers = vec![
            ("number".into(), Some(n.to_string().into_bytes())),
            ("empty".into(), None),
        ];
        bad.push(record.clone());
        records.push(record);
    }
    world.send(&records);
    bad
}

fn published(world: &World) -> i64 {
    world.number("SELECT coalesce(sum(letters), 0) FROM dead_letter_publications")
}

fn header<'a>(record: &'a Record, name: &str) -> &'a str {
    let mut found = record.headers.iter().filter(|(key, _)| key == name);
    let (Some((_, Some(value))), None) = (found.next(), found.next()) else {
        panic!("not one {name}: {:?}", record.headers);
    };
    std::str::from_utf8(value).expect("text")
}

#[test]
fn each_is_published_once_with_the_headers_of_kafka_connect() {
    let world = World::new("published");
    world.create_topic(4, &[]);
    let mut ledger = Ledger::default();
    // Two processes share the topic; a third comes when they have gone.
    let mut first = world.start_process(&[]);
    let second = world.start_process(&[]);
    first.wait_for_log("assigned partitions");
    let mut bad = send(&world, 300, &mut ledger);
    world.wait_until_all_counted();
    wait_until("all are published", || published(&world) == 300);
    first.terminate().success();
    second.terminate().success();
    bad.extend(send(&world, 10, &mut ledger));
    let third = world.start_process(&[]);
    world.wait_until_all_counted();
    wait_until("all are published", || published(&world) == 310);
    third.terminate().success();
    world.assert_counted(&ledger);

    let records = world.read(&world.dlq_topic());
    assert_eq!(records.len(), bad.len(), "nothing is published twice");
    let on_topic = world.read_topic();
    let mut places = BTreeSet::new();
    for record in &records {
        let of = |name: &str| header(record, &format!("__connect.errors.{name}"));
        assert_eq!(of("topic"), world.topic);
        let partition: i32 = of("partition").parse().expect("a number");
        let offset: i64 = of("offset").parse().expect("a number");
        let original = on_topic
            .iter()
            .find(|r| (r.partition, r.offset) == (partition, offset))
            .expect("it was on the topic");
        assert_eq!(
            (&record.key, &record.payload),
            (&original.key, &original.payload)
        );
        assert_eq!(record.headers[..2], original.headers[..]);
        assert_eq!(record.headers.len(), 12);
        let (reason, stage) = match (&record.key, &record.payload) {
            (None, _) => (Reason::KeyMismatch, "KEY_CONVERTER"),
            (_, None) => (Reason::NoPayload, "VALUE_CONVERTER"),
            _ => (Reason::Truncated, "VALUE_CONVERTER"),
        };
        assert_eq!(of("stage"), stage);
        assert_eq!(of("connector.name"), world.group);
        assert_eq!(of("task.id"), "0");
        assert_eq!(of("class.name"), "adflux::codec");
        let class = format!("adflux.{}", reason.as_str());
        assert_eq!(of("exception.class.name"), class);
        assert_eq!(of("exception.message"), reason.to_string());
        assert_eq!(of("exception.stacktrace"), format!("{class}: {reason}"));
        places.insert((partition, offset));
    }
    assert_eq!(places.len(), records.len());
}

/// Killed when Kafka had them and the database did not know: published again, and none is missed.
/// While the publisher hangs, events are counted as ever.
#[test]
fn a_publisher_that_hangs_holds_nobody_up_and_killed_it_misses_none() {
    let world = World::new("publisher_killed");
    world.create_topic(2, &[]);
    let mut ledger = Ledger::default();
    let proxy = Proxy::before(&world.database_url);
    proxy.fault("INSERT INTO dead_letter_publications", Fault::Hold);
    let mut command = world.command("process", &[]);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    let mut process = Process::start(&mut command);
    process.wait_for_log("assigned partitions");
    let mut bad = send(&world, 30, &mut ledger);
    wait_until("some are published", || proxy.is_holding());
    bad.extend(send(&world, 300, &mut ledger));
    world.wait_until_all_counted();
    assert!(proxy.is_holding());
    assert_eq!(published(&world), 0);
    let early = world.read(&world.dlq_topic()).len();
    assert!((1..=bad.len()).contains(&early), "{early}");
    process.kill();
    proxy.cut();
    proxy.release();

    let process = world.start_process(&[]);
    wait_until("all are published", || published(&world) == 330);
    process.terminate().success();
    world.assert_counted(&ledger);
    let records = world.read(&world.dlq_topic());
    assert_eq!(records.len(), bad.len() + early);
    let name = |suffix: &str| format!("__connect.errors.{suffix}");
    let places: BTreeSet<_> = records
        .iter()
        .map(|r| (header(r, &name("partition")), header(r, &name("offset"))))
        .collect();
    assert_eq!(places.len(), bad.len(), "one is missed");
}

#[test]
fn it_is_named_or_turned_off_and_never_the_topic_itself() {
    let world = World::new("dlq_named");
    world.create_topic(1, &[]);
    let mut ledger = Ledger::default();
    send(&world, 3, &mut ledger);
    world
        .process_until_end(&["--dlq-topic", &world.topic])
        .code(1)
        .says("--dlq-topic must not be the topic itself");
    world.process_until_end(&["--dlq-topic", "off"]).success();
    world.assert_counted(&ledger);
    assert_eq!(published(&world), 0);
    assert!(!world.topic_exists(&world.dlq_topic()));
    // Turned on later, it begins with the first that there ever was.
    let other = format!("{}-letters", world.topic);
    let process = world.start_process(&["--dlq-topic", &other]);
    wait_until("all are published", || published(&world) == 3);
    process.terminate().success();
    assert_eq!(world.read(&other).len(), 3);
    world.delete(&other);
}

#[test]
fn one_that_is_too_large_for_the_topic_is_said_and_the_others_are_published() {
    let world = World::new("dlq_large");
    world.create_topic(1, &[]);
    world.create(&world.dlq_topic(), 1, &[("max.message.bytes", "20000")]);
    let mut ledger = Ledger::default();
    // Noise, which does not become smaller on the way.
    let mut large = Record {
        key: Some(b"cmp-0".to_vec()),
        payload: Some(vec![1; 100_000]),
        ..Record::default()
    };
    rand::fill(&mut large.payload.as_mut().expect("bytes")[1..]);
    send(&world, 3, &mut ledger);
    world.send(&[large]);
    ledger.dead("wrong_magic_byte");
    send(&world, 3, &mut ledger);
    let mut process = world.start_process(&[]);
    process.wait_for_log("is refused by");
    wait_until("all are passed", || published(&world) == 7);
    process.terminate().success();
    world.assert_counted(&ledger);
    assert_eq!(world.read(&world.dlq_topic()).len(), 6);
}

#[test]
fn a_compacted_topic_takes_those_with_a_key_and_the_others_do_not_block_them() {
    let world = World::new("dlq_compacted");
    world.create_topic(1, &[]);
    world.create(&world.dlq_topic(), 1, &[("cleanup.policy", "compact")]);
    let mut ledger = Ledger::default();
    let bad = send(&world, 30, &mut ledger);
    let with_key = bad.iter().filter(|record| record.key.is_some()).count();
    assert!((1..bad.len()).contains(&with_key));
    let mut process = world.start_process(&[]);
    process.wait_for_log("a compacted one only those with a key");
    wait_until("all are passed", || published(&world) == 30);
    process.terminate().success();
    world.assert_counted(&ledger);
    let on_topic = world.read(&world.dlq_topic());
    assert!(on_topic.iter().all(|record| record.key.is_some()));
    assert_eq!(on_topic.len(), with_key);
}
