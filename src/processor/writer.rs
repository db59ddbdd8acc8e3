//! The writers: threads with a connection each, and the only ones that talk to the database.
//!
//! Each partition has its writer, so two of them are to each other as two processors are. A writer takes
//! one request at a time and answers each exactly once, in order. A database that is away is retried
//! for as long as it takes, with growing pauses, and said once; one that is not as it must be for a while
//! ([`standstill`](super::standstill)); the loop in the meantime keeps the consumer in its group. While a batch
//! is being written the next one fills.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::connection::SimpleConnection;

use crate::event::Count;
use crate::offset::{LogRange, Offset};
use crate::outage::{Outage, Turn};
use crate::pause::{Backoff, pause};
use crate::progress::{BOARD, Cause, Side};
use crate::store::events::{Columns, Fingerprinter};
use crate::store::keep::carry;
use crate::store::write::batch::{Filled, Reading};
use crate::store::write::check_rights;
use crate::store::write::commit::{Outcome, ShareResult, commit};
use crate::store::write::positions::{Claim, Partition, claim, skip};
use crate::store::{self, Limits, Remedy, StoreError, StreamId, blocks, positions};
use crate::{crash, metrics, traces};

use super::pace::Pace;
use super::recent::Recent;
use super::standstill::Standstill;
use super::{Changed, Listener};

/// A partition that the group has given us.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    pub partition: i32,
    /// Its log: where a partition never seen before starts.
    pub log_range: LogRange,
    pub reading: Reading,
}

/// What the loop asks for.
pub enum Request {
    /// Write these shares.
    Write(Vec<Filled>),
    /// Claim this partition and refill its memory.
    Claim(Claimed),
    /// How far has every partition of the topic been counted, by whomever?
    Positions,
}

/// The answer to a [`Request`].
pub enum Reply {
    Written {
        results: Vec<ShareResult>,
        took: Duration,
        /// How long the next batch has to wait for more.
        apart: Duration,
        /// The columns of the shares, to be filled again.
        emptied: Vec<(StreamId, Columns)>,
    },
    Claimed {
        claimed: Claimed,
        claim: Claim,
        recent: Box<Recent>,
    },
    Positions(Vec<(i32, Offset)>),
    /// The database is not as it must be, and has not been for too long.
    Halted(anyhow::Error),
}

/// Why a request has no answer of its own.
enum Ended {
    /// The loop has gone before the database came back.
    Abandoned,
    Halted(anyhow::Error),
}

/// What the writers need to know.
pub struct Settings {
    pub database_url: String,
    pub cluster_id: String,
    pub topic: String,
    /// When retention has deleted what was not counted: go on behind it.
    pub accept_loss: bool,
    /// Who we are, for people who look into `stream_positions`.
    pub owner: String,
    /// How long a standstill may last.
    pub halt_after: Duration,
    /// Events remembered per partition.
    pub recent_events: usize,
    pub fingerprinter: Fingerprinter,
    /// Told of every commit, right after it.
    pub listener: Option<Listener>,
}

/// The loop's end of the writers.
pub struct Writers {
    threads: Vec<Writer>,
    /// Whose answer it is, and the answer.
    replies: Receiver<(usize, Reply)>,
    abandon: Arc<AtomicBool>,
}

struct Writer {
    requests: Option<Sender<Request>>,
    outstanding: usize,
    thread: Option<JoinHandle<()>>,
}

