//! Several databases, each with a range of the topic's partitions and processors of its own.

use std::collections::{BTreeMap, BTreeSet};

use adflux::shard::Shard;
use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};

use crate::ledger::Ledger;
use crate::process::Process;
use crate::records::{Event, Record};
use crate::standing::doctor;
use crate::wait::wait_until;
use crate::world::World;

/// A new partition is noticed after five minutes by default.
const SOON: [&str; 2] = ["--kafka-property", "topic.metadata.refresh.interval.ms=500"];

fn positions(shards: &[World]) -> BTreeMap<i32, i64> {
    shards.iter().flat_map(World::positions).collect()
}

fn wait_until_all_counted(shards: &[World]) {
    let ends = shards[0].log_ends();
    wait_until("all records are counted", || positions(shards) == ends);
}

/// Fails unless all of the topic was counted once, as the ledger says, into one database or another.
fn assert_counted(shards: &[World], ledger: &Ledger) {
    let mut counted = Ledger::default();
    for shard in shards {
        let sum = |column| shard.number(&format!("SELECT sum({column}) FROM stream_positions"));
        counted.add(&Ledger {
            records: sum("records"),
            duplicates: sum("duplicates"),
            dead: shard.dead_letters(),
            totals: shard.totals_counted(),
        });
        shard.assert_every_record_once();
        Process::start(&mut shard.command("verify", &[]))
            .end()
            .success();
    }
    assert_eq!(&counted, ledger, "what was counted, and what was sent");
    assert_eq!(positions(shards), shards[0].log_ends());
}

fn campaigns(shard: &World) -> BTreeSet<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
    }
    let rows: Vec<Row> = sql_query("SELECT campaign_id FROM campaigns")
        .load(&mut shard.connect())
        .expect("PostgreSQL answers");
    rows.into_iter().map(|row| row.campaign_id).collect()
}

fn events(n: usize) -> (Vec<Record>, Ledger) {
    let mut ledger = Ledger::default();
    let event = |n: usize| {
        let event = Event::of(&format!("c{}", n % 40));
        ledger.event(event.counts);
        event.record()
    };
    ((0..n).map(event).collect(), ledger)
}

#[test]
fn each_campaign_is_counted_once_into_the_database_of_its_partition() {
    let ranges = ["0-1/6", "2-5/6"];
    let world = World::new("shards");
    world.create_topic(6, &[]);
    let shards = ranges.map(|range| world.shard(range));
    let processes = shards.each_ref().map(|shard| shard.start_process(&SOON));
    let mut ledger = world.simulate(&[
        "--count",
        "6000",
        "--rate",
        "max",
        "--campaigns",
        "60",
        "--duplicates",
        "2%",
        "--late",
        "2%",
        "--malformed",
        "1%",
    ]);
    wait_until_all_counted(&shards);

    // On another partition than its key leads to, in the other database.
    let event = Event::of("by-hand");
    let range: Shard = ranges[0].parse().expect("a range");
    let (wrong, there, right) = match range.has_campaign("by-hand") {
        true => (2, 1, 0),
        false => (0, 0, 1),
    };
    world.send_to(wrong, &event.record());
    ledger.dead("wrong_partition");
    wait_until_all_counted(&shards);
    assert_eq!(shards[there].dead_letters()["wrong_partition"], 1);
    Process::start(&mut shards[there].command("dlq", &["redrive", "--reason", "wrong_partition"]))
        .end()
        .success();
    ledger.event(event.counts);
    wait_until_all_counted(&shards);
    assert!(campaigns(&shards[right]).contains("by-hand"));
    assert_counted(&shards, &ledger);
    for (shard, text) in shards.iter().zip(ranges) {
        let range: Shard = text.parse().expect("a range");
        let campaigns = campaigns(shard);
        assert!(!campaigns.is_empty());
        assert!(
            campaigns
                .iter()
                .all(|campaign| range.has_campaign(campaign))
        );
        assert!(
            shard
                .positions()
                .keys()
                .all(|partition| range.has(*partition))
        );
        wait_until("Kafka is told of the range's partitions", || {
            shard.kafka_offsets() == shard.positions()
        });
        let (first, last) = range.ends();
        let said = doctor(shard).success().stdout;
        let has =
            format!("6 partitions, of which {first} to {last} are counted into this database");
        assert!(said.contains(&has), "{said}");
    }
    let partition = ["--partition", "5", "--from", "0", "--reason", "no"];
    Process::start(&mut shards[0].command("skip", &partition))
        .end()
        .code(1)
        .says("has the partitions 0-1/6");

    // A key leads elsewhere by another number of partitions.
    world.add_partitions(7);
    for process in processes {
        process.end().code(1).says("has 7 partitions");
    }
    for shard in &shards {
        shard
            .start_process(&[])
            .end()
            .code(1)
            .says("has 7 partitions");
        let said = doctor(shard).code(1).stdout;
        assert!(said.contains("keeps its number of partitions"), "{said}");
    }
    assert_counted_before(&shards, &ledger);
}

/// Fails unless what was counted is still that.
fn assert_counted_before(shards: &[World], ledger: &Ledger) {
    let records = shards.iter().map(World::counted).sum::<i64>();
    assert_eq!(records, ledger.records);
}

#[test]
fn processes_take_parts_of_a_range_and_take_over() {
    let world = World::new("shard_parts");
    world.create_topic(6, &[]);
    for range in ["0-3/4", "0-3/12"] {
        let wrong = world.shard(range);
        wrong
            .start_process(&[])
            .end()
            .code(1)
            .says("has 6 partitions");
    }
    world
        .start_process(&["--partitions", "0-1"])
        .end()
        .code(1)
        .says("this one has none");
    let shards = [world.shard("0-3/6"), world.shard("4-5/6")];
    shards[1]
        .start_process(&["--partitions", "3-4"])
        .end()
        .code(1)
        .says("--partitions 3-4 is not within 4-5/6");

    let (records, mut ledger) = events(2_000);
    world.send(&records);
    let mut same = [0, 1].map(|_| shards[0].start_process(&["--partitions", "0-1"]));
    let other = shards[0].start_process(&["--partitions", "2-3"]);
    let whole = shards[1].start_process(&[]);
    let group = format!("as group '{}-0-1'", world.group);
    same.iter_mut()
        .for_each(|process| process.wait_for_log(&group));
    wait_until_all_counted(&shards);
    assert_eq!(shards[0].owners()[&3], other.pid());

    let first = shards[0].owners()[&0];
    let [killed, left] = match same {
        [a, b] if a.pid() == first => [a, b],
        [a, b] => [b, a],
    };
    killed.kill();
    let (records, more) = events(2_000);
    ledger.add(&more);
    world.send(&records);
    wait_until_all_counted(&shards);
    assert_eq!(shards[0].owners()[&0], left.pid());
    for process in [left, other, whole] {
        process.terminate().success();
    }
    assert_counted(&shards, &ledger);
    for part in ["0-1", "2-3"] {
        world.delete_group(&format!("{}-{part}", world.group));
    }
}
