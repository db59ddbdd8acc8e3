//! A position must lie within the log. Where it does not, nothing is skipped silently.

use std::collections::BTreeMap;

use adflux::codec::{Decoder, SchemaIds};
use adflux::store::read::dead_letters::Filter;
use adflux::totals::Totals;
use nix::sys::signal::Signal;
use rdkafka::producer::{Producer, ThreadedProducer};

use crate::ledger::Ledger;
use crate::process::Process;
use crate::records::{Event, Record};
use crate::world::{Failures, World};

#[test]
fn a_position_beyond_the_log_halts() {
    let world = World::new("recreated");
    world.simulate(&["--count", "4000", "--rate", "max"]);
    world.process_until_end(&[]).success();
    let positions = world.positions();
    let totals = world.number("SELECT sum(events) FROM metrics_total");

    world.delete_topic();
    world.create_topic(4, &[]);
    world.simulate(&["--count", "100", "--rate", "max"]);
    for args in [&[][..], &["--accept-loss"]] {
        let ended = world.process_until_end(args).code(1);
        let ended = ended.says("is beyond the end of the log");
        ended.says(&format!("of {}[", world.topic));
    }
    assert_eq!(world.positions(), positions);
    assert_eq!(
        world.number("SELECT sum(events) FROM metrics_total"),
        totals
    );
}

/// Every offset is there, only not with the records that were counted.
#[test]
fn a_topic_made_anew_that_has_grown_beyond_its_positions_halts() {
    let world = World::new("regrown");
    let ledger = world.simulate(&["--count", "1000", "--rate", "max"]);
    world.process_until_end(&[]).success();
    // The same log is known again.
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
    let positions = world.positions();

    world.delete_topic();
    world.create_topic(4, &[]);
    world.simulate(&["--count", "4000", "--rate", "max", "--seed", "2"]);
    for args in [&[][..], &["--accept-loss"]] {
        let ended = world.process_until_end(args).code(1);
        let ended = ended.says("is another one than was counted");
        ended.says("Give the new topic another name");
    }
    assert_eq!(world.positions(), positions);
    world.assert_totals(ledger.totals);
}

#[test]
fn records_deleted_before_they_were_counted_halt_it_until_the_loss_is_accepted() {
    let world = World::new("deleted");
    world.simulate(&["--count", "4000", "--rate", "max"]);
    world.process_until_end(&[]).success();
    let positions = world.positions();
    let mut totals = world.totals_counted();

    world.simulate(&["--count", "4000", "--rate", "max", "--seed", "2"]);
    let ends = world.log_ends();
    // In one partition half of what is new, in another all of it.
    let mut deleted = BTreeMap::new();
    deleted.insert(0, (positions[&0] + ends[&0]) / 2);
    deleted.insert(1, ends[&1]);
    world.delete_records_before(&deleted);

    let ended = world.process_until_end(&[]).code(1);
    let ended = ended.says("were deleted by retention before they were counted");
    ended.says("--accept-loss");
    for partition in [0, 1] {
        assert_eq!(world.positions()[&partition], positions[&partition]);
    }

    let ended = world.process_until_end(&["--accept-loss"]).success();
    let lost: i64 = deleted.iter().map(|(p, start)| start - positions[p]).sum();
    ended.says("records were deleted before they were counted; going on from");
    assert_eq!(world.positions(), ends);
    let mut decoder = Decoder::new(SchemaIds::OWN).expect("a decoder");
    for record in world.read_topic() {
        if record.offset >= positions[&record.partition] {
            let payload = record.payload.expect("an event");
            let message = decoder.decode(&payload).expect("decodes");
            let event = message.event().expect("an event");
            totals = totals
                .checked_add(Totals::of(event.counts))
                .expect("small sums");
        }
    }
    world.assert_totals(totals);
    assert_eq!(
        world.number("SELECT sum(next_offset - start_offset - records) FROM stream_positions"),
        lost
    );
    // Told once, it needs telling no more.
    world.process_until_end(&[]).success();
}

#[test]
fn retention_that_overtakes_a_processor_halts_it_there() {
    let world = World::new("overtaken");
    world.simulate(&["--count", "2000", "--rate", "max"]);
    let process = world.start_process(&[]);
    world.wait_until_counted(2_000);
    let positions = world.positions();
    process.signal(Signal::SIGSTOP);
    world.simulate(&["--count", "2000", "--rate", "max", "--seed", "2"]);
    let ends = world.log_ends();
    world.delete_records_before(&BTreeMap::from([(0, ends[&0])]));
    process.signal(Signal::SIGCONT);
    let deleted = format!(
        "{} records of {}[0] (offsets {} to {}) were deleted by retention before they were counted",
        ends[&0] - positions[&0],
        world.topic,
        positions[&0],
        ends[&0] - 1
    );
    process.end().code(1).says(&deleted);
    assert_eq!(world.positions()[&0], positions[&0], "nothing is skipped");
}

