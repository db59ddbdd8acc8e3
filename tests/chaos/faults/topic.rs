//! Row 12: the log is not the one that was counted. The topic is deleted and made anew, a position is
//! beyond the log's end, retention deletes what was not counted. The processor halts, says what is
//! wrong and what to do, and has skipped and counted nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context as _;
use diesel::connection::SimpleConnection;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::fleet::Process;
use crate::lab::Lab;
use crate::stage::{self, PATIENCE, Stage};
use crate::table::Row;
use crate::traffic::{Shares, Traffic};
use crate::wait::wait_for;

const PARTITIONS: i32 = 2;
const RECORDS: usize = 600;

/// What must be as it was.
const COUNTED: [&str; 7] = [
    "(SELECT partition, start_offset, next_offset, records, events, duplicates, dead_letters FROM stream_positions)",
    "event_blocks",
    "dead_letters",
    "metrics_by_minute",
    "metrics_by_hour",
    "metrics_by_day",
    "metrics_total",
];

/// One way in which a log is not the one that was counted.
struct Way {
    what: &'static str,
    happens: fn(&mut Stage, &mut Traffic) -> anyhow::Result<()>,
    /// Whether a processor runs meanwhile.
    running: bool,
    remedy: &'static str,
}

const WAYS: [Way; 6] = [
    Way {
        what: "the topic is made anew",
        happens: made_anew,
        running: false,
        remedy: "Give the new topic another name",
    },
    Way {
        what: "the topic is made anew and has grown beyond the positions",
        happens: made_anew_and_grown,
        running: false,
        remedy: "Give the new topic another name",
    },
    Way {
        what: "the topic is made anew under the processor",
        happens: made_anew,
        running: true,
        remedy: "Give the new topic another name",
    },
    Way {
        what: "a position is beyond the end of the log",
        happens: beyond_the_end,
        running: false,
        remedy: "restore the log",
    },
    Way {
        what: "retention deletes some records that were not counted",
        happens: retention,
        running: false,
        remedy: "--accept-loss",
    },
    Way {
        what: "retention deletes all records that were not counted",
        happens: retention_everywhere,
        running: false,
        remedy: "--accept-loss",
    },
];

/// Goes through the ways so many times.
pub fn another_log(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for _ in 0..times {
        for way in &WAYS {
            let chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
            let stage = Stage::new(&lab.services, &lab.folder.join("logs"), "topic")?;
            try_way(way, stage, Traffic::new(chance, 20, Shares::default()), row)
                .with_context(|| way.what)?;
        }
    }
    Ok(())
}

fn try_way(way: &Way, mut stage: Stage, mut traffic: Traffic, row: &mut Row) -> anyhow::Result<()> {
    let what = way.what;
    stage.create_topic(PARTITIONS)?;
    stage.send(&mut traffic, RECORDS)?;
    let mut process = stage.start("process", &[])?;
    stage.wait_until_counted(PATIENCE)?;
    let counted;
    if way.running {
        counted = stage.digest(&COUNTED)?;
        (way.happens)(&mut stage, &mut traffic)?;
        halts(&mut process, what, row)?;
    } else {
        stage::end(&mut process)?;
        (way.happens)(&mut stage, &mut traffic)?;
        counted = stage.digest(&COUNTED)?;
    }
    let began = Instant::now();
    let mut process = stage.start("process", &[])?;
    halts(&mut process, what, row)?;
    row.recovered(began.elapsed());
    let log = std::fs::read_to_string(stage.log_of("process"))?;
    if !log.contains(way.remedy) {
        row.violation(format!(
            "{what}: the processor did not say '{}'",
            way.remedy
        ));
    }
    if stage.digest(&COUNTED)? != counted {
        row.violation(format!("{what}: something was counted or skipped"));
    }
    Ok(())
}

/// The processor ends by itself, and not as if all were well.
fn halts(process: &mut Process, what: &str, row: &mut Row) -> anyhow::Result<()> {
    match wait_for(PATIENCE, || process.ended())? {
        None => row.violation(format!("{what}: the processor went on")),
        Some(status) if status.success() => {
            row.violation(format!("{what}: the processor ended as if all were well"));
        }
        Some(_) => {}
    }
    Ok(())
}

fn made_anew(stage: &mut Stage, traffic: &mut Traffic) -> anyhow::Result<()> {
    stage.delete_topic()?;
    stage.create_topic(PARTITIONS)?;
    stage.send(traffic, RECORDS / 10)
}

fn made_anew_and_grown(stage: &mut Stage, traffic: &mut Traffic) -> anyhow::Result<()> {
    stage.delete_topic()?;
    stage.create_topic(PARTITIONS)?;
    stage.send(traffic, RECORDS * 2)
}

fn beyond_the_end(stage: &mut Stage, _: &mut Traffic) -> anyhow::Result<()> {
    let sql = "UPDATE stream_positions SET next_offset = next_offset + 1000";
    Ok(stage.connect()?.batch_execute(sql)?)
}

fn retention(stage: &mut Stage, traffic: &mut Traffic) -> anyhow::Result<()> {
    let (&partition, &position) = stage.positions().iter().next().context("a position")?;
    stage.send(traffic, RECORDS)?;
    stage.delete_records_before(&BTreeMap::from([(partition, position + 10)]))
}

fn retention_everywhere(stage: &mut Stage, traffic: &mut Traffic) -> anyhow::Result<()> {
    stage.send(traffic, RECORDS)?;
    stage.delete_records_before(&stage.log_ends()?)
}
