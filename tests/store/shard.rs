//! A database is one of several: it has a range of the topic's partitions, and numbers of its own for them.

use adflux::shard::Shard;
use adflux::store;
use adflux::store::events::Fingerprinter;
use adflux::store::shard::{read, set};

use crate::database::{TestDatabase, rows};
use crate::log::{Log, event};

fn shard(text: &str) -> Shard {
    text.parse().expect("a range")
}

/// Why the database does not get the range.
fn refused(db: &mut TestDatabase, text: &str) -> String {
    let before = read(db).expect("PostgreSQL answers");
    let why = set(db, shard(text)).expect_err(text).to_string();
    assert_eq!(read(db).expect("PostgreSQL answers"), before);
    why
}

#[test]
fn a_database_has_a_range_and_numbers_of_its_own() {
    let mut db = TestDatabase::create();
    assert_eq!(read(&mut db).expect("PostgreSQL answers"), None);
    for (text, changes) in [
        ("0-59/120", true),
        ("60-119/120", true),
        ("60-119/120", false),
    ] {
        assert_eq!(set(&mut db, shard(text)).expect(text), changes, "{text}");
        let range = read(&mut db).expect("PostgreSQL answers");
        assert_eq!(range, Some(shard(text)));
    }
    let prints = Fingerprinter::default();
    for partition in [60, 119] {
        let mut log = Log::claim(&mut db, partition);
        log.store(&mut db, &prints, [event(partition as u128, "a", 0)]);
    }
    let numbers = "SELECT stream_id::text FROM stream_positions ORDER BY stream_id";
    assert_eq!(rows(&mut db, numbers), ["6000001", "6000002"]);
    store::write::check_rights(&mut db).expect("the owner may");
    // Neither narrower nor wider: the partition between would be counted twice, or a campaign be in two databases.
    for other in ["60-99/120", "59-119/120", "60-119/240"] {
        let why = refused(&mut db, other);
        assert!(
            why.contains("[60] is counted here, with the range 60-119/120"),
            "{why}"
        );
    }
}

#[test]
fn what_was_counted_keeps_its_database() {
    let mut db = TestDatabase::create();
    let prints = Fingerprinter::default();
    let mut log = Log::claim(&mut db, 1);
    log.store(&mut db, &prints, [event(1, "a", 0)]);
    let why = refused(&mut db, "0-59/120");
    assert!(
        why.contains("[1] is counted here, without a range"),
        "{why}"
    );
}
