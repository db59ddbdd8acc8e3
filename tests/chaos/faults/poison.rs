//! Row 13: 1 % of a topic that is counted as fast as it goes is poison. Each poisoned record is in
//! dead_letters, and throughput is at least 0.8 of that with a clean topic.
//!
//! Both topics are counted in turn, each time into a new database, while nothing else flows, and the
//! best of each are compared: whatever else a machine does can only slow a run down.

use anyhow::{Context as _, ensure};
use diesel::sql_types::{Double, Nullable};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::Lab;
use crate::stage::Stage;
use crate::table::Row;
use crate::traffic::{Shares, Traffic};

/// At least so much of a clean topic's throughput.
const LEAST: f64 = 0.8;
const POISON: f64 = 0.01;
/// Records of a topic: enough that counting them takes long enough to be measured.
const RECORDS: usize = if cfg!(debug_assertions) {
    150_000
} else {
    600_000
};

/// A machine that was busy is given so many times as many chances.
const PATIENCE: usize = 4;

/// Counts each topic so many times.
pub fn in_full_flow(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let clean = topic(lab, "clean", 0.0)?;
    let poisoned = topic(lab, "poisoned", POISON)?;
    let flow = lab.producer.pause()?;
    let mut best = [0.0_f64; 2];
    let mut ratio = 0.0;
    for n in 0..times * PATIENCE {
        if n >= times && ratio >= LEAST {
            break;
        }
        // Now one first, now the other.
        for turn in [n % 2, 1 - n % 2] {
            let stage = [&clean, &poisoned][turn].again(&lab.services)?;
            let started = std::time::Instant::now();
            let (ended_well, log) = stage.run("process", &["--until-end"])?;
            ensure!(ended_well, "the processor failed: {log}");
            if turn == 1 {
                row.recovered(started.elapsed());
            }
            best[turn] = best[turn].max(rate(&stage)?);
            row.violations(&stage.check());
        }
        ratio = best[1] / best[0];
    }
    lab.producer.set_rate(flow);
    let [clean, poisoned] = best;
    eprintln!("  {poisoned:.0} records/s with poison, {clean:.0} without: {ratio:.2}");
    if ratio < LEAST {
        row.violation(format!(
            "throughput with poison is {ratio:.2} of that without"
        ));
    }
    Ok(())
}

fn topic(lab: &mut Lab, name: &str, malformed: f64) -> anyhow::Result<Stage> {
    let stage = Stage::new(&lab.services, &lab.folder.join("logs"), name)?;
    stage.create_topic(4)?;
    let sender = stage.sender()?;
    let shares = Shares {
        malformed,
        ..Shares::default()
    };
    let mut traffic = Traffic::new(ChaCha8Rng::seed_from_u64(lab.chance.random()), 100, shares);
    let now = chrono::Utc::now().timestamp_micros();
    for n in 0..RECORDS {
        let time = now - (RECORDS - n) as i64 * 1_000;
        sender.send_next(&mut traffic, time)?;
    }
    sender.flush()?;
    Ok(stage)
}

/// Records a second from the first commit to the last, so that the start does not count.
fn rate(stage: &Stage) -> anyhow::Result<f64> {
    #[derive(QueryableByName)]
    struct Rate {
        #[diesel(sql_type = Nullable<Double>)]
        rate: Option<f64>,
    }
    let rate: Rate = sql_query(
        "WITH commits AS ( \
             SELECT commit_id, max(committed_at) AS at, sum(records) AS records FROM ( \
                 SELECT commit_id, committed_at, event_count AS records FROM event_blocks \
                 UNION ALL SELECT commit_id, created_at, 1 FROM dead_letters) AS stored \
             GROUP BY commit_id), \
         first AS (SELECT at, records FROM commits ORDER BY commit_id LIMIT 1) \
         SELECT ((sum(c.records) - first.records) / NULLIF(extract(epoch FROM max(c.at) - first.at), 0))::float8 AS rate \
         FROM commits AS c CROSS JOIN first GROUP BY first.at, first.records",
    )
    .get_result(&mut stage.connect()?)?;
    rate.rate
        .context("everything was counted in one commit: too few records to measure")
}
