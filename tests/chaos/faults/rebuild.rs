//! Row 15: the projections are rebuilt while events are counted and the API is asked; the rebuild is
//! killed at a random point and run again. No answer is an error, no total is ever anything but whole,
//! and a rebuild leaves every row as it was.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::RngExt as _;

use crate::lab::{HANG, Lab};
use crate::producer::Producer;
use crate::reader::Reader;
use crate::stage::{PATIENCE, Stage};
use crate::table::Row;
use crate::wait::{last, wait_for};

const PROJECTIONS: [&str; 4] = [
    "metrics_by_minute",
    "metrics_by_hour",
    "metrics_by_day",
    "metrics_total",
];
/// Records a second.
const RATE: u64 = 1_000;

/// Kills so many rebuilds.
pub fn killed(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut stage = Stage::new(&lab.services, &lab.folder.join("logs"), "rebuild")?;
    stage.create_topic(3)?;
    let producer = Producer::start(&stage.target.brokers, &stage.target.topic, lab.seed, RATE)?;
    stage.ledger = producer.ledger().clone();
    let _processor = stage.start("process", &[])?;
    let _server = stage.serve()?;
    let reader = Reader::start(&stage.target);
    wait_for(HANG, || {
        let looks = reader.looks();
        Ok((looks.snapshots > 0 && looks.answers > 100).then_some(()))
    })?
    .context("the reader never saw anything")?;
    for _ in 0..times {
        let mut whole = rebuild(&stage)?;
        // Long enough to be anywhere in it, and sometimes behind it.
        let length = whole.mul_f64(lab.chance.random_range(0.0..1.1));
        let mut process = stage.start("rebuild", &[])?;
        last(length)?;
        process.kill()?;
        let killed = Instant::now();
        whole = rebuild(&stage)?;
        row.recovered(killed.elapsed());
        ensure!(whole < PATIENCE, "a rebuild took {whole:?}");

        // Once nothing moves, a rebuild must not either.
        let rate = producer.pause()?;
        stage.wait_until_counted(PATIENCE)?;
        let before = stage.digest(&PROJECTIONS)?;
        rebuild(&stage)?;
        if stage.digest(&PROJECTIONS)? != before {
            row.violation("a rebuild made other rows than there were");
        }
        producer.set_rate(rate);
    }
    producer.pause()?;
    stage.wait_until_counted(PATIENCE)?;
    let (looks, violations) = reader.stop();
    eprintln!("  {looks}");
    row.violations(&violations);
    row.violations(&stage.check());
    Ok(())
}

/// Rebuilds to the end. Returns how long it took.
fn rebuild(stage: &Stage) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let (ended_well, log) = stage.run("rebuild", &[])?;
    ensure!(ended_well, "rebuild failed: {log}");
    Ok(started.elapsed())
}
