//! The loop: polls, fills a batch, hands it over, takes what became of it.
//!
//! - `group`: what the group gives and takes.
//! - `trouble`: what is in the way of reading.
//! - `schemas`: who waits for a schema that is not known yet.
//! - `telling`: what Kafka and people are told.
//! - `ends`: whether everybody has come to the end, if that is where to stop.

mod ends;
mod group;
mod schemas;
mod telling;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::consumer::CommitMode;
use rdkafka::message::{BorrowedMessage, Message};

use super::Settings;
use super::assigned::{Assigned, Record, Taken};
use super::batches::{Batches, Bounds};
use super::claims::Claims;
use super::flood::{self, Flood};
use super::range;
use super::report::{Report, Reporter};
use super::schemas::Schemas;
use super::scout::Scout;
use super::watch::Watch;
use super::writer::{Reply, Request, Writers};
use crate::codec::Decoder;
use crate::kafka::consumer::Member;
use crate::kafka::headers::read_headers;
use crate::kafka::record_time;
use crate::metrics;
use crate::offset::Offset;
use crate::outage::Outage;
use crate::progress::BOARD;
use crate::store::StreamId;
use crate::store::events::Fingerprinter;
use crate::store::write::batch::Reading;
use crate::store::write::commit::{Outcome, ShareResult};
use crate::time::{Length, Timestamp};

use trouble::{Halted, Looking};

/// How many records are polled before anything else is looked at.
const POLLS_PER_ROUND: usize = 512;
/// A writer that is busy for so long gets the consumer paused, so that it can keep polling.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a stopping processor waits for the batch in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a processor that stops waits for its group to take its offsets.
const LAST_OFFSETS: Duration = Duration::from_secs(8);

/// Whom the loop talks to.
pub struct Parts {
    pub member: Member,
    pub writers: Writers,
    pub scout: Scout,
    pub schemas: Schemas,
    pub watch: Watch,
}

/// See the module.
pub struct Pump<'a> {
    settings: &'a Settings,
    member: Member,
    writers: Writers,
    scout: Scout,
    schemas: Schemas,
    watch: Watch,
    decoder: Decoder,
    fingerprinter: Fingerprinter,
    flood: Flood,
    reporter: Reporter,
    /// The partitions that are being read.
    assigned: HashMap<i32, Assigned>,
    streams: HashMap<StreamId, i32>,
    claims: Claims,
    batches: Batches,
    bounds: Bounds,
    /// Since when a writer has been busy while a full batch waits for it.
    busy_since: Option<Instant>,
    paused: bool,
    /// The committed positions of what is ours, and whether some have not been told to Kafka.
    committed: BTreeMap<i32, Offset>,
    untold: bool,
    offsets_told: Instant,
    no_broker: Outage,
    /// No broker lets us in.
    refused: Outage,
    clock_behind: Outage,
    /// No broker was to be reached when it was last looked.
    is_away: bool,
    /// Partitions of which it was last shown that they wait for their log.
    named: BTreeSet<i32>,
    ends_shown: Instant,
    /// With `until_end`: the end of each partition that has records.
    ends: BTreeMap<i32, Offset>,
    /// Partitions that have been read to an end at least once.
    read_to_end: BTreeSet<i32>,
    positions_asked: Instant,
    /// Positions of partitions that others count: are they within their logs?
    checked: Option<BTreeMap<i32, Offset>>,
    reached_end: bool,
    /// Partitions that are not read on, since what comes next cannot be read.
    halted: BTreeMap<i32, Halted>,
    /// The word for why no partition is ours, as it was said.
    outside: Option<String>,
    looking: Looking,
    tried_again: Instant,
    /// A broker has said that an offset is not in its log.
    positions_doubted: bool,
    positions_looked_at: Option<Instant>,
}

