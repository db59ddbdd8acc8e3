//! Row 18: a cluster of three brokers, each of which is taken away in its turn. Of one topic each partition is on one broker
//! alone: that of the broker has no leader, everybody is told, and the others are counted. Of another one each is on all
//! of them: it is counted all the time. The broker comes back, and nothing is lost.

use std::time::Instant;

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::{BROKERS, Lab};
use crate::stage::{self, PATIENCE, Stage};
use crate::support::cluster::Cluster;
use crate::table::Row;
use crate::traffic::{Shares, Traffic};
use crate::wait::wait_until;
use crate::watched::Watched;

const RECORDS: usize = 600;

/// Takes a broker away so many times.
pub fn taken_away(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut cluster = lab.take_cluster();
    // Partition n is on broker n + 1, or begins there.
    let (mut alone, mut alone_traffic) = stage(lab, &cluster, &[&[1], &[2], &[3]])?;
    let (copied, mut copied_traffic) = stage(lab, &cluster, &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]])?;
    alone.send(&mut alone_traffic, RECORDS)?;
    copied.send(&mut copied_traffic, RECORDS)?;
    let watched = Watched::start(&mut alone, &[])?;
    let mut process = copied.start("process", &[])?;
    alone.wait_until_counted(PATIENCE)?;
    copied.wait_until_counted(PATIENCE)?;
    let first = lab.chance.random_range(0..BROKERS);
    for partition in (first..).map(|n| n % BROKERS).take(times) {
        let broker = partition + 1;
        cluster.kill(broker);
        let began = Instant::now();
        copied
            .send(&mut copied_traffic, RECORDS)
            .context("two brokers of three take records")?;
        copied.wait_until_counted(PATIENCE)?;
        eprintln!(
            "  broker {broker} is away: what is on all of them is counted after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        watched.is_seen(&alone, partition, "no_leader", row)?;
        let before = alone.positions();
        // What is for its partition waits at the producer until it is back.
        let sender = alone.sender()?;
        for _ in 0..RECORDS {
            sender.send_next(&mut alone_traffic, chrono::Utc::now().timestamp_micros())?;
        }
        wait_until(PATIENCE, "the other partitions move on", || {
            let now = alone.positions();
            Ok(now
                .iter()
                .all(|(p, next)| *p == partition || *next > before[p]))
        })?;
        cluster.start_again(broker);
        sender.flush()?;
        alone.wait_until_counted(PATIENCE)?;
        watched.is_ready()?;
        cluster.wait_until_in_sync();
    }
    row.violations(&alone.check());
    row.violations(&copied.check());
    stage::end(&mut process)?;
    watched.end(&mut alone)?;
    lab.hand_back(cluster);
    Ok(())
}

fn stage(
    lab: &mut Lab,
    cluster: &Cluster,
    replicas: &[&[i32]],
) -> anyhow::Result<(Stage, Traffic)> {
    let mut stage = Stage::new(&lab.services, &lab.folder.join("logs"), "brokers")?;
    stage.use_brokers(&cluster.brokers);
    stage.create_topic_with(BROKERS, replicas, &[])?;
    cluster.wait_until_in_sync();
    let chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
    Ok((stage, Traffic::new(chance, 60, Shares::USUAL)))
}
