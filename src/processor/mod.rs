//! The processor: counts every record of its partitions exactly once.
//!
//! Two threads. This one polls Kafka, decodes, drops duplicates it remembers and fills a batch;
//! the [`writer`] makes one batch at a time true in PostgreSQL. There is no batch timer: while a
//! batch is being written the next one fills, and goes when the writer is free. So a quiet topic
//! is visible one commit later, and a busy one makes its batches larger by itself.
//!
//! ```text
//! poll → decode → Recent (duplicate? late?) → share of a partition ─┐
//!   ▲                                                               ▼ one batch
//!   └── Kafka offsets, lag ◀── results ◀── writer: settle, commit ◀─┘
//! ```
//!
//! What a partition's share rests on (its epoch, its memory of recent events, the campaigns it
//! owns) lives and dies with the assignment: on revocation it is dropped with the rows not yet
//! written, and the next owner reads on from the stored position.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::consumer::CommitMode;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};

use crate::codec::Decoder;
use crate::kafka::Cluster;
use crate::kafka::consumer::{Member, Rebalance};
use crate::metrics;
use crate::store::StreamId;
use crate::store::batch::Fingerprinter;
use crate::store::commit::{Committed, Outcome, ShareResult};

pub mod assigned;
mod flood;
pub mod recent;
mod report;
mod writer;

pub use report::Report;

use assigned::{Assigned, Record};
use flood::Flood;
use report::Reporter;
use writer::{Claimed, Reply, Request, Writer};

/// Called on the writer's thread right after each commit; must not wait.
pub type CommitListener = Box<dyn Fn(&Committed) + Send>;

/// How the processor works.
#[derive(Clone)]
pub struct Settings {
    pub cluster: Cluster,
    pub topic: String,
    pub group: String,
    pub database_url: String,
    /// The most records of a batch.
    pub batch_events: usize,
    /// How long a batch may wait for more while the writer is free.
    pub linger: Duration,
    /// Events remembered in all, shared out among the partitions.
    pub recent_events: usize,
    /// The share of bad records above which to stop.
    pub max_bad_share: f64,
    /// A member that is silent for so long loses its partitions.
    pub session_timeout: Duration,
    /// Stop once the end of the log, as it was at start, is committed.
    pub until_end: bool,
    /// When retention has deleted records that were not counted: go on from the oldest there is.
    pub accept_loss: bool,
    /// The schema id of version 1, and the files of other writers' schemas by id.
    pub schema_id: u32,
    pub writer_schemas: Vec<(u32, std::path::PathBuf)>,
    /// Overrides the cluster's own id, where that does not identify its log.
    pub cluster_id: Option<String>,
}

/// How many records are polled before anything else is looked at.
const POLLS_PER_ROUND: usize = 512;
/// How long an idle poll waits.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// A writer that is busy for so long gets the consumer paused, so that it can keep polling.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often Kafka is told the offsets.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How long a stopping processor waits for the batch in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs until `stop` is set, or with `until_end` until the end is committed.
///
/// # Errors
/// When it cannot start, or must halt: a flood of bad records, or a position outside the log.
/// A broker or database that is away is no error.
pub fn run(
    settings: &Settings,
    stop: &AtomicBool,
    listener: Option<CommitListener>,
) -> anyhow::Result<Report> {
    let mut decoder = Decoder::new(settings.schema_id)?;
    for (id, file) in &settings.writer_schemas {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        decoder.add_writer_schema(*id, &text)?;
    }
    let member = Member::join(
        &settings.cluster,
        &settings.topic,
        &settings.group,
        settings.session_timeout,
    )?;
    let Some((cluster_id, partitions)) = await_topic(settings, &member, stop)? else {
        return Ok(Report::default());
    };
    log::info!(
        "counting topic '{}' ({} partitions) of cluster {cluster_id} as group '{}'",
        settings.topic,
        partitions.len(),
        settings.group
    );
    let mut ends = BTreeMap::new();
    if settings.until_end {
        for &partition in &partitions {
            let (start, end) = member.log_range(partition)?;
            if end > start {
                ends.insert(partition, end);
            }
        }
    }
    let fingerprinter = Fingerprinter::default();
    let writer = Writer::start(writer::Settings {
        database_url: settings.database_url.clone(),
        cluster_id,
        topic: settings.topic.clone(),
        owner: format!("{}:{}", host_name(), std::process::id()),
        recent_events: settings.recent_events / partitions.len().max(1),
        fingerprinter: fingerprinter.clone(),
        listener,
    })?;
    let mut processor = Processor {
        settings,
        member,
        writer,
        decoder,
        fingerprinter,
        flood: Flood::new(settings.max_bad_share),
        reporter: Reporter::new(),
        assigned: HashMap::new(),
        streams: HashMap::new(),
        to_claim: BTreeMap::new(),
        claiming: BTreeSet::new(),
        waiting: 0,
        waiting_since: None,
        busy_since: None,
        paused: false,
        committed: BTreeMap::new(),
        offsets_told: Instant::now(),
        reachable: true,
        ends,
        read_to_end: BTreeSet::new(),
        positions_asked: Instant::now(),
        reached_end: false,
    };
    processor.run(stop)?;
    processor.finish();
    Ok(processor.reporter.total().clone())
}