#[test]
fn without_a_topic_there_is_no_end_to_count_to() {
    let world = World::new("no_topic");
    let ended = world.process_until_end(&[]).code(1);
    ended.says(&format!("topic '{}' does not exist yet", world.topic));
}

#[test]
fn it_waits_for_a_topic_that_is_created_later() {
    let world = World::new("later");
    let mut process = world.start_process(&[]);
    process.wait_for_log("does not exist yet; waiting for it");
    let ledger = world.simulate(&["--count", "1000", "--rate", "max"]);
    crate::wait::wait_until("all is counted", || world.counted() == ledger.records);
    process.terminate().success();
    world.assert_counted(&ledger);
}

/// A transaction ends with a marker, which has an offset and is no record. One that was aborted has records that
/// nobody is given.
#[test]
fn a_log_that_ends_without_a_record_is_read_to_its_end() {
    let world = World::new("markers");
    world.create_topic(1, &[]);
    let (commit, abort) = (
        ThreadedProducer::<Failures>::commit_transaction,
        ThreadedProducer::<Failures>::abort_transaction,
    );
    let records: Vec<_> = (0..10).map(|_| Event::of("a").record()).collect();
    let accounted = "SELECT records * 1000000 + events * 1000 + duplicates FROM stream_positions";

    world.send_in_transaction(&records[..5], commit);
    world.process_until_end(&[]).success();
    assert_eq!(world.positions(), [(0, 6)].into());
    assert_eq!(world.kafka_offsets(), world.log_ends());
    assert_eq!(world.number(accounted), 5_005_000);

    // Nothing but this is new.
    world.send_in_transaction(&records[5..], abort);
    world.process_until_end(&[]).success();
    assert_eq!(world.positions(), [(0, 12)].into());
    assert_eq!(world.kafka_offsets(), world.log_ends());
    assert_eq!(world.number(accounted), 5_005_000);

    // While it waits for more.
    let process = world.start_process(&[]);
    world.send_in_transaction(&records[4..6], commit);
    world.wait_until_all_counted();
    world.send_in_transaction(&records[6..], abort);
    world.wait_until_all_counted();
    assert_eq!(world.number(accounted), 7_006_001);
    process.terminate().success();

    // Another log is noticed by the last record, which is not just before the position.
    world.delete_topic();
    world.create_topic(1, &[]);
    let others: Vec<_> = (0..30).map(|_| Event::of("b").record()).collect();
    world.send(&others);
    let ended = world.process_until_end(&[]).code(1);
    ended.says("is another one than was counted");
}

/// Of a thousand megabytes of headers nothing could be stored; so of any record only some are kept, and it is said.
#[test]
fn headers_beyond_the_bound_are_cut_and_the_letter_says_so() {
    let world = World::new("headers");
    world.create_topic(1, &[]);
    let mut ledger = Ledger::default();
    let large = vec![0xff; 150 << 10];
    let record = Record {
        key: Some(b"cmp-0".to_vec()),
        payload: Some(b"no event".to_vec()),
        headers: ["first", "second", "third"]
            .map(|name| (name.to_owned(), Some(large.clone())))
            .to_vec(),
        ..Record::default()
    };
    world.send(&[record]);
    ledger.dead("wrong_magic_byte");
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
    let letters = world.letters(&Filter::default());
    let [letter] = letters.as_slice() else {
        panic!("{} letters", letters.len());
    };
    let said = b"2 of 3 headers were too much to keep".to_vec();
    assert_eq!(
        letter.headers().expect("headers"),
        [
            ("first".to_owned(), Some(large)),
            ("adflux.headers.cut".to_owned(), Some(said)),
        ]
    );
}

#[test]
fn a_compacted_topic_is_warned_of_at_start_and_by_the_doctor() {
    let world = World::new("compacted");
    world.create_topic(1, &[("cleanup.policy", "compact")]);
    let mut process = world.start_process(&[]);
    process.wait_for_log("is compacted (cleanup.policy)");
    let told = Process::start(&mut world.command("doctor", &["--listen", "127.0.0.1:0"])).end();
    assert!(
        told.code(1)
            .stdout
            .contains("is compacted (cleanup.policy)")
    );
    process.terminate().success();
}
