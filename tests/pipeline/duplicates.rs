//! An event counts once, for ever: retried, late, replayed, or all of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::records::Record;
use crate::world::World;

const FAULTY: [&str; 10] = [
    "--count",
    "30000",
    "--rate",
    "max",
    "--seed",
    "5",
    "--duplicates",
    "5%",
    "--late",
    "5%",
];

#[test]
fn duplicates_are_counted_as_the_ledger_says() {
    let world = World::new("duplicates");
    let ledger = world.simulate(&FAULTY);
    assert!(ledger.duplicates > 1_000);
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);
}

/// Almost every duplicate is older than what is remembered: the event store must know it.
#[test]
fn duplicates_are_found_in_the_event_store_when_memory_is_short() {
    let world = World::new("forgetful");
    #[rustfmt::skip]
    let faulty = [&FAULTY[..], &["--malformed", "1%", "--start", "2026-01-31T12:00:00Z"]].concat();
    let ledger = world.simulate(&faulty);
    let args = ["--recent-events", "100", "--batch-records", "3000"];
    world.process_until_end(&args).success();
    world.assert_counted(&ledger);
    assert!(world.number("SELECT count(*) FROM late_events") > 0);
}

/// The whole topic through `kcat -C | kcat -P` into itself, as operators do.
#[test]
fn a_topic_replayed_twice_moves_no_total() {
    let world = World::new("replay");
    let mut ledger = world.simulate(&[&FAULTY[..4], &["--seed", "6"]].concat());
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);

    // kcat's own choice of partitions is another than Java's: campaigns turn up where they never were.
    ledger.repeat(replay(&world, &[]));
    world.process_until_end(&[]).success();
    world.assert_counted(&ledger);

    // Now while it runs, and remembers little.
    let process = world.start_process(&["--recent-events", "1000"]);
    ledger.repeat(replay(&world, &["-X", "partitioner=murmur2_random"]));
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
}

/// Nothing was counted yet, so two processors find each campaign on two partitions at once.
#[test]
fn a_topic_replayed_before_it_was_counted_is_counted_once_by_two_processors() {
    let world = World::new("contested");
    let mut ledger = world.simulate(&FAULTY);
    ledger.repeat(replay(&world, &[]));
    let args = ["--batch-records", "2000", "--recent-events", "4000"];
    let first = world.start_process(&args);
    let second = world.start_process(&args);
    crate::wait::wait_until("the schema is there", || world.counted() > 0);
    world.wait_until_all_counted();
    first.terminate().success();
    second.terminate().success();
    world.assert_counted(&ledger);
}

/// Delimiters that no record of ours holds. kcat takes several bytes, but no NUL, for it reads the
/// option as a C string.
const KEY_END: &[u8] = b"\xf3\xf5~key ends~\xf5\x01";
const RECORD_END: &[u8] = b"\xf4\xf6~record ends~\xf6\x02";

/// Pipes the topic as it is now into itself. Returns how many records that were.
fn replay(world: &World, producer_args: &[&str]) -> i64 {
    let before = world.read_topic();
    let option = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("\\x{b:02x}")).collect() };
    let kcat = |args: &[&str]| {
        let mut command = Command::new("kcat");
        command
            .args(["-b", &world.brokers, "-t", &world.topic])
            .args(["-K", &option(KEY_END), "-D", &option(RECORD_END)])
            .args(args)
            .stderr(Stdio::inherit());
        command
    };
    // All of it is read before anything is sent, or the end of the topic would move away.
    let read = kcat(&["-C", "-q", "-e", "-o", "beginning"])
        .output()
        .expect("kcat is installed");
    assert!(read.status.success());
    let mut writing = kcat(&["-P"])
        .args(producer_args)
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is installed");
    let mut pipe = writing.stdin.take().expect("piped");
    pipe.write_all(&read.stdout).expect("kcat reads");
    drop(pipe);
    assert!(writing.wait().expect("kcat ends").success());

    // What came back is what was sent, byte for byte, only more of it.
    let after = world.read_topic();
    let bytes = |records: &[Record]| {
        let mut bytes = BTreeMap::<_, usize>::new();
        for record in records {
            *bytes
                .entry((record.key.clone(), record.payload.clone()))
                .or_default() += 1;
        }
        bytes
    };
    assert_eq!(after.len(), 2 * before.len());
    let twice: BTreeMap<_, _> = bytes(&before)
        .into_iter()
        .map(|(r, n)| (r, 2 * n))
        .collect();
    assert!(bytes(&after) == twice, "kcat changed the records");
    before.len() as i64
}
