//! Row 18: a cluster of three brokers, one of which is taken away. One partition is on that broker alone: it has no
//! leader, everybody is told, and the others are counted. The broker comes back, and nothing is lost.

use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::Lab;
use crate::stage::{PATIENCE, Stage};
use crate::support::cluster::Cluster;
use crate::table::Row;
use crate::traffic::{Shares, Traffic};
use crate::wait::wait_until;
use crate::watched::Watched;

const BROKERS: i32 = 3;
const RECORDS: usize = 600;
const SHARES: Shares = Shares {
    duplicates: 0.03,
    late: 0.005,
    malformed: 0.01,
};

/// Takes a broker away so many times, each in its turn.
pub fn taken_away(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&lab.services.folder(), BROKERS);
    let mut stage = Stage::new(&lab.services, &lab.folder.join("logs"), "brokers")?;
    stage.use_brokers(&cluster.brokers);
    // Partition n is on broker n alone, the others are on all; nobody waits for a broker that is away.
    let replicas: [&[i32]; 6] = [&[1, 2, 3], &[1], &[2], &[3], &[2, 3, 1], &[3, 1, 2]];
    stage.create_topic_with(6, &replicas, &[("min.insync.replicas", "1")])?;
    let chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
    let mut traffic = Traffic::new(chance, 60, SHARES);
    stage.wait_until_in_sync()?;
    stage.send(&mut traffic, RECORDS)?;
    let watched = Watched::start(&mut stage, &[])?;
    stage.wait_until_counted(PATIENCE)?;
    let first = lab.chance.random_range(0..BROKERS);
    for broker in (first..).map(|n| n % BROKERS + 1).take(times) {
        cluster.kill(broker);
        watched.is_seen(&stage, broker, "no_leader", row)?;
        let before = stage.positions();
        // What is for its partition waits at the producer until it is back.
        let sender = stage.sender()?;
        for _ in 0..RECORDS {
            sender.send_next(&mut traffic, chrono::Utc::now().timestamp_micros())?;
        }
        wait_until(PATIENCE, "the other partitions move on", || {
            let now = stage.positions();
            Ok(now
                .iter()
                .all(|(p, next)| *p == broker || *next > before[p]))
        })?;
        cluster.start_again(broker);
        let back = Instant::now();
        sender.flush()?;
        stage.wait_until_counted(PATIENCE)?;
        watched.is_ready()?;
        stage.wait_until_in_sync()?;
        eprintln!(
            "  broker {broker}: all is counted {:.1} s after it is back",
            back.elapsed().as_secs_f64()
        );
    }
    row.violations(&stage.check());
    watched.end(&mut stage)
}
