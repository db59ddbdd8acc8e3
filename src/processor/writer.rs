//! The writer thread: the only one that talks to the database, over one connection.
//!
//! It takes one request at a time and answers each exactly once, in order. A database that is away
//! is retried for as long as it takes, with growing pauses, and said once; the loop in the
//! meantime keeps the consumer in its group. While a batch is being written the next one fills.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::connection::SimpleConnection;

use crate::crash;
use crate::store::batch::{Fingerprinter, Share};
use crate::store::commit::{Outcome, ShareResult, commit};
use crate::store::positions::{self, Claim, Partition};
use crate::store::{self, Limits, StoreError, blocks};

use super::recent::Recent;
use super::{Changed, Listener};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A partition that the group has given us.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    pub partition: i32,
    /// The oldest offset of its log, where a partition never seen before starts, and the end.
    pub log_range: (i64, i64),
    pub careful: bool,
}

/// What the loop asks for.
pub enum Request {
    /// Write these shares.
    Write(Vec<Share>),
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
    },
    Claimed {
        claimed: Claimed,
        claim: Claim,
        recent: Box<Recent>,
    },
    Positions(Vec<(i32, i64)>),
}

/// What the writer needs to know.
pub struct Settings {
    pub database_url: String,
    pub cluster_id: String,
    pub topic: String,
    /// Who we are, for people who look into `stream_positions`.
    pub owner: String,
    /// Events remembered per partition.
    pub recent_events: usize,
    pub fingerprinter: Fingerprinter,
    /// Told of every commit, right after it.
    pub listener: Option<Listener>,
}

/// The loop's end of the writer.
pub struct Writer {
    requests: Option<Sender<Request>>,
    replies: Receiver<Reply>,
    outstanding: usize,
    abandon: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. It connects with the first request.
    ///
    /// # Errors
    /// When the system gives us no thread.
    pub fn start(settings: Settings) -> std::io::Result<Writer> {
        let (requests, incoming) = channel();
        let (outgoing, replies) = channel();
        let abandon = Arc::new(AtomicBool::new(false));
        let abandoned = Arc::clone(&abandon);
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                let mut work = Work {
                    settings,
                    connection: None,
                    abandoned,
                };
                for request in incoming {
                    let Some(reply) = work.answer(request) else {
                        return;
                    };
                    if outgoing.send(reply).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Writer {
            requests: Some(requests),
            replies,
            outstanding: 0,
            abandon,
            thread: Some(thread),
        })
    }

    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Queues a request.
    pub fn send(&mut self, request: Request) {
        if let Some(requests) = &self.requests
            && requests.send(request).is_ok()
        {
            self.outstanding += 1;
        }
    }

    /// An answer, if there is one.
    pub fn try_reply(&mut self) -> Option<Reply> {
        let reply = self.replies.try_recv().ok()?;
        self.outstanding -= 1;
        Some(reply)
    }

    /// Waits for an answer.
    pub fn wait_reply(&mut self, timeout: Duration) -> Option<Reply> {
        if self.outstanding == 0 {
            return None;
        }
        match self.replies.recv_timeout(timeout) {
            Ok(reply) => {
                self.outstanding -= 1;
                Some(reply)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whether the thread has died, which only a panic in it can cause.
    pub fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Writer {
    /// Gives up what is being retried and waits for the thread.
    fn drop(&mut self) {
        self.abandon.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the writer thread panicked");
        }
    }
}

struct Work {
    settings: Settings,
    connection: Option<PgConnection>,
    abandoned: Arc<AtomicBool>,
}

impl Work {
    /// `None` when the loop has gone before the database came back.
    fn answer(&mut self, request: Request) -> Option<Reply> {
        match request {
            Request::Write(mut shares) => {
                let started = Instant::now();
                let prints = self.settings.fingerprinter.clone();
                let results = self.until_done(|c, _| commit(c, &prints, &mut shares))?;
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
                Some(Reply::Written {
                    results,
                    took: started.elapsed(),
                })
            }
            Request::Claim(claimed) => {
                let (claim, recent, campaigns) = self.until_done(|connection, settings| {
                    let partition = Partition {
                        cluster_id: &settings.cluster_id,
                        topic: &settings.topic,
                        partition: claimed.partition,
                    };
                    let claim = positions::claim(
                        connection,
                        partition,
                        claimed.log_range.0,
                        &settings.owner,
                    )?;
                    let (recent, campaigns) = refill(connection, settings, &claim)?;
                    Ok((claim, recent, campaigns))
                })?;
                if let Some(listener) = &self.settings.listener {
                    listener(&Changed {
                        campaigns: &campaigns,
                        records: 0,
                    });
                }
                Some(Reply::Claimed {
                    claimed,
                    claim,
                    recent: Box::new(recent),
                })
            }
            Request::Positions => {
                let positions = self.until_done(|connection, settings| {
                    positions::next_offsets(connection, &settings.cluster_id, &settings.topic)
                })?;
                Some(Reply::Positions(positions))
            }
        }
    }

    fn until_done<T>(
        &mut self,
        mut attempt: impl FnMut(&mut PgConnection, &Settings) -> Result<T, StoreError>,
    ) -> Option<T> {
        let mut failing: Option<(Instant, Duration)> = None;
        loop {
            let result = match &mut self.connection {
                Some(connection) => attempt(connection, &self.settings),
                None => connect(&self.settings.database_url).and_then(|mut connection| {
                    let result = attempt(&mut connection, &self.settings);
                    self.connection = Some(connection);
                    result
                }),
            };
            match (result, failing) {
                (Ok(done), None) => return Some(done),
                (Ok(done), Some((since, _))) => {
                    log::info!(
                        "PostgreSQL is back after {:.1} s",
                        since.elapsed().as_secs_f64()
                    );
                    return Some(done);
                }
                (Err(error), before) => {
                    // Whatever it was, a new connection has no half-done transaction.
                    self.connection = None;
                    if self.abandoned.load(Ordering::Relaxed) {
                        log::warn!(
                            "stopping with a batch that PostgreSQL did not take ({error}); it will be read again"
                        );
                        return None;
                    }
                    let (since, pause) = match before {
                        None => {
                            log::warn!(
                                "{error}; retrying until {} answers again",
                                store::redact(&self.settings.database_url)
                            );
                            (Instant::now(), FIRST_PAUSE)
                        }
                        Some((since, pause)) => {
                            log::debug!("still: {error}");
                            (since, LONGEST_PAUSE.min(pause * 2))
                        }
                    };
                    failing = Some((since, pause));
                    self.pause(pause);
                }
            }
        }
    }

    /// Waits, but not once the loop has gone.
    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.abandoned.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
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