impl Writers {
    /// Starts so many threads, at least one. Each connects with its first request.
    ///
    /// # Errors
    /// When the system gives us no thread.
    pub fn start(count: usize, settings: Settings) -> std::io::Result<Writers> {
        let settings = Arc::new(settings);
        let (outgoing, replies) = channel();
        let abandon = Arc::new(AtomicBool::new(false));
        let outage = Arc::<Outage>::default();
        let held = Arc::<Outage>::default();
        let threads = (0..count.max(1)).map(|which| {
            let (requests, incoming) = channel();
            let outgoing = outgoing.clone();
            let mut work = Work {
                pace: Pace::default(),
                held: Arc::clone(&held),
                settings: Arc::clone(&settings),
                connection: None,
                turn: Turn::default(),
                abandoned: Arc::clone(&abandon),
                outage: Arc::clone(&outage),
                partitions: HashMap::new(),
                standstill: None,
                written: 0,
            };
            let thread = std::thread::Builder::new()
                .name(format!("writer-{which}"))
                .spawn(move || {
                    for request in incoming {
                        let reply = match work.answer(request) {
                            Ok(reply) => reply,
                            Err(Ended::Halted(why)) => Reply::Halted(why),
                            Err(Ended::Abandoned) => return,
                        };
                        if outgoing.send((which, reply)).is_err() {
                            return;
                        }
                    }
                })?;
            Ok(Writer {
                requests: Some(requests),
                outstanding: 0,
                thread: Some(thread),
            })
        });
        Ok(Writers {
            threads: threads.collect::<std::io::Result<_>>()?,
            replies,
            abandon,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Whether one of them has nothing to do.
    pub fn is_idle(&self, which: usize) -> bool {
        self.threads.get(which).is_none_or(|w| w.outstanding == 0)
    }

    /// Whether none has anything to do.
    pub fn are_idle(&self) -> bool {
        self.threads.iter().all(|w| w.outstanding == 0)
    }

    /// Queues a request.
    pub fn send(&mut self, which: usize, request: Request) {
        if let Some(writer) = self.threads.get_mut(which)
            && let Some(requests) = &writer.requests
            && requests.send(request).is_ok()
        {
            writer.outstanding += 1;
        }
    }

    /// An answer, if there is one.
    pub fn try_reply(&mut self) -> Option<Reply> {
        let (which, reply) = self.replies.try_recv().ok()?;
        self.answered(which);
        Some(reply)
    }

    /// Waits for an answer.
    pub fn wait_reply(&mut self, timeout: Duration) -> Option<Reply> {
        if self.are_idle() {
            return None;
        }
        let (which, reply) = self.replies.recv_timeout(timeout).ok()?;
        self.answered(which);
        Some(reply)
    }

    fn answered(&mut self, which: usize) {
        if let Some(writer) = self.threads.get_mut(which) {
            writer.outstanding -= 1;
        }
    }

    /// Whether a thread has died, which only a panic in it can cause.
    pub fn are_dead(&self) -> bool {
        let finished = |w: &Writer| w.thread.as_ref().is_none_or(JoinHandle::is_finished);
        self.threads.iter().any(finished)
    }
}

impl Drop for Writers {
    /// Gives up what is being retried and waits for the threads.
    fn drop(&mut self) {
        self.abandon.store(true, Ordering::Relaxed);
        for writer in &mut self.threads {
            writer.requests = None;
        }
        for writer in &mut self.threads {
            if let Some(thread) = writer.thread.take()
                && thread.join().is_err()
            {
                log::error!("a writer thread panicked");
            }
        }
    }
}

struct Work {
    settings: Arc<Settings>,
    connection: Option<PgConnection>,
    /// The turn of the outage in which the connection was begun.
    turn: Turn,
    abandoned: Arc<AtomicBool>,
    outage: Arc<Outage>,
    /// What was claimed here.
    partitions: HashMap<StreamId, i32>,
    standstill: Option<Standstill>,
    /// Batches, so far.
    written: u32,
    pace: Pace,
    /// That somebody holds a snapshot.
    held: Arc<Outage>,
}

/// After how many batches it is looked how many parts of sums wait.
const KEEP_UP_EVERY: u32 = 16;

impl Work {
    fn answer(&mut self, request: Request) -> Result<Reply, Ended> {
        match request {
            Request::Write(shares) => {
                let started = Instant::now();
                let prints = self.settings.fingerprinter.clone();
                let partitions: Vec<i32> = shares
                    .iter()
                    .filter_map(|share| self.partitions.get(&share.stream).copied())
                    .collect();
                let batch = traces::Batch::begin(&shares);
                let results = self.until_done(&partitions, |c, _| commit(c, &prints, &shares))?;
                batch.ended(&shares, &results);
                crash::point("before-notice");
                if let Some(listener) = &self.settings.listener {
                    for result in &results {
                        if let Outcome::Committed(committed) = &result.outcome {
                            let (campaigns, records) = (&committed.campaigns, committed.records);
                            listener(&Changed { campaigns, records });
                        }
                    }
                }
                crash::point("after-notice");
                self.written += 1;
                if self.written.is_multiple_of(KEEP_UP_EVERY) {
                    let streams: Vec<StreamId> = shares.iter().map(|share| share.stream).collect();
                    self.until_done(&partitions, |c, _| carry::keep_up(c, &streams))?;
                }
                let took = started.elapsed();
                let mut pace = std::mem::take(&mut self.pace);
                let held = Arc::clone(&self.held);
                let apart = self.until_done(&partitions, |c, _| pace.look(c, &held))?;
                self.pace = pace;
                Ok(Reply::Written {
                    results,
                    took,
                    apart,
                    emptied: shares
                        .into_iter()
                        .map(|share| (share.stream, share.emptied()))
                        .collect(),
                })
            }
            Request::Claim(claimed) => {
                let concerned = [claimed.partition];
                let (claim, recent, campaigns) =
                    self.until_done(&concerned, |connection, settings| {
                        let partition = Partition {
                            cluster_id: &settings.cluster_id,
                            topic: &settings.topic,
                            partition: claimed.partition,
                        };
                        let start = claimed.log_range.start;
                        let mut claim = claim(connection, partition, start, &settings.owner)?;
                        let next = claim.fence.next_offset;
                        if settings.accept_loss && next < start {
                            let reason = "deleted before they were counted (--accept-loss)";
                            skip(connection, partition, (next, start), reason, &settings.owner)?;
                            log::warn!(
                                "{}[{}]: {} records were deleted before they were counted; going on from {start} as told",
                                settings.topic,
                                claimed.partition,
                                start.since(next)
                            );
                            claim = self::claim(connection, partition, start, &settings.owner)?;
                        }
                        let (recent, campaigns) = refill(connection, settings, &claim)?;
                        Ok((claim, recent, campaigns))
                    })?;
                self.partitions.insert(claim.stream, claimed.partition);
                if let Some(listener) = &self.settings.listener {
                    listener(&Changed {
                        campaigns: &campaigns,
                        records: Count::ZERO,
                    });
                }
                Ok(Reply::Claimed {
                    claimed,
                    claim,
                    recent: Box::new(recent),
                })
            }
            Request::Positions => {
                let positions = self.until_done(&[], |connection, settings| {
                    positions::next_offsets(connection, &settings.cluster_id, &settings.topic)
                })?;
                Ok(Reply::Positions(positions))
            }
        }
    }

    /// Attempts it until it is done. `partitions` stand still if the database refuses it.
    fn until_done<T>(
        &mut self,
        partitions: &[i32],
        mut attempt: impl FnMut(&mut PgConnection, &Settings) -> Result<T, StoreError>,
    ) -> Result<T, Ended> {
        let mut failures = 0;
        let mut was_away = false;
        let settings = Arc::clone(&self.settings);
        loop {
            let result = self.connected().and_then(|c| attempt(c, &settings));
            let error = match result {
                // Only who has failed knows that it is over: another's answer may have been on its way.
                Ok(done) => {
                    if was_away {
                        self.turn = self.outage.ended(format_args!("PostgreSQL is back"));
                    }
                    self.go_on(partitions);
                    return Ok(done);
                }
                Err(error) => error,
            };
            // Whatever it was, a new connection has no half-done transaction.
            self.connection = None;
            let turn = self.turn;
            let error = self.explained(error);
            let remedy = error.remedy();
            metrics::COMMIT_FAILURES
                .with_label_values(&[remedy.as_str()])
                .inc();
            if self.abandoned.load(Ordering::Relaxed) {
                log::warn!(
                    "stopping with a batch that PostgreSQL did not take ({error}); it will be read again"
                );
                return Err(Ended::Abandoned);
            }
            match remedy {
                Remedy::Again => log::debug!("{error}; trying again"),
                Remedy::Stop => self.stand_still(error, partitions)?,
                Remedy::Wait | Remedy::Refuse => {
                    let url = store::redact(&settings.database_url);
                    BOARD.waits(partitions, Side::Database, &waiting_for(&error));
                    let warning = format_args!("{error}; retrying until {url} takes it");
                    if !self.outage.failed_since(turn, warning) {
                        continue;
                    }
                    was_away = true;
                }
            }
            pause(Backoff::SERVER.after(failures), &self.abandoned);
            failures += 1;
        }
    }

    /// The connection, made anew if there is none.
    fn connected(&mut self) -> Result<&mut PgConnection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.turn = self.outage.turn();
                connect(&self.settings.database_url)?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// What a role may not do, a disk that is full and whatever else the server cannot do now look the same: it is asked,
    /// over the connection of the next attempt.
    fn explained(&mut self, error: StoreError) -> StoreError {
        if !error.is_of_no_kind() || error.remedy() == Remedy::Stop {
            return error;
        }
        let asked = self.connected().and_then(|connection| {
            check_rights(connection)?;
            store::check_room(connection)
        });
        match asked {
            Err(told @ (StoreError::Privileges(_) | StoreError::Full(_))) => told,
            _ => error,
        }
    }

    /// The database refuses what it must take.
    fn stand_still(&mut self, error: StoreError, partitions: &[i32]) -> Result<(), Ended> {
        let halt_after = self.settings.halt_after;
        let standstill = self
            .standstill
            .get_or_insert_with(|| Standstill::begin(partitions));
        standstill.goes_on(&error, halt_after);
        if standstill.lasted() >= halt_after {
            return Err(Ended::Halted(standstill.halt(&error)));
        }
        Ok(())
    }

    /// Something was done: if we stood still, that is over.
    fn go_on(&mut self, partitions: &[i32]) {
        if let Some(standstill) = self.standstill.take() {
            BOARD.release(standstill.partitions(), Side::Database);
        }
        BOARD.release(partitions, Side::Database);
    }
}

fn waiting_for(error: &StoreError) -> Cause {
    let name = match error {
        StoreError::Full(_) => error.cause(),
        _ => "postgresql",
    };
    Cause::new(name, error.to_string())
}

fn connect(url: &str) -> Result<PgConnection, StoreError> {
    let mut connection = store::connect(url, Limits::PROCESSOR)?;
    // A plan made for one execution holds a copy of what is bound: megabytes of arrays here, on
    // which no plan depends.
    connection.batch_execute("SET plan_cache_mode = force_generic_plan")?;
    Ok(connection)
}

/// The memory of a partition as the event store has it, and the campaigns in it.
fn refill(
    connection: &mut PgConnection,
    settings: &Settings,
    claim: &Claim,
) -> Result<(Recent, Vec<Arc<str>>), StoreError> {
    let mut recent = Recent::new(settings.recent_events);
    let mut campaigns: HashSet<Arc<str>> = HashSet::new();
    let horizon = blocks::recent(connection, claim.stream, settings.recent_events, |block| {
        for (row, &id) in block.events.event_id.iter().enumerate() {
            // Of restatements, report_rows is the memory.
            if block.events.restated(row).is_some() {
                continue;
            }
            let print = block.fingerprint(row, &settings.fingerprinter);
            recent.remember(id, block.events.event_time[row], print);
        }
        for campaign in &block.campaigns {
            if !campaigns.contains(campaign.as_str()) {
                campaigns.insert(Arc::from(campaign.as_str()));
            }
        }
        Ok(())
    })?;
    recent.raise_horizon(horizon);
    Ok((recent, campaigns.into_iter().collect()))
}