/// Waits until the cluster answers and the topic exists.
fn await_topic(
    settings: &Settings,
    member: &Member,
    stop: &AtomicBool,
) -> anyhow::Result<Option<(String, Vec<i32>)>> {
    let mut said = false;
    while !stop.load(Ordering::Relaxed) {
        let problem = match member
            .cluster_id()
            .and_then(|id| Ok((id, member.partitions()?)))
        {
            Ok((id, partitions)) if !partitions.is_empty() => {
                return Ok(Some((
                    settings.cluster_id.clone().unwrap_or(id),
                    partitions,
                )));
            }
            Ok(_) => format!("topic '{}' does not exist yet", settings.topic),
            Err(error) => format!(
                "no broker at {} answers ({error})",
                settings.cluster.brokers
            ),
        };
        if settings.until_end && problem.starts_with("topic") {
            bail!("{problem}: there is no end to count to. `adflux simulate` creates it");
        }
        if !said {
            log::warn!("{problem}; waiting for it");
            said = true;
        }
        // Serves librdkafka; the broker's answer is what is waited for.
        let _ = member.poll(Duration::from_millis(200));
    }
    Ok(None)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "localhost".to_owned())
}

struct Processor<'a> {
    settings: &'a Settings,
    member: Member,
    writer: Writer,
    decoder: Decoder,
    fingerprinter: Fingerprinter,
    flood: Flood,
    reporter: Reporter,
    /// The partitions that are being read.
    assigned: HashMap<i32, Assigned>,
    streams: HashMap<StreamId, i32>,
    /// Partitions the group has given us that wait to be claimed, and whether carefully.
    to_claim: BTreeMap<i32, bool>,
    /// Those the writer is claiming now.
    claiming: BTreeSet<i32>,
    /// Records in the batch that is being filled, and since when there are any.
    waiting: usize,
    waiting_since: Option<Instant>,
    /// Since when the writer has been busy while a full batch waits.
    busy_since: Option<Instant>,
    paused: bool,
    /// The committed positions, to be told to Kafka.
    committed: BTreeMap<i32, i64>,
    offsets_told: Instant,
    reachable: bool,
    /// With `until_end`: the end of each partition that has records.
    ends: BTreeMap<i32, i64>,
    /// Partitions that have been read to an end at least once.
    read_to_end: BTreeSet<i32>,
    positions_asked: Instant,
    reached_end: bool,
}