impl<'a> Pump<'a> {
    /// A pump that has polled nothing yet. `ends`: where each partition that has records ends, if
    /// it is to stop there.
    pub fn new(
        settings: &'a Settings,
        Parts {
            member,
            writers,
            scout,
            schemas,
            watch,
        }: Parts,
        bounds: Bounds,
        decoder: Decoder,
        fingerprinter: Fingerprinter,
        ends: BTreeMap<i32, Offset>,
    ) -> Pump<'a> {
        Pump {
            settings,
            member,
            batches: Batches::new(
                writers.count(),
                settings.batch_events,
                bounds,
                settings.linger,
            ),
            writers,
            scout,
            schemas,
            watch,
            bounds,
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
            no_broker: Outage::default(),
            refused: Outage::default(),
            clock_behind: Outage::default(),
            is_away: false,
            named: BTreeSet::new(),
            ends_shown: Instant::now(),
            ends,
            read_to_end: BTreeSet::new(),
            positions_asked: Instant::now(),
            checked: None,
            reached_end: false,
            halted: BTreeMap::new(),
            outside: None,
            looking: Looking::Not,
            tried_again: Instant::now(),
            positions_doubted: false,
            positions_looked_at: None,
        }
    }

    /// Runs until `stop` is set or the ends are committed.
    ///
    /// # Errors
    /// When the processor must halt.
    pub fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let ended = self.go(stop);
        if let Err(why) = &ended {
            self.watch.last_words(why);
        }
        ended
    }

    fn go(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) && !self.reached_end {
            self.follow_group()?;
            self.take_found()?;
            self.take_schemas();
            self.take_seen();
            while let Some(reply) = self.writers.try_reply() {
                self.take_reply(reply)?;
            }
            if self.writers.are_dead() {
                bail!("a writer thread has died; this is a bug, and nothing was lost");
            }
            self.hand_over(false);
            if self.batches.room() == 0 {
                self.await_writer()?;
            } else {
                self.go_on()?;
                self.poll()?;
            }
            self.tell();
            self.try_again()?;
            self.look_at_positions();
            self.watch_end();
        }
        Ok(())
    }

    /// Polls records until the batch is full, nothing more is there, or it is time to look around.
    fn poll(&mut self) -> anyhow::Result<()> {
        let may_write = |writer| !self.claims.under_way() && self.writers.is_idle(writer);
        let mut timeout = self.batches.may_wait(may_write);
        let mut now = Timestamp::now();
        let mut stamp = None;
        for _ in 0..POLLS_PER_ROUND.min(self.batches.room()) {
            // Borrowed from the consumer alone, so that the rest of `self` stays usable.
            let member = &self.member;
            match member.poll(timeout) {
                None => break,
                Some(Ok(message)) => {
                    if !timeout.is_zero() {
                        now = Timestamp::now();
                        timeout = Duration::ZERO;
                        self.reporter.record_came();
                    }
                    if stamp.is_none() {
                        stamp = message.timestamp().to_millis();
                    }
                    let assigned = self.assigned.get_mut(&message.partition());
                    let Some(assigned) = assigned else { continue };
                    let taken = take_in(
                        &message,
                        assigned,
                        &mut self.batches,
                        &mut self.decoder,
                        &mut self.schemas,
                        &self.fingerprinter,
                        now,
                    )?;
                    let is_heavy = self.batches.is_heavy(message.partition());
                    let reason = match taken {
                        Taken::Before => continue,
                        Taken::Lacks(_) => {
                            self.await_schema(message.partition());
                            continue;
                        }
                        Taken::Counted => None,
                        Taken::Dead(reason) => Some(reason),
                    };
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
                    if is_heavy {
                        break;
                    }
                }
                Some(Err(error)) => self.heed(&error)?,
            }
        }
        if let Some(millis) = stamp {
            self.compare_clocks(Timestamp::EPOCH + Length::MILLISECOND.times(millis), now);
        }
        Ok(())
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
                apart,
                emptied,
            } => {
                self.batches.keep_apart(apart);
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
            Reply::Halted(why) => return Err(why),
            Reply::Positions(positions) => self.compare_ends(positions.into_iter().collect())?,
        }
        Ok(())
    }

    fn take_result(&mut self, result: ShareResult) {
        let partition = self.streams.get(&result.stream).copied();
        match result.outcome {
            Outcome::Committed(mut committed) => {
                self.reporter.committed(&committed);
                if let Some(partition) = partition {
                    self.committed.insert(partition, committed.next_offset);
                    self.untold = true;
                    BOARD.counted(partition, committed.next_offset);
                    if let Some(assigned) = self.assigned.get_mut(&partition) {
                        assigned.own(std::mem::take(&mut committed.owned));
                    }
                }
            }
            Outcome::Lost => {
                metrics::FENCED.inc();
                let Some(partition) = partition else {
                    log::info!(
                        "a partition that was revoked was claimed by its next owner; dropped what was not written"
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
            Outcome::Reset(reading) => {
                if let Some(partition) = partition {
                    let why = match reading {
                        Reading::Usual => "a campaign moved to another partition, or was erased",
                        Reading::Careful => "a sum is near its limit",
                    };
                    log::warn!(
                        "partition {partition}: {why}; reading again from the stored position"
                    );
                    self.stop_reading(partition);
                    self.claims.again(partition, reading);
                }
            }
        }
    }

    /// Hands the batches that are due to their writers: none while a claim is under way, whose answer may be
    /// that this is not the log that was counted.
    fn hand_over(&mut self, now: bool) {
        loop {
            let may_write = |writer| !self.claims.under_way() && self.writers.is_idle(writer);
            let due = self.batches.take_due(may_write, now);
            let Some((writer, records)) = due else { return };
            let batches = &self.batches;
            let shares: Vec<_> = self
                .assigned
                .iter_mut()
                .filter(|(partition, _)| batches.writer_of(**partition) == writer)
                .filter_map(|(_, assigned)| assigned.take_share())
                .collect();
            if !shares.is_empty() {
                metrics::BATCH_EVENTS.observe(records as f64);
                self.writers.send(writer, Request::Write(shares));
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
            match member.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    if let Some(assigned) = self.assigned.get_mut(&message.partition()) {
                        let taken = take_in(
                            &message,
                            assigned,
                            &mut self.batches,
                            &mut self.decoder,
                            &mut self.schemas,
                            &self.fingerprinter,
                            Timestamp::now(),
                        )?;
                        if let Taken::Lacks(_) = taken {
                            self.await_schema(message.partition());
                        }
                    }
                }
                Some(Err(error)) => self.heed(&error)?,
                None => {}
            }
        }
        Ok(())
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
        // Nobody else may be there to tell Kafka. While the group rebalances, or its coordinator is away, it
        // takes no offsets, and goes on with that as we poll; what comes to be another's is another's to tell.
        let deadline = Instant::now() + LAST_OFFSETS;
        while !self
            .member
            .commit_offsets(&self.committed, CommitMode::Sync)
            && self.member.reachable()
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
    batches: &mut Batches,
    decoder: &mut Decoder,
    schemas: &mut Schemas,
    fingerprinter: &Fingerprinter,
    now: Timestamp,
) -> anyhow::Result<Taken> {
    let partition = message.partition();
    // One that slipped through after its partition was stopped is read again.
    if schemas.awaited_by(partition) {
        return Ok(Taken::Before);
    }
    let headers = || read_headers(message);
    let record_time = record_time(message);
    // A clock that is behind must not make good events ones of the future: the log's own time counts as well.
    let now = record_time.map_or(now, |time| time.max(now));
    let record = Record {
        offset: Offset::new(message.offset()),
        record_time,
        key: message.key(),
        payload: message.payload(),
        headers: &headers,
    };
    if let Some((found, counted)) = assigned.contradiction(&record) {
        return Err(range::another(
            message.topic(),
            partition,
            record.offset,
            found,
            counted,
        ));
    }
    let before = assigned.load();
    let mut taken = assigned.push(&record, decoder, fingerprinter, now);
    if let Taken::Lacks(id) = taken {
        if schemas.lacks(partition, id, decoder) {
            return Ok(taken);
        }
        taken = assigned.push(&record, decoder, fingerprinter, now);
    }
    if taken != Taken::Before {
        assigned.trace(message);
        batches.change(partition, before, assigned.load());
    }
    Ok(taken)
}
