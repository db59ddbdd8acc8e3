//! What the group gives and takes: from "it is ours" to reading, and back.

use super::Pump;
use crate::kafka::consumer::Rebalance;
use crate::metrics;
use crate::offset::LogRange;
use crate::processor::assigned::Assigned;
use crate::processor::batches::Load;
use crate::processor::range::{self, Fit};
use crate::processor::recent::Recent;
use crate::processor::writer::{Claimed, Request};
use crate::store::write::positions::Claim;

impl Pump<'_> {
    /// Follows what the group gave and took.
    pub(super) fn follow_group(&mut self) {
        for rebalance in self.member.rebalances() {
            match rebalance {
                Rebalance::Assigned(partitions) => {
                    log::info!("assigned partitions {partitions:?}");
                    partitions.into_iter().for_each(|p| self.claims.assigned(p));
                }
                Rebalance::Revoked(partitions) => {
                    log::info!("revoked partitions {partitions:?}");
                    for partition in partitions {
                        self.drop_partition(partition);
                        self.claims.revoked(partition);
                    }
                }
            }
        }
        for (partition, reading) in self.claims.due() {
            match self.member.log_range(partition) {
                Ok(log_range) => {
                    self.claims.asked(partition);
                    let claimed = Claimed {
                        partition,
                        log_range,
                        reading,
                    };
                    let writer = self.batches.writer_of(partition);
                    self.writers.send(writer, Request::Claim(claimed));
                }
                Err(error) => {
                    // Asked again in the next round; polling goes on in between.
                    log::debug!("partition {partition}: {error}");
                    break;
                }
            }
        }
    }

    /// Starts reading a partition that is now ours in PostgreSQL too.
    pub(super) fn start(
        &mut self,
        claimed: Claimed,
        claim: &Claim,
        recent: Recent,
    ) -> anyhow::Result<()> {
        let (topic, partition) = (&self.settings.topic, claimed.partition);
        let position = claim.fence.next_offset;
        let mut assigned = Assigned::new(claim, recent, claimed.reading);
        let LogRange { start, mut end } = claimed.log_range;
        if position > end {
            // The last owner may have counted what came after we asked for the range.
            match self.member.log_range(partition) {
                Ok(now) => end = now.end,
                Err(_) => {
                    self.claims.again(partition, claimed.reading);
                    return Ok(());
                }
            }
        }
        match range::fit(position, LogRange { start, end }) {
            Fit::Within => {}
            Fit::Beyond => return Err(range::beyond(topic, partition, position, end)),
            Fit::Behind(_) if !self.settings.accept_loss => {
                return Err(range::behind(topic, partition, position, start));
            }
            Fit::Behind(lost) => {
                log::warn!(
                    "{topic}[{partition}]: {lost} records were deleted before they were counted; going on from {start} as told"
                );
                assigned.skip_to(start);
            }
        }
        let offset = assigned.read_from(start);
        if let Err(error) = self.member.start(partition, offset) {
            // Taken from us just now; the group will say so.
            log::debug!("partition {partition} cannot be read: {error}");
            self.claims.again(partition, claimed.reading);
            return Ok(());
        }
        self.streams.insert(claim.stream, partition);
        let load = assigned.load();
        self.batches.change(partition, Load::default(), load);
        self.assigned.insert(partition, assigned);
        // The last owner may have been killed before it told Kafka, and there may be nothing new
        // to tell for a long time.
        self.committed.insert(partition, position);
        self.untold = true;
        log::debug!(
            "partition {partition}: reading from offset {offset}, epoch {}",
            claim.fence.epoch
        );
        Ok(())
    }

    /// Stops reading a partition, and forgets what was not written.
    pub(super) fn stop_reading(&mut self, partition: i32) {
        self.drop_partition(partition);
        if let Err(error) = self.member.stop(partition) {
            log::debug!("partition {partition} cannot be stopped: {error}");
        }
    }

    fn drop_partition(&mut self, partition: i32) {
        if let Some(assigned) = self.assigned.remove(&partition) {
            self.streams.remove(&assigned.stream());
            let load = assigned.load();
            self.batches.change(partition, load, Load::default());
        }
        self.committed.remove(&partition);
        self.read_to_end.remove(&partition);
        metrics::LAG
            .remove_label_values(&[&partition.to_string()])
            .ok();
    }
}