impl Processor<'_> {
    fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) && !self.reached_end {
            self.follow_group()?;
            while let Some(reply) = self.writer.try_reply() {
                self.take_reply(reply)?;
            }
            if self.writer.is_dead() {
                bail!("the writer thread has died; this is a bug, and nothing was lost");
            }
            self.hand_over(false);
            if self.waiting >= self.settings.batch_events {
                self.await_writer()?;
            } else {
                self.poll()?;
            }
            self.tell();
            self.watch_end();
        }
        Ok(())
    }

    /// Polls records until the batch is full, nothing more is there, or it is time to look around.
    fn poll(&mut self) -> anyhow::Result<()> {
        let mut timeout = match (self.waiting, self.writer.is_idle()) {
            (0, true) => IDLE_POLL,
            (0, false) => Duration::from_millis(5),
            (_, false) => Duration::from_millis(1),
            (_, true) => self.settings.linger.saturating_sub(
                self.waiting_since
                    .map_or(Duration::ZERO, |since| since.elapsed()),
            ),
        };
        let mut now = now_micros();
        for _ in 0..POLLS_PER_ROUND.min(self.settings.batch_events.saturating_sub(self.waiting)) {
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
                    );
                    self.waiting += 1;
                    self.waiting_since.get_or_insert_with(Instant::now);
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
    fn follow_group(&mut self) -> anyhow::Result<()> {
        for rebalance in self.member.rebalances() {
            match rebalance {
                Rebalance::Assigned(partitions) => {
                    log::info!("assigned partitions {partitions:?}");
                    self.to_claim
                        .extend(partitions.into_iter().map(|p| (p, false)));
                }
                Rebalance::Revoked(partitions) => {
                    log::info!("revoked partitions {partitions:?}");
                    for partition in partitions {
                        self.drop_partition(partition);
                        self.to_claim.remove(&partition);
                        self.claiming.remove(&partition);
                    }
                }
            }
        }
        let waiting: Vec<(i32, bool)> = self.to_claim.iter().map(|(&p, &c)| (p, c)).collect();
        for (partition, careful) in waiting {
            match self.member.log_range(partition) {
                Ok((log_start, _)) => {
                    self.to_claim.remove(&partition);
                    self.claiming.insert(partition);
                    self.writer.send(Request::Claim(Claimed {
                        partition,
                        log_start,
                        careful,
                    }));
                }
                Err(error) => {
                    // Asked again in the next round; polling goes on in between.
                    log::debug!("partition {partition}: {error}");
                    break;
                }
            }
        }
        Ok(())
    }

    fn drop_partition(&mut self, partition: i32) {
        if let Some(assigned) = self.assigned.remove(&partition) {
            self.streams.remove(&assigned.stream);
            self.waiting = self.waiting.saturating_sub(assigned.waiting() as usize);
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
                let partition = claimed.partition;
                // Revoked while it was being claimed.
                if !self.claiming.remove(&partition) {
                    return Ok(());
                }
                let mut assigned =
                    Assigned::new(claim.stream, claim.fence, *recent, claimed.careful);
                self.check_range(partition, claim.fence.next_offset, &mut assigned)?;
                self.waiting += usize::from(assigned.has_share());
                let offset = assigned.next_offset();
                self.streams.insert(claim.stream, partition);
                self.assigned.insert(partition, assigned);
                self.member.start(partition, offset)?;
                log::debug!(
                    "partition {partition}: reading from offset {offset}, epoch {}",
                    claim.fence.epoch
                );
            }
            Reply::Written { results, took } => {
                self.reporter.batch(took);
                metrics::BATCH_SECONDS.observe(took.as_secs_f64());
                for result in results {
                    self.take_result(result)?;
                }
            }
            Reply::Positions(positions) => {
                let positions: BTreeMap<i32, i64> = positions.into_iter().collect();
                // Asked with nothing waiting, so what this process has read is committed.
                self.reached_end = self.ends.iter().all(|(partition, end)| {
                    self.read_to_end.contains(partition)
                        || positions.get(partition).is_some_and(|next| next >= end)
                });
            }
        }
        Ok(())
    }

    /// A position must be within the log, or it is not this log's.
    fn check_range(
        &self,
        partition: i32,
        position: i64,
        assigned: &mut Assigned,
    ) -> anyhow::Result<()> {
        let topic = &self.settings.topic;
        let (start, end) = self.member.log_range(partition)?;
        if position > end {
            bail!(
                "the stored position {position} of {topic}[{partition}] is beyond the end of the log, {end}: the topic was \
                 deleted and created anew, or the cluster was restored. Nothing was read. Give the new topic another \
                 name and set --topic, or restore the log"
            );
        }
        if position < start && !self.settings.accept_loss {
            bail!(
                "{} records of {topic}[{partition}] (offsets {position} to {}) were deleted by retention before they were \
                 counted. Nothing was skipped. Restore them, or start once with --accept-loss to go on from offset {start}",
                start - position,
                start - 1
            );
        }
        if position < start {
            log::warn!(
                "{topic}[{partition}]: {} records were deleted before they were counted; going on from {start} as told",
                start - position
            );
            assigned.skip_to(start);
        }
        Ok(())
    }

    fn take_result(&mut self, result: ShareResult) -> anyhow::Result<()> {
        let partition = self.streams.get(&result.stream).copied();
        match result.outcome {
            Outcome::Committed(mut committed) => {
                metrics::committed(&committed);
                self.reporter.committed(&committed);
                if let Some(partition) = partition {
                    self.committed.insert(partition, committed.next_offset);
                    if let Some(assigned) = self.assigned.get_mut(&partition) {
                        assigned.own(std::mem::take(&mut committed.owned));
                    }
                }
            }
            Outcome::Lost => {
                metrics::FENCED.inc();
                if let Some(partition) = partition {
                    log::warn!(
                        "partition {partition} has another owner now; dropped what was not written"
                    );
                    self.drop_partition(partition);
                    self.member.stop(partition)?;
                }
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
                    self.drop_partition(partition);
                    self.member.stop(partition)?;
                    self.to_claim.insert(partition, careful);
                }
            }
        }
        Ok(())
    }

    /// Gives the batch to the writer if it is free and the batch is due.
    fn hand_over(&mut self, now: bool) {
        if self.waiting == 0 || !self.writer.is_idle() {
            return;
        }
        let due = self
            .waiting_since
            .is_none_or(|since| since.elapsed() >= self.settings.linger);
        if !(now || due || self.waiting >= self.settings.batch_events) {
            return;
        }
        let shares: Vec<_> = self
            .assigned
            .values_mut()
            .filter_map(Assigned::take_share)
            .collect();
        if !shares.is_empty() {
            metrics::BATCH_EVENTS.observe(self.waiting as f64);
            self.writer.send(Request::Write(shares));
        }
        self.waiting = 0;
        self.waiting_since = None;
    }

    /// The batch is full and the writer busy: waits for it, but not so long that the group thinks
    /// us dead.
    fn await_writer(&mut self) -> anyhow::Result<()> {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        if let Some(reply) = self.writer.wait_reply(Duration::from_millis(100)) {
            self.take_reply(reply)?;
            self.busy_since = None;
            if self.paused {
                self.member.pause(false)?;
                self.paused = false;
            }
        } else if since.elapsed() > PATIENCE {
            if !self.paused {
                self.member.pause(true)?;
                self.paused = true;
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
                );
                self.waiting += 1;
            }
        }
        Ok(())
    }

    /// Tells Kafka the offsets, people what was done, and everybody whether brokers are there.
    fn tell(&mut self) {
        if !self.committed.is_empty() && self.offsets_told.elapsed() >= OFFSET_COMMIT_INTERVAL {
            self.member
                .commit_offsets(&self.committed, CommitMode::Async);
            let ends = self.member.ends();
            for (partition, next) in std::mem::take(&mut self.committed) {
                if let Some(end) = ends.get(&partition) {
                    metrics::LAG
                        .with_label_values(&[&partition.to_string()])
                        .set((end - next).max(0));
                }
            }
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
            && self.waiting == 0
            && self.writer.is_idle()
            && self.positions_asked.elapsed() >= Duration::from_millis(20)
        {
            self.positions_asked = Instant::now();
            self.writer.send(Request::Positions);
        }
    }

    /// Finishes the batch in flight, writes the one that was being filled, and tells Kafka.
    fn finish(&mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            self.hand_over(true);
            if self.writer.is_idle() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.writer.wait_reply(left) {
                Some(reply) => {
                    if let Err(error) = self.take_reply(reply) {
                        log::warn!("{error:#}");
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
        self.member
            .commit_offsets(&self.committed, CommitMode::Sync);
    }
}

fn take_in(
    message: &BorrowedMessage<'_>,
    assigned: &mut Assigned,
    decoder: &mut Decoder,
    fingerprinter: &Fingerprinter,
    now: i64,
) -> Option<crate::event::Reason> {
    let headers = || {
        message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                .collect()
        })
    };
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
    assigned.push(&record, decoder, fingerprinter, now)
}

fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
