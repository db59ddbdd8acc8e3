//! Row 17: a topic that changes while it is counted. Partitions are added, its log ends with what are no records, and it
//! is deleted, which everybody is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::lab::Lab;
use crate::sender::Sender;
use crate::stage::{self, PATIENCE, Stage};
use crate::table::Row;
use crate::traffic::{Shares, Traffic};
use crate::wait::wait_until;
use crate::watched::Watched;

const RECORDS: usize = 600;
const SHARES: Shares = Shares {
    duplicates: 0.0,
    late: 0.0,
    malformed: 0.0,
    ..Shares::USUAL
};
const TIMEOUT: Duration = Duration::from_secs(60);

type Way = fn(&mut Stage, &mut Traffic, &mut Row) -> anyhow::Result<()>;

const WAYS: [(&str, i32, Way); 3] = [
    ("partitions are added", 1, partitions_are_added),
    ("the log ends without a record", 3, ends_without_a_record),
    ("the topic is deleted", 2, is_deleted),
];

/// Goes through the ways so many times.
pub fn while_counted(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for _ in 0..times {
        for (what, partitions, happens) in WAYS {
            let chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
            let mut stage = Stage::new(&lab.services, &lab.folder.join("logs"), "changes")?;
            let mut traffic = Traffic::new(chance, 40, SHARES);
            stage.create_topic(partitions)?;
            stage.send(&mut traffic, RECORDS)?;
            happens(&mut stage, &mut traffic, row).context(what)?;
        }
    }
    Ok(())
}

/// A campaign whose key leads to another partition from now on is counted there.
fn partitions_are_added(
    stage: &mut Stage,
    traffic: &mut Traffic,
    row: &mut Row,
) -> anyhow::Result<()> {
    let mut process = stage.start("process", &[])?;
    stage.wait_until_counted(PATIENCE)?;
    stage.add_partitions(4)?;
    let began = Instant::now();
    stage.send(traffic, RECORDS)?;
    stage.wait_until_counted(PATIENCE)?;
    row.recovered(began.elapsed());
    row.violations(&stage.check());
    stage::end(&mut process)
}

fn ends_without_a_record(
    stage: &mut Stage,
    traffic: &mut Traffic,
    row: &mut Row,
) -> anyhow::Result<()> {
    let mut process = stage.start("process", &[])?;
    stage.wait_until_counted(PATIENCE)?;
    let began = Instant::now();
    in_a_transaction(stage, traffic)?;
    in_a_transaction_that_is_aborted(stage)?;
    stage.wait_until_counted(PATIENCE)?;
    row.recovered(began.elapsed());
    row.violations(&stage.check());
    stage::end(&mut process)?;
    // Who comes later sees an end there too.
    in_a_transaction_that_is_aborted(stage)?;
    let (ended_well, log) = stage.run("process", &["--until-end"])?;
    ensure!(ended_well, "the processor failed: {log}");
    row.violations(&stage.check());
    Ok(())
}

fn in_a_transaction(stage: &Stage, traffic: &mut Traffic) -> anyhow::Result<()> {
    let target = &stage.target;
    let settings = [
        ("transactional.id", target.topic.as_str()),
        ("transaction.timeout.ms", "600000"),
    ];
    let sender = Sender::with(&target.brokers, &target.topic, &stage.ledger, &settings)?;
    sender.in_transaction(|sender| {
        (0..RECORDS)
            .try_for_each(|_| sender.send_next(traffic, chrono::Utc::now().timestamp_micros()))
    })?;
    end_later(stage, 1)
}

/// Waits until every partition ends so many offsets later than the ledger says, and has that say so too: a transaction is
/// over before its marker is in the log.
fn end_later(stage: &Stage, offsets: i64) -> anyhow::Result<()> {
    let mut ledger = stage.ledger.lock();
    let ends: BTreeMap<i32, i64> = ledger
        .log()
        .iter()
        .map(|(partition, log)| (*partition, log.len() as i64 + offsets))
        .collect();
    wait_until(PATIENCE, "the markers are there", || {
        Ok(stage.log_ends().is_ok_and(|found| found == ends))
    })?;
    for (partition, end) in ends {
        ledger.ends_at(partition, end);
    }
    Ok(())
}

/// What it sent was never there, whatever it is.
fn in_a_transaction_that_is_aborted(stage: &Stage) -> anyhow::Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stage.target.brokers)
        .set(
            "transactional.id",
            format!("{}-aborted", stage.target.topic),
        )
        .create()?;
    producer.init_transactions(TIMEOUT)?;
    producer.begin_transaction()?;
    for partition in stage.log_ends()?.into_keys() {
        let record = BaseRecord::<(), [u8]>::to(&stage.target.topic)
            .partition(partition)
            .payload(b"aborted");
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(TIMEOUT)?;
    producer.abort_transaction(TIMEOUT)?;
    // The record and the marker.
    end_later(stage, 2)
}

fn is_deleted(stage: &mut Stage, _: &mut Traffic, row: &mut Row) -> anyhow::Result<()> {
    let watched = Watched::start(stage, &[])?;
    stage.wait_until_counted(PATIENCE)?;
    row.violations(&stage.check());
    let counted = stage.positions();
    stage.delete_topic()?;
    watched.is_seen(stage, 0, "no_topic", row)?;
    if stage.positions() != counted {
        row.violation("the positions of a topic that is gone have moved");
    }
    watched.end(stage)
}
