//! Row 21: a cluster of three brokers rolls while it is written to and counted. Each broker in its turn is killed, or ended as
//! who rolls a cluster does, and comes back; leaders move away and back, a partition's replicas too, and a partition is added.

use std::time::Instant;

use rand::RngExt as _;

use crate::lab::{BROKERS, HANG, Lab, RATE};
use crate::producer::Producer;
use crate::stage::{self, PATIENCE, Stage};
use crate::table::Row;
use crate::wait::wait_until;

const PARTITIONS: i32 = 3;

/// Takes a broker away and back so many times.
pub fn each_in_its_turn(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let mut cluster = lab.take_cluster();
    let mut stage = Stage::new(&lab.services, &lab.folder.join("logs"), "rolling")?;
    stage.use_brokers(&cluster.brokers);
    stage.create_topic(PARTITIONS)?;
    cluster.wait_until_in_sync();
    let (brokers, topic) = (cluster.brokers.clone(), stage.target.topic.clone());
    let mut producer = Producer::start(&brokers, &topic, lab.chance.random(), RATE / 2)?;
    stage.ledger = producer.ledger().clone();
    let mut processors = [stage.start("process", &[])?, stage.start("process", &[])?];
    all_move(&stage, PARTITIONS)?;
    let first = lab.chance.random_range(0..BROKERS);
    for (turn, partitions) in (0..times).zip(PARTITIONS..) {
        let broker = (first + partitions) % BROKERS + 1;
        let others = [broker % BROKERS + 1, (broker + 1) % BROKERS + 1];
        if turn % 2 == 0 {
            cluster.kill(broker);
        } else {
            cluster.stop(broker);
        }
        let began = Instant::now();
        all_move(&stage, partitions)?;
        row.recovered(began.elapsed());
        cluster.start_again(broker);
        cluster.wait_until_in_sync();
        cluster.elect_preferred_leaders();
        // It loses what it holds of a partition, and gets it back.
        let partition = broker % PARTITIONS;
        cluster.reassign(&topic, partition, &others);
        cluster.reassign(&topic, partition, &[others[1], others[0], broker]);
        // A conflict is the one that is counted second: of a campaign that moves, all is counted before.
        let rate = producer.pause()?;
        stage.wait_until_counted(PATIENCE)?;
        stage.add_partitions(partitions as usize + 1)?;
        producer.wait_for_partitions(partitions as usize + 1)?;
        producer.set_rate(rate);
        all_move(&stage, partitions + 1)?;
    }
    producer.pause()?;
    stage.wait_until_counted(PATIENCE)?;
    row.violations(&stage.check());
    producer.stop()?;
    processors.iter_mut().try_for_each(stage::end)?;
    lab.hand_back(cluster);
    Ok(())
}

/// Waits until there are so many partitions, and each is counted further than it is now.
fn all_move(stage: &Stage, partitions: i32) -> anyhow::Result<()> {
    let before = stage.positions();
    wait_until(HANG, "every partition is counted further", || {
        let now = stage.positions();
        Ok((0..partitions).all(|partition| now.get(&partition) > before.get(&partition)))
    })
}
