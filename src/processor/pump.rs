//! The loop: polls, fills a batch, hands it over, and follows the group.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::consumer::CommitMode;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message, Timestamp};

use super::Settings;
use super::assigned::{Assigned, Record};
use super::claims::Claims;
use super::flood::{self, Flood};
use super::range::{self, Fit};
use super::recent::Recent;
use super::report::{Report, Reporter};
use super::writer::{Claimed, Reply, Request, Writers};
use crate::codec::Decoder;
use crate::crash;
use crate::event::Reason;
use crate::kafka::consumer::{Member, Rebalance};
use crate::kafka::headers::read_headers;
use crate::metrics;
use crate::store::StreamId;
use crate::store::batch::Fingerprinter;
use crate::store::commit::{Outcome, ShareResult};
use crate::store::positions::Claim;

/// A batch of a size between these goes when no other writer is busy. Two transactions at a time pay where
/// there is little to do, since one need not wait for the other, and where there is so much that the database
/// is what all wait for; in between, one larger batch is cheaper than two.
const FEW_RECORDS: usize = 1_000;
const MANY_RECORDS: usize = 50_000;
/// How many records are polled before anything else is looked at.
const POLLS_PER_ROUND: usize = 512;
/// How long an idle poll waits.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// A writer that is busy for so long gets the consumer paused, so that it can keep polling.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often Kafka is told the offsets.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is told them again. Its answer is not heard, and a broker that was away when they were
/// told has taken none; where nothing more comes, lag tools would show a lag for ever.
const OFFSETS_REPEATED: Duration = Duration::from_secs(5);
/// How long a stopping processor waits for the batch in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a processor that stops waits for its group to take its offsets.
const LAST_OFFSETS: Duration = Duration::from_secs(3);

/// How full a batch is; its records are with their partitions.
#[derive(Clone, Default)]
struct Batch {
    records: usize,
    /// Since when there are any.
    since: Option<Instant>,
}

impl Batch {
    fn add(&mut self) {
        self.records += 1;
        self.since.get_or_insert_with(Instant::now);
    }
}

/// See the module.
pub struct Pump<'a> {
    settings: &'a Settings,
    member: Member,
    writers: Writers,
    decoder: Decoder,
    fingerprinter: Fingerprinter,
    flood: Flood,
    reporter: Reporter,
    /// The partitions that are being read.
    assigned: HashMap<i32, Assigned>,
    streams: HashMap<StreamId, i32>,
    claims: Claims,
    /// The batch that each writer gets next.
    batches: Vec<Batch>,
    /// Since when a writer has been busy while a full batch waits for it.
    busy_since: Option<Instant>,
    paused: bool,
    /// The committed positions of what is ours, and whether some have not been told to Kafka.
    committed: BTreeMap<i32, i64>,
    untold: bool,
    offsets_told: Instant,
    reachable: bool,
    /// With `until_end`: the end of each partition that has records.
    ends: BTreeMap<i32, i64>,
    /// Partitions that have been read to an end at least once.
    read_to_end: BTreeSet<i32>,
    positions_asked: Instant,
    reached_end: bool,
}

