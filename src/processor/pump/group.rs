//! What the group gives and takes: from "it is ours" to reading, and back.

use std::collections::BTreeMap;

use super::Pump;
use crate::kafka::consumer::Rebalance;
use crate::offset::LogRange;
use crate::processor::assigned::Assigned;
use crate::processor::batches::Load;
use crate::processor::range::{self, Fit};
use crate::processor::recent::Recent;
use crate::processor::writer::{Claimed, Request};
use crate::progress::{BOARD, Cause, Side};
use crate::store::write::positions::Claim;

impl Pump<'_> {
    /// Follows what the group gave and took.
    ///
    /// # Errors
    /// When the topic has more partitions than databases were divided by.
    pub(super) fn follow_group(&mut self) -> anyhow::Result<()> {
        for rebalance in self.member.rebalances() {
            match rebalance {
                Rebalance::Assigned(partitions) => {
                    log::info!("assigned partitions {partitions:?}");
                    self.check_number(&partitions)?;
                    for partition in partitions {
                        self.claims.assigned(partition);
                        BOARD.assigned(partition);
                    }
                }
                Rebalance::Revoked(partitions) => {
                    log::info!("revoked partitions {partitions:?}");
                    for partition in partitions {
                        self.drop_partition(partition);
                        self.claims.revoked(partition);
                        BOARD.revoked(partition);
                    }
                }
            }
        }
        let due = self.claims.due();
        if !due.is_empty() {
            self.scout.ask_ranges(due);
        }
        Ok(())
    }

    /// Checks that none of them came to the topic since databases were divided by its partitions.
    fn check_number(&self, partitions: &[i32]) -> anyhow::Result<()> {
        let Some(shard) = self.settings.shard else {
            return Ok(());
        };
        match partitions.iter().max() {
            Some(&last) if last >= shard.of() => {
                let partitions = last.unsigned_abs() as usize + 1;
                Err(range::divided(&self.settings.topic, partitions, shard))
            }
            _ => Ok(()),
        }
    }

    /// Has those claimed of which Kafka has said what their logs hold. One whose leader is away keeps nobody waiting.
    pub(super) fn take_ranges(&mut self, ranges: BTreeMap<i32, Result<LogRange, Cause>>) {
        for (partition, range) in ranges {
            match range {
                Ok(log_range) => {
                    let Some(reading) = self.claims.scouted(partition) else {
                        continue;
                    };
                    BOARD.clear(&[partition], Side::Log);
                    let claimed = Claimed {
                        partition,
                        log_range,
                        reading,
                    };
                    let writer = self.batches.writer_of(partition);
                    self.writers.send(writer, Request::Claim(claimed));
                }
                Err(cause) => {
                    BOARD.waits(&[partition], Side::Log, &cause);
                    self.claims.unknown(partition);
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
        let assigned = Assigned::new(claim, recent, claimed.reading, self.bounds.campaigns_known)
            .divided(self.settings.shard.map(|shard| (shard, partition)));
        let LogRange { start, end } = claimed.log_range;
        match range::fit(position, claimed.log_range) {
            Fit::Within => self.claims.within(partition),
            Fit::Beyond if self.claims.beyond(partition, claimed.reading) => return Ok(()),
            Fit::Beyond => return Err(range::beyond(topic, partition, position, end)),
            Fit::Behind => return Err(range::behind(topic, partition, position, start)),
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
        BOARD.counted(partition, position);
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
        self.halted.remove(&partition);
        self.schemas.leave(partition);
        BOARD.clear(&[partition], Side::Schemas);
    }
}
