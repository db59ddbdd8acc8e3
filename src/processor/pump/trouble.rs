//! What is in the way of reading: errors of librdkafka, batches that cannot be read, partitions that do not move.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Pump;
use crate::kafka::consumer::Complaint;
use crate::kafka::logs::{Next, is_unreadable};
use crate::kafka::topic::refusal;
use crate::offset::Offset;
use crate::processor::assigned::Assigned;
use crate::processor::scout::Found;
use crate::progress::{BOARD, Cause, Side};
use crate::store::write::batch::Reading;

/// How often what stands still is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(20);

/// How often it is looked whether positions are in their logs.
const BETWEEN_DOUBTS: Duration = Duration::from_secs(2);

/// The group takes our partitions within so long after it was complained of what they lack.
const COMPLAINT: Duration = Duration::from_secs(30);

/// What keeps us out of the group for less than this is not worth a line.
const BRIEF: Duration = Duration::from_secs(5);

/// A partition that is not read on, since what comes next cannot be read.
pub(super) struct Halted {
    /// Why, and what to do.
    pub message: String,
}

/// Whether the scout looks at what comes next. Nothing is fetched meanwhile of what it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looking {
    Not,
    Once,
    /// And is to look again, since something else could not be read.
    Again,
}

impl Pump<'_> {
    /// Heeds what a poll had to say instead of a record.
    pub(super) fn heed(&mut self, error: &KafkaError) -> anyhow::Result<()> {
        match error {
            // Everything up to the end of the log has been delivered, whatever its last offsets hold.
            &KafkaError::PartitionEOF(partition) => {
                self.read_to_end.insert(partition);
                BOARD.clear(&[partition], Side::Log);
                if let Some(assigned) = self.assigned.get_mut(&partition)
                    && let Some(position) = self.member.position(partition)
                {
                    let before = assigned.load();
                    assigned.skip_to(position);
                    self.batches.change(partition, before, assigned.load());
                }
            }
            KafkaError::MessageConsumptionFatal(_) => bail!("Kafka: {error}"),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => self.doubt_positions(error),
            &KafkaError::MessageConsumption(code) if is_unreadable(code) => self.look_ahead()?,
            &KafkaError::MessageConsumption(code) => self.complain(code),
            // Brokers come and go; librdkafka reconnects by itself.
            other => log::debug!("Kafka: {other}"),
        }
        Ok(())
    }

    /// A broker says that an offset is not in its log, and the error does not name the partition. Of a batch that fails its
    /// checksum librdkafka reads on at the wrong place, and may ask for whatever offset stands there. So this is no reason to halt
    /// yet: the position of each partition is looked at, soon.
    fn doubt_positions(&mut self, error: &KafkaError) {
        // All that was read is begun anew then, where it stands.
        if self.looking != Looking::Not {
            log::debug!("Kafka: {error}, beside what cannot be read");
            return;
        }
        let said = self.member.said().unwrap_or_else(|| error.to_string());
        log::warn!(
            "a position of topic '{}' may have fallen out of the log ({said}): looking at all of them",
            self.settings.topic
        );
        self.positions_doubted = true;
    }

    /// Claims anew what is read, if its positions are in doubt: one that is outside its log halts us there, in so many words; of
    /// the others reading goes on.
    pub(super) fn look_at_positions(&mut self) {
        let is_soon = self
            .positions_looked_at
            .is_some_and(|at| at.elapsed() < BETWEEN_DOUBTS);
        if !self.positions_doubted || is_soon {
            return;
        }
        self.positions_doubted = false;
        self.positions_looked_at = Some(Instant::now());
        let read: Vec<i32> = self.assigned.keys().copied().collect();
        for partition in read {
            if !self.halted.contains_key(&partition) {
                self.claim_anew(partition);
            }
        }
    }

    /// Something cannot be read, in a partition that the error does not name; records that come after it may be on
    /// their way already. So nothing is read on before it is known which one it is.
    fn look_ahead(&mut self) -> anyhow::Result<()> {
        let mut offsets = BTreeMap::new();
        for (&partition, assigned) in &self.assigned {
            if !self.halted.contains_key(&partition) && !self.schemas.awaited_by(partition) {
                if let Err(error) = self.member.stop(partition) {
                    // Taken from us just now; the group will say so.
                    log::debug!("partition {partition} cannot be stopped: {error}");
                }
                offsets.insert(partition, assigned.next_offset());
            }
        }
        // One that was claimed while the scout was looking at the others is looked at with them again.
        match self.looking {
            Looking::Not => {
                self.looking = Looking::Once;
                self.scout.ask_nexts(offsets)
            }
            Looking::Once | Looking::Again => {
                self.looking = Looking::Again;
                Ok(())
            }
        }
    }

    /// An error that names no partition, and is of all of them if it is of one.
    fn complain(&self, code: RDKafkaErrorCode) {
        log::debug!("Kafka: {code}");
        if code == RDKafkaErrorCode::TopicAuthorizationFailed {
            let ours: Vec<i32> = self.claims.ours().collect();
            let cause = refusal(&self.settings.topic, code);
            BOARD.waits(&ours, Side::Log, &cause);
        }
    }

    /// If no partition is ours: is that because of what was complained of?
    pub(super) fn show_outside(&mut self) {
        if self.claims.ours().next().is_some() {
            self.outside = None;
            return;
        }
        let works = self.member.group_works();
        if works {
            BOARD.group_works();
        }
        let Some(complaint) = self.member.complaint() else {
            return;
        };
        // A member of a group that works may just have nothing to do.
        if works && complaint.at.elapsed() >= COMPLAINT {
            return;
        }
        let at = complaint.at;
        let cause = self.cause_of(complaint);
        // Brokers come and go.
        let lasts = cause.word != "kafka" || at.elapsed() >= BRIEF;
        if lasts && self.outside.as_ref() != Some(&cause.word) {
            log::warn!(
                "no partition of {} is ours, waiting for {}: {}",
                self.settings.topic,
                cause.word,
                cause.message
            );
            self.outside = Some(cause.word.clone());
        }
        BOARD.outside(cause);
    }

    fn cause_of(&self, complaint: Complaint) -> Cause {
        use RDKafkaErrorCode::*;
        let Complaint { code, reason, .. } = complaint;
        let (topic, group) = (&self.settings.topic, &self.settings.group);
        match code {
            TopicAuthorizationFailed | UnknownTopicOrPartition | UnknownTopic => {
                refusal(topic, code)
            }
            GroupAuthorizationFailed => Cause::new(
                "group_authorization",
                format!(
                    "the user may not read as group '{group}': allow it READ on the group ({reason})"
                ),
            ),
            InconsistentGroupProtocol => Cause::new(
                "group_protocol",
                format!(
                    "another member of group '{group}' assigns partitions in another way: adflux needs the group for \
                     itself (cooperative-sticky), set --group ({reason})"
                ),
            ),
            _ => Cause::new("kafka", reason),
        }
    }

    /// Takes what the scout has found.
    pub(super) fn take_found(&mut self) -> anyhow::Result<()> {
        while let Some(found) = self.scout.found() {
            match found {
                Found::Ranges(ranges) => {
                    self.check_end(&ranges)?;
                    self.take_ranges(ranges);
                }
                Found::Nexts(nexts) => {
                    let looked = std::mem::replace(&mut self.looking, Looking::Not);
                    for (partition, (asked, next)) in nexts {
                        self.take_next(partition, asked, next, looked == Looking::Again);
                    }
                    if looked == Looking::Again {
                        self.look_ahead()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_next(&mut self, partition: i32, asked: Offset, next: Next, again: bool) {
        let Some(assigned) = self.assigned.get(&partition) else {
            return;
        };
        let offset = assigned.next_offset();
        // If that was of another offset than it is at by now, it is read anew.
        if let Next::Unreadable(why) = next
            && offset == asked
        {
            let cause = unreadable(&self.settings.topic, partition, offset, &why);
            BOARD.stops(&[partition], Side::Log, &cause);
            let message = cause.message;
            self.halted.insert(partition, Halted { message });
            return;
        }
        if self.halted.remove(&partition).is_some() {
            BOARD.release(&[partition], Side::Log);
        }
        if !again {
            self.fetch_anew(partition, offset);
        }
    }

    pub(super) fn fetch_anew(&self, partition: i32, offset: Offset) {
        if let Err(error) = self.member.start(partition, offset) {
            // Taken from us just now; the group will say so.
            log::debug!("partition {partition} cannot be read: {error}");
        }
    }

    /// From time to time, begins to fetch anew what waits, and looks again at what could not be read.
    pub(super) fn try_again(&mut self) -> anyhow::Result<()> {
        if self.tried_again.elapsed() < TRY_AGAIN || self.looking != Looking::Not {
            return Ok(());
        }
        self.tried_again = Instant::now();
        // By itself librdkafka asks only every few minutes for a topic that it was refused, or did not find.
        if self.claims.ours().next().is_none() && !self.member.group_works() {
            self.member.look_around();
        }
        for partition in BOARD.waiting_for_log() {
            if let Some(assigned) = self.assigned.get(&partition)
                && !self.halted.contains_key(&partition)
                && !self.schemas.awaited_by(partition)
            {
                self.fetch_anew(partition, assigned.next_offset());
            }
        }
        let halted = self.halted.keys();
        let offset = |&p: &i32| Some((p, self.assigned.get(&p)?.next_offset()));
        let offsets: BTreeMap<i32, Offset> = halted.filter_map(offset).collect();
        if !offsets.is_empty() {
            self.looking = Looking::Once;
            self.scout.ask_nexts(offsets)?;
        }
        Ok(())
    }

    /// Takes what the watch has seen in the database.
    pub(super) fn take_seen(&mut self) {
        while let Some(seen) = self.watch.seen() {
            for (stored, committed) in seen.gone {
                let partition = stored.partition;
                if self.assigned.contains_key(&partition) {
                    log::error!(
                        "PostgreSQL has lost commits: {}[{partition}] stands at offset {}, and was counted up to \
                         {committed}. It was restored, or a standby that lagged has taken over. What is missing is read \
                         again from the log",
                        self.settings.topic,
                        stored.next_offset
                    );
                    self.claim_anew(partition);
                }
            }
            // Somebody else has moved the position of one that was halted, or waits.
            let waiting = BOARD.waiting_for_log();
            for stored in seen.stored {
                let ours = self.assigned.get(&stored.partition).map(Assigned::epoch);
                let stands = self.halted.contains_key(&stored.partition)
                    || waiting.contains(&stored.partition);
                if stands && ours.is_some_and(|ours| ours < stored.epoch) {
                    self.claim_anew(stored.partition);
                }
            }
        }
    }

    fn claim_anew(&mut self, partition: i32) {
        self.stop_reading(partition);
        BOARD.restart(partition);
        self.claims.again(partition, Reading::Usual);
    }
}

fn unreadable(topic: &str, partition: i32, offset: Offset, why: &str) -> Cause {
    Cause::new(
        "unreadable",
        format!(
            "what comes at offset {offset} of {topic}[{partition}] cannot be read: {why}. Nothing is skipped. If another \
             replica has it whole, make that one the leader; to give it up: \
             `adflux skip --topic {topic} --partition {partition} --from {offset} --reason '...'`"
        ),
    )
}