impl<'a> Pump<'a> {
    /// A pump that has polled nothing yet. `ends`: where each partition that has records ends, if
    /// it is to stop there.
    pub fn new(
        settings: &'a Settings,
        member: Member,
        writers: Writers,
        decoder: Decoder,
        fingerprinter: Fingerprinter,
        ends: BTreeMap<i32, i64>,
    ) -> Pump<'a> {
        Pump {
            settings,
            member,
            batches: vec![Batch::default(); writers.count()],
            writers,
            decoder,
            fingerprinter,
            flood: Flood::new(settings.max_bad_share),
            reporter: Reporter::new(),
            assigned: HashMap::new(),
            streams: HashMap::new(),
            claims: Claims::default(),
            busy_since: None,
            paused: false,
            committed: BTreeMap::new(),
            untold: false,
            offsets_told: Instant::now(),
            reachable: true,
            ends,
            read_to_end: BTreeSet::new(),
            positions_asked: Instant::now(),
            reached_end: false,
        }
    }

    /// Runs until `stop` is set or the ends are committed.
    pub fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) && !self.reached_end {
            self.follow_group();
            while let Some(reply) = self.writers.try_reply() {
                self.take_reply(reply)?;
            }
            if self.writers.are_dead() {
                bail!("a writer thread has died; this is a bug, and nothing was lost");
            }
            self.hand_over(false);
            if self.room() == 0 {
                self.await_writer()?;
            } else {
                self.go_on()?;
                self.poll()?;
            }
            self.tell();
            self.watch_end();
        }
        Ok(())
    }

    /// How many more records may come before a batch is full.
    fn room(&self) -> usize {
        let each = (self.settings.batch_events / self.batches.len()).max(1);
        let fullest = self.batches.iter().map(|batch| batch.records).max();
        each.saturating_sub(fullest.unwrap_or(0))
    }

    /// How long a poll may wait before something is to be done about a writer's batch.
    fn may_wait(&self, which: usize) -> Duration {
        let batch = self.batches.get(which).filter(|batch| batch.records > 0);
        match (batch.and_then(|b| b.since), self.is_free(which)) {
            (None, true) => IDLE_POLL,
            (None, false) => Duration::from_millis(5),
            (Some(_), false) => Duration::from_millis(1),
            (Some(since), true) => self.settings.linger.saturating_sub(since.elapsed()),
        }
    }

    /// Whether a writer's batch may go: the writer has nothing to do, and if another one has, two at a time
    /// are worth it.
    fn is_free(&self, which: usize) -> bool {
        let records = self.batches.get(which).map_or(0, |batch| batch.records);
        self.writers.are_idle()
            || self.writers.is_idle(which) && !(FEW_RECORDS..MANY_RECORDS).contains(&records)
    }

    /// The batch that a partition's records are in.
    fn batch_of(&mut self, partition: i32) -> Option<&mut Batch> {
        self.batches.get_mut(self.writers.of(partition))
    }

    /// Polls records until the batch is full, nothing more is there, or it is time to look around.
    fn poll(&mut self) -> anyhow::Result<()> {
        let mut timeout = (0..self.batches.len())
            .map(|which| self.may_wait(which))
            .min()
            .unwrap_or(IDLE_POLL);
        let mut now = now_micros();
        for _ in 0..POLLS_PER_ROUND.min(self.room()) {
            // Borrowed from the consumer alone, so that the rest of `self` stays usable.
            let member = &self.member;
            match member.poll(timeout) {
                None => break,
                Some(Ok(message)) => {
                    if !timeout.is_zero() {
                        now = now_micros();
                        timeout = Duration::ZERO;
                        self.reporter.record_came();
                    }
                    let assigned = self.assigned.get_mut(&message.partition());
                    let Some(assigned) = assigned else { continue };
                    let reason = take_in(
                        &message,
                        assigned,
                        &mut self.decoder,
                        &self.fingerprinter,
                        now,
                    )?;
                    let writer = self.writers.of(message.partition());
                    if let Some(batch) = self.batches.get_mut(writer) {
                        batch.add();
                    }
                    if self.flood.record(reason.is_some()) {
                        bail!(
                            "{:.0} % of the last {} records could not be counted, the last one (partition {}, offset {}) \
                             because {}. Stopped before the rest of the topic becomes dead letters: see `adflux dlq list`, \
                             and raise --max-bad-share to go on regardless",
                            self.flood.share() * 100.0,
                            flood::WINDOW,
                            message.partition(),
                            message.offset(),
                            reason.map_or_else(String::new, |r| r.to_string()),
                        );
                    }
                }
                // Everything up to the end of the log has been delivered, whatever its last offsets hold.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.read_to_end.insert(partition);
                }
                Some(Err(error)) => self.judge(&error)?,
            }
        }
        Ok(())
    }

    fn judge(&self, error: &KafkaError) -> anyhow::Result<()> {
        match error {
            KafkaError::MessageConsumptionFatal(_) => bail!("Kafka: {error}"),
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                bail!(
                    "a position of topic '{}' has fallen out of the log while it was being read: retention deleted records \
                     before they were counted, or the topic was deleted. Nothing was skipped; `adflux process` says which \
                     partition and what to do when it is started again",
                    self.settings.topic
                )
            }
            // Brokers come and go; librdkafka reconnects by itself.
            other => log::debug!("Kafka: {other}"),
        }
        Ok(())
    }

    /// Follows what the group gave and took.
    fn follow_group(&mut self) {
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
        for (partition, careful) in self.claims.due() {
            match self.member.log_range(partition) {
                Ok(log_range) => {
                    self.claims.asked(partition);
                    let claimed = Claimed {
                        partition,
                        log_range,
                        careful,
                    };
                    let writer = self.writers.of(partition);
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
    fn start(&mut self, claimed: Claimed, claim: &Claim, recent: Recent) -> anyhow::Result<()> {
        let (topic, partition) = (&self.settings.topic, claimed.partition);
        let position = claim.fence.next_offset;
        let mut assigned = Assigned::new(claim, recent, claimed.careful);
        let (start, mut end) = claimed.log_range;
        if position > end {
            // The last owner may have counted what came after we asked for the range.
            match self.member.log_range(partition) {
                Ok(now) => end = now.1,
                Err(_) => {
                    self.claims.again(partition, claimed.careful);
                    return Ok(());
                }
            }
        }
        match range::fit(position, start, end) {
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
                if let Some(batch) = self.batch_of(partition) {
                    batch.add();
                }
            }
        }
        let offset = assigned.read_from(start);
        if let Err(error) = self.member.start(partition, offset) {
            // Taken from us just now; the group will say so.
            log::debug!("partition {partition} cannot be read: {error}");
            self.claims.again(partition, claimed.careful);
            return Ok(());
        }
        self.streams.insert(claim.stream, partition);
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
    fn stop_reading(&mut self, partition: i32) {
        self.drop_partition(partition);
        if let Err(error) = self.member.stop(partition) {
            log::debug!("partition {partition} cannot be stopped: {error}");
        }
    }

    fn drop_partition(&mut self, partition: i32) {
        if let Some(assigned) = self.assigned.remove(&partition) {
            self.streams.remove(&assigned.stream);
            if let Some(batch) = self.batch_of(partition) {
                batch.records = batch.records.saturating_sub(assigned.waiting() as usize);
            }
        }
        self.committed.remove(&partition);
        self.read_to_end.remove(&partition);
        metrics::LAG
            .remove_label_values(&[&partition.to_string()])
            .ok();
    }

    fn take_reply(&mut self, reply: Reply) -> anyhow::Result<()> {
        match reply {
            Reply::Claimed {
                claimed,
                claim,
                recent,
            } => {
                if self.claims.answered(claimed.partition) {
                    self.start(claimed, &claim, *recent)?;
                }
            }
            Reply::Written {
                results,
                took,
                emptied,
            } => {
                self.reporter.batch(took);
                metrics::BATCH_SECONDS.observe(took.as_secs_f64());
                results
                    .into_iter()
                    .for_each(|result| self.take_result(result));
                for (stream, columns) in emptied {
                    let partition = self.streams.get(&stream);
                    if let Some(assigned) = partition.and_then(|p| self.assigned.get_mut(p)) {
                        assigned.fill_again(columns);
                    }
                }
            }
            Reply::Positions(positions) => {
                let positions: BTreeMap<i32, i64> = positions.into_iter().collect();
                // Asked with nothing waiting, so what this process has read is committed. A claim may yet
                // find that a position is not of this log; one beyond its end says so already.
                self.reached_end = !self.claims.pending()
                    && self.ends.iter().all(|(&partition, end)| {
                        self.read_to_end.contains(&partition)
                            || positions.get(&partition).is_some_and(|next| {
                                let log_range = self.member.log_range(partition);
                                next >= end && log_range.is_ok_and(|(_, end)| *next <= end)
                            })
                    });
            }
        }
        Ok(())
    }

    fn take_result(&mut self, result: ShareResult) {
        let partition = self.streams.get(&result.stream).copied();
        match result.outcome {
            Outcome::Committed(mut committed) => {
                metrics::committed(&committed);
                self.reporter.committed(&committed);
                if let Some(partition) = partition {
                    self.committed.insert(partition, committed.next_offset);
                    self.untold = true;
                    if let Some(assigned) = self.assigned.get_mut(&partition) {
                        assigned.own(std::mem::take(&mut committed.owned));
                    }
                }
            }
            Outcome::Lost => {
                metrics::FENCED.inc();
                let Some(partition) = partition else {
                    log::warn!(
                        "a partition that was revoked was claimed by another process; dropped what was not written"
                    );
                    return;
                };
                self.stop_reading(partition);
                let pause = self.claims.lost(partition);
                log::warn!(
                    "partition {partition} was claimed by another process; dropped what was not written. If the group \
                     does not take it from us, it is claimed again in {pause:?}"
                );
            }
            outcome @ (Outcome::Reset | Outcome::ResetCarefully) => {
                if let Some(partition) = partition {
                    let careful = matches!(outcome, Outcome::ResetCarefully);
                    let why = if careful {
                        "a sum is near its limit"
                    } else {
                        "a campaign moved to another partition"
                    };
                    log::warn!(
                        "partition {partition}: {why}; reading again from the stored position"
                    );
                    self.stop_reading(partition);
                    self.claims.again(partition, careful);
                }
            }
        }
    }

    /// Gives each writer that is free its batch, if that is due; the one that has waited longest first.
    fn hand_over(&mut self, now: bool) {
        // Nothing more comes into any batch until the full one has gone.
        let now = now || self.room() == 0;
        let mut filled: Vec<usize> = (0..self.batches.len())
            .filter(|&which| self.batches[which].records > 0)
            .collect();
        filled.sort_unstable_by_key(|&which| self.batches[which].since);
        for which in filled {
            let goes = if now {
                self.writers.is_idle(which)
            } else {
                self.may_wait(which).is_zero()
            };
            if !goes {
                continue;
            }
            let batch = std::mem::take(&mut self.batches[which]);
            let shares: Vec<_> = self
                .assigned
                .iter_mut()
                .filter(|(partition, _)| self.writers.of(**partition) == which)
                .filter_map(|(_, assigned)| assigned.take_share())
                .collect();
            if !shares.is_empty() {
                metrics::BATCH_EVENTS.observe(batch.records as f64);
                self.writers.send(which, Request::Write(shares));
            }
        }
    }

    /// There is room in the batch: whatever made it (the writer's answer, wherever it was taken, or
    /// a revocation), nothing stays paused.
    fn go_on(&mut self) -> anyhow::Result<()> {
        self.busy_since = None;
        if self.paused {
            self.member.pause(false)?;
            self.paused = false;
        }
        Ok(())
    }

    /// A batch is full and its writer busy: waits for one of them, but not so long that the group
    /// thinks us dead.
    fn await_writer(&mut self) -> anyhow::Result<()> {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        if let Some(reply) = self.writers.wait_reply(Duration::from_millis(100)) {
            self.take_reply(reply)?;
        } else if since.elapsed() > PATIENCE {
            if !self.paused {
                self.member.pause(true)?;
                self.paused = true;
                log::debug!("reading is paused until the batch in flight is written");
            }
            // Nothing is delivered while paused, but the poll counts as a sign of life. A record
            // that slipped through would be lost to the paused fetch, so it is taken in.
            let member = &self.member;
            if let Some(Ok(message)) = member.poll(Duration::ZERO)
                && let Some(assigned) = self.assigned.get_mut(&message.partition())
            {
                take_in(
                    &message,
                    assigned,
                    &mut self.decoder,
                    &self.fingerprinter,
                    now_micros(),
                )?;
                let writer = self.writers.of(message.partition());
                if let Some(batch) = self.batches.get_mut(writer) {
                    batch.add();
                }
            }
        }
        Ok(())
    }

    /// Tells Kafka the offsets, people what was done, and everybody whether brokers are there.
    fn tell(&mut self) {
        let interval = if self.untold {
            OFFSET_COMMIT_INTERVAL
        } else {
            OFFSETS_REPEATED
        };
        if !self.committed.is_empty() && self.offsets_told.elapsed() >= interval {
            crash::point("before-kafka-commit");
            self.member
                .commit_offsets(&self.committed, CommitMode::Async);
            crash::point("after-kafka-commit");
            let ends = self.member.ends();
            for (partition, next) in &self.committed {
                if let Some(end) = ends.get(partition) {
                    metrics::LAG
                        .with_label_values(&[&partition.to_string()])
                        .set((end - next).max(0));
                }
            }
            self.untold = false;
            self.offsets_told = Instant::now();
        }
        let (member, assigned) = (&self.member, &self.assigned);
        self.reporter.line(|| {
            let ends = member.ends();
            let lags = assigned
                .iter()
                .map(|(p, a)| Some((ends.get(p)? - a.next_offset()).max(0)));
            lags.sum::<Option<i64>>()
        });
        let reachable = self.member.reachable();
        if reachable != self.reachable {
            self.reachable = reachable;
            if reachable {
                log::info!("Kafka is back");
            } else {
                log::warn!(
                    "no Kafka broker can be reached at {}; retrying until one answers",
                    self.settings.cluster.brokers
                );
            }
        }
    }

    /// With `until_end`, asks from time to time how far everybody has come.
    fn watch_end(&mut self) {
        if self.settings.until_end
            && self.batches.iter().all(|batch| batch.records == 0)
            && self.writers.are_idle()
            && self.positions_asked.elapsed() >= Duration::from_millis(20)
        {
            self.positions_asked = Instant::now();
            self.writers.send(0, Request::Positions);
        }
    }

    /// Finishes the batch in flight, writes the one that was being filled, and tells Kafka.
    ///
    /// # Errors
    /// When a claim was answered that must halt the processor.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        let mut halted = Ok(());
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            self.hand_over(true);
            if self.writers.are_idle() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.writers.wait_reply(left) {
                Some(reply) => {
                    halted = self.take_reply(reply);
                    if halted.is_err() {
                        break;
                    }
                }
                None => {
                    log::warn!(
                        "PostgreSQL did not take the last batch in time; it will be read again"
                    );
                    break;
                }
            }
        }
        // Nobody else may be there to tell Kafka. While the group rebalances it takes no offsets, and goes
        // on with that as we poll; what comes to be another's is another's to tell.
        let deadline = Instant::now() + LAST_OFFSETS;
        while !self
            .member
            .commit_offsets(&self.committed, CommitMode::Sync)
            && Instant::now() < deadline
        {
            let _ = self.member.poll(Duration::from_millis(20));
        }
        halted.map(|()| self.reporter.total().clone())
    }
}

fn take_in(
    message: &BorrowedMessage<'_>,
    assigned: &mut Assigned,
    decoder: &mut Decoder,
    fingerprinter: &Fingerprinter,
    now: i64,
) -> anyhow::Result<Option<Reason>> {
    let headers = || read_headers(message);
    let record = Record {
        offset: message.offset(),
        record_time: match message.timestamp() {
            Timestamp::NotAvailable => None,
            Timestamp::CreateTime(millis) | Timestamp::LogAppendTime(millis) => {
                Some(millis.saturating_mul(1_000))
            }
        },
        key: message.key(),
        payload: message.payload(),
        headers: &headers,
    };
    if let Some((found, counted)) = assigned.contradiction(&record) {
        let (topic, partition) = (message.topic(), message.partition());
        return Err(range::another(
            topic,
            partition,
            record.offset,
            found,
            counted,
        ));
    }
    Ok(assigned.push(&record, decoder, fingerprinter, now))
}

fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
