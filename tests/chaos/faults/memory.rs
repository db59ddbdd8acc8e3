//! Row 19: a processor that may use little memory, and records of a megabyte, all of them bad, among the events of many
//! campaigns. It stays within what it may use, and every record is accounted for.

use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::Lab;
use crate::ledger::Fate;
use crate::sender::Sender;
use crate::stage::{self, PATIENCE, Stage};
use crate::support::peak::peak;
use crate::table::Row;
use crate::traffic::{Record, Shares, Traffic};

/// What the processor may use, in MiB.
const MEMORY: u64 = 256;
const LARGE: usize = 150;
const CAMPAIGNS: usize = 20_000;
const RECORDS: usize = if cfg!(debug_assertions) {
    60_000
} else {
    300_000
};

/// So many times.
pub fn is_little(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for _ in 0..times {
        let chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
        let stage = Stage::new(&lab.services, &lab.folder.join("logs"), "memory")?;
        stage.create_topic_with(2, &[], &[("max.message.bytes", "2000000")])?;
        send(&stage, chance)?;
        let began = Instant::now();
        let memory = format!("{MEMORY}MiB");
        let args = ["--memory", &memory, "--max-bad-share", "1"];
        let mut process = stage.start("process", &args)?;
        stage.wait_until_counted(PATIENCE)?;
        row.recovered(began.elapsed());
        let peak = peak(process.pid());
        stage::end(&mut process)?;
        eprintln!("  {peak} MiB at most, of {MEMORY}");
        if peak > MEMORY {
            row.violation(format!("{peak} MiB were used, of {MEMORY}"));
        }
        row.violations(&stage.check());
    }
    Ok(())
}

fn send(stage: &Stage, mut chance: ChaCha8Rng) -> anyhow::Result<()> {
    let settings = [
        ("message.max.bytes", "2000000"),
        // Where nobody reads it, the topic is the producer's to fill.
        ("queue.buffering.max.kbytes", "200000"),
    ];
    let target = &stage.target;
    let sender = Sender::with(&target.brokers, &target.topic, &stage.ledger, &settings)?;
    let mut traffic = Traffic::new(
        ChaCha8Rng::seed_from_u64(chance.random()),
        CAMPAIGNS,
        Shares::default(),
    );
    for n in 0..RECORDS {
        sender.send_next(&mut traffic, chrono::Utc::now().timestamp_micros())?;
        if n % (RECORDS / LARGE) == 0 {
            // Zeros would be nothing once they are packed.
            let mut payload = vec![0; 1_000_000];
            chance.fill(&mut payload[..]);
            payload[0] = 1;
            let large = Record {
                key: b"large".to_vec(),
                payload,
                fate: Fate::Dead("wrong_magic_byte"),
            };
            sender.send(&large, None)?;
        }
    }
    sender.flush()
}
