//! Row 16: a partition that holds what cannot be read, a batch with a bad checksum or one that unpacks to too much. It
//! stands still and everybody is told; the others are counted. Once it can be read it goes on by itself; a person may give
//! it up instead, and that is in the accounting.

use anyhow::{Context as _, ensure};
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::Lab;
use crate::ledger::Fate;
use crate::sender::Sender;
use crate::stage::{PATIENCE, Stage};
use crate::support::segment::Segment;
use crate::table::Row;
use crate::traffic::{Record, Shares, Traffic};
use crate::watched::Watched;

const PARTITIONS: i32 = 3;
const RECORDS: usize = 600;
const SHARES: Shares = Shares {
    // What contradicts an event that was given up would be the event.
    malformed: 0.0,
    ..Shares::USUAL
};

/// With these, a processor takes a tenth of [`BOMB`] bytes.
const NARROW: [&str; 6] = [
    "--kafka-property",
    "receive.message.max.bytes=900000",
    "--kafka-property",
    "fetch.max.bytes=800000",
    "--kafka-property",
    "message.max.bytes=700000",
];
const BOMB: usize = 8 << 20;

/// A corrupt batch and a bomb in turn, so many in all.
pub fn stands_still(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for n in 0..times {
        let given_up = lab.chance.random();
        let partition = lab.chance.random_range(0..PARTITIONS);
        let chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
        let mut stage = Stage::new(&lab.services, &lab.folder.join("logs"), "unreadable")?;
        let mut traffic = Traffic::new(chance, 40, SHARES);
        stage.create_topic(PARTITIONS)?;
        stage.send(&mut traffic, RECORDS)?;
        let (ended_well, log) = stage.run("process", &["--until-end"])?;
        ensure!(ended_well, "the processor failed: {log}");
        if n % 2 == 0 {
            let folder = lab.services.folder();
            let segment = Segment::of(&folder, &stage.target.topic, partition);
            corrupt(&mut stage, &mut traffic, partition, &segment, given_up, row)
                .context("a corrupt batch")?;
        } else {
            bomb(&mut stage, &mut traffic, partition, given_up, row).context("a bomb")?;
        }
        row.violations(&stage.check());
    }
    Ok(())
}

fn corrupt(
    stage: &mut Stage,
    traffic: &mut Traffic,
    partition: i32,
    segment: &Segment,
    given_up: bool,
    row: &mut Row,
) -> anyhow::Result<()> {
    let position = position(stage, partition)?;
    stage.send(traffic, RECORDS)?;
    segment.flip(position);
    let watched = Watched::start(stage, &[])?;
    others_count_on(stage, traffic, &watched, partition, row)?;
    if given_up {
        give_up(stage, partition, position, &[])?;
    } else {
        segment.flip(position);
    }
    stage.wait_until_counted(PATIENCE)?;
    watched.is_ready()?;
    watched.end(stage)
}

fn bomb(
    stage: &mut Stage,
    traffic: &mut Traffic,
    partition: i32,
    given_up: bool,
    row: &mut Row,
) -> anyhow::Result<()> {
    let settings = [
        ("compression.type", "zstd"),
        ("message.max.bytes", "16777216"),
    ];
    let target = &stage.target;
    let sender = Sender::with(&target.brokers, &target.topic, &stage.ledger, &settings)?;
    let bomb = Record {
        key: b"bomb".to_vec(),
        payload: vec![0; BOMB],
        fate: Fate::Dead("unknown_schema"),
    };
    sender.send(&bomb, Some(partition))?;
    sender.flush()?;
    stage.send(traffic, RECORDS)?;
    let position = position(stage, partition)?;
    let watched = Watched::start(stage, &NARROW)?;
    others_count_on(stage, traffic, &watched, partition, row)?;
    if given_up {
        give_up(stage, partition, position, &NARROW)?;
        stage.wait_until_counted(PATIENCE)?;
        watched.is_ready()?;
        return watched.end(stage);
    }
    // Who takes more reads it.
    watched.end(stage)?;
    let (ended_well, log) = stage.run("process", &["--until-end"])?;
    ensure!(ended_well, "the processor failed: {log}");
    Ok(())
}

fn position(stage: &Stage, partition: i32) -> anyhow::Result<i64> {
    let positions = stage.positions();
    Ok(*positions.get(&partition).context("a position")?)
}

/// The standstill is seen, and nothing of it is skipped, while what is sent to the others is counted.
fn others_count_on(
    stage: &Stage,
    traffic: &mut Traffic,
    watched: &Watched,
    partition: i32,
    row: &mut Row,
) -> anyhow::Result<()> {
    let before = position(stage, partition)?;
    watched.is_seen(stage, partition, "unreadable", row)?;
    stage.send(traffic, RECORDS)?;
    stage.wait_until_others_are_counted(PATIENCE, &[partition])?;
    let now = position(stage, partition)?;
    if now != before {
        row.violation(format!(
            "partition {partition} moved from {before} to {now}, past what cannot be read"
        ));
    }
    Ok(())
}

fn give_up(stage: &Stage, partition: i32, from: i64, args: &[&str]) -> anyhow::Result<()> {
    #[derive(QueryableByName)]
    struct Skipped {
        #[diesel(sql_type = BigInt)]
        first_offset: i64,
        #[diesel(sql_type = BigInt)]
        next_offset: i64,
    }
    let (partition_arg, from) = (partition.to_string(), from.to_string());
    let own = [
        "--partition",
        &partition_arg,
        "--from",
        &from,
        "--reason",
        "the laboratory",
    ];
    let args: Vec<&str> = own.iter().chain(args).copied().collect();
    let (done, log) = stage.run("skip", &args)?;
    ensure!(done, "it was not given up: {log}");
    let skipped: Skipped = sql_query("SELECT first_offset, next_offset FROM skipped_offsets")
        .get_result(&mut stage.connect()?)?;
    let offsets = skipped.first_offset..skipped.next_offset;
    stage.ledger.lock().gave_up(partition, offsets);
    Ok(())
}
