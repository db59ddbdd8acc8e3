//! The processor's side of Redis: after each commit, the changed campaigns' new sums.
//!
//! A thread of its own, so that a slow Redis slows nothing down. What changes while it is busy is gathered, one entry a
//! campaign. What Redis does not take (it is away, full, a replica, or we may not write) must not be answered from it as
//! if it were fresh: the store's [identity] changes, and no server finds there any more what was written before.
//!
//! [identity]: crate::store::identity

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use redis::{RedisResult, Script};
use tokio::runtime::Runtime;

use super::cause::explained;
use super::redis::{Names, REPLACED_FOREIGN, arguments, encode, set_if_newer};
use super::servers::{Connection, Servers};
use crate::outage::Outage;
use crate::pause::within;
use crate::store::read::insights::{self, CampaignSums};
use crate::store::{self, Limits, identity};
use crate::traces;

/// Campaigns read and written at a time.
const CHUNK: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(500);
/// How long a stopping refresher tries to hand over what is left.
const LAST_TRY: Duration = Duration::from_secs(3);

/// Campaigns that changed, and the traces of the batch that changed them.
struct Change {
    campaigns: Vec<Arc<str>>,
    traces: traces::Following,
}

/// Where changed campaigns are reported.
#[derive(Clone)]
pub struct Changes(Sender<Change>);

impl Changes {
    /// Reports them, and that the cache follows the batch that this thread writes.
    ///
    /// # Errors
    /// The campaigns, when the refresher has ended.
    pub fn send(&self, campaigns: Vec<Arc<str>>) -> Result<(), SendError<Vec<Arc<str>>>> {
        let traces = traces::following();
        let sent = self.0.send(Change { campaigns, traces });
        sent.map_err(|SendError(change)| SendError(change.campaigns))
    }
}

/// See the module. Stops, with what it has handed over, when dropped.
pub struct Refresher {
    changes: Option<Changes>,
    /// Until when it may go on, once it is to stop.
    end: Arc<OnceLock<Instant>>,
    thread: Option<JoinHandle<()>>,
}

impl Refresher {
    /// Starts the thread. Neither server needs to be there yet.
    ///
    /// # Errors
    /// When the system gives us no thread.
    pub fn start(servers: &Servers, database_url: &str) -> anyhow::Result<Refresher> {
        let redis = Redis {
            servers: servers.clone(),
            connection: None,
            script: Arc::new(set_if_newer()),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
        };
        let (changes, incoming) = channel();
        let end = Arc::<OnceLock<Instant>>::default();
        let database_url = database_url.to_owned();
        let thread = std::thread::Builder::new()
            .name("refresher".into())
            .spawn({
                let end = Arc::clone(&end);
                move || {
                    Work {
                        end,
                        redis,
                        database_url,
                        database: None,
                        has_said_foreign: false,
                        changed: HashSet::new(),
                        traces: traces::Following::default(),
                        outage: Outage::default(),
                    }
                    .run(&incoming);
                }
            })?;
        Ok(Refresher {
            changes: Some(Changes(changes)),
            end,
            thread: Some(thread),
        })
    }

    /// Where to report changed campaigns.
    pub fn changes(&self) -> Option<Changes> {
        self.changes.clone()
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        let _ = self.end.set(Instant::now() + LAST_TRY);
        self.changes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the refresher thread panicked");
        }
    }
}

struct Work {
    redis: Redis,
    database_url: String,
    database: Option<PgConnection>,
    has_said_foreign: bool,
    changed: HashSet<Arc<str>>,
    /// Of the batches that changed them.
    traces: traces::Following,
    outage: Outage,
    end: Arc<OnceLock<Instant>>,
}

impl Work {
    fn run(&mut self, incoming: &Receiver<Change>) {
        loop {
            let first = if self.changed.is_empty() {
                incoming.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                // The database failed: the pause, unless there is more to gather.
                incoming.recv_timeout(PAUSE)
            };
            match first {
                Ok(change) => self.take(change),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let mut is_done = || self.changed.is_empty() || self.refresh().is_ok();
                    let ask = || Ok::<_, Infallible>(is_done().then_some(()));
                    let refreshed = within(LAST_TRY, PAUSE, ask);
                    self.traces.ended(match refreshed {
                        Ok(Some(())) => Ok(()),
                        _ => Err("it was time to stop".to_owned()),
                    });
                    return;
                }
            }
            while let Ok(change) = incoming.try_recv() {
                self.take(change);
            }
            if let Err(error) = self.refresh() {
                if self.changed.is_empty() {
                    self.traces.ended(Err(format!("{error:#}")));
                } else {
                    self.database = None;
                }
                self.outage.failed(format_args!(
                    "refreshing the shared cache failed ({error:#}); retrying, and what it holds is not used meanwhile"
                ));
                // So that the identity does not change with each commit.
                std::thread::sleep(PAUSE);
            } else {
                self.traces.ended(Ok(()));
                self.outage
                    .ended(format_args!("the shared cache is up to date again"));
            }
        }
    }

    fn take(&mut self, change: Change) {
        self.changed.extend(change.campaigns);
        self.traces.join(change.traces);
    }

    /// Brings Redis up to date with the changed campaigns. If it does not take all of them, or not before the end, everything
    /// in it is disowned. Either way they are forgotten.
    fn refresh(&mut self) -> anyhow::Result<()> {
        while !self.changed.is_empty() {
            let database = match &mut self.database {
                Some(database) => database,
                None => self
                    .database
                    .insert(store::connect(&self.database_url, Limits::API)?),
            };
            if self.end.get().is_some_and(|end| *end <= Instant::now()) {
                identity::raise_generation(database)?;
                self.changed.clear();
                break;
            }
            // Before the sums: whoever changes it meanwhile has them in mind.
            let names = Names::of(identity::identity(database)?);
            let chunk: Vec<Arc<str>> = self.changed.iter().take(CHUNK).cloned().collect();
            let campaigns: Vec<&str> = chunk.iter().map(AsRef::as_ref).collect();
            // Read after the commit, so at least as new as what was reported.
            let sums = insights::totals(database, &campaigns)?;
            match self.redis.put(&names, &campaigns, &sums) {
                Ok(replaced_foreign) => {
                    if replaced_foreign && !std::mem::replace(&mut self.has_said_foreign, true) {
                        log::warn!(
                            "Redis: under a name such as {} stood what adflux did not write; it was replaced",
                            names.insight("…")
                        );
                    }
                    for campaign in &chunk {
                        self.changed.remove(campaign);
                    }
                }
                Err(error) => {
                    // All was committed before, so whoever reads under the new identity reads it.
                    identity::raise_generation(database)?;
                    self.changed.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

struct Redis {
    servers: Servers,
    connection: Option<Connection>,
    script: Arc<Script>,
    /// Does nothing while we do not wait for it.
    runtime: Runtime,
}

impl Redis {
    /// Puts sums under these names, unless newer ones are there, and tells the servers. `true` if that replaced something
    /// that is not ours.
    fn put(
        &mut self,
        names: &Names,
        campaigns: &[&str],
        sums: &[CampaignSums],
    ) -> anyhow::Result<bool> {
        let runs = sums.iter().map(|sums| {
            let (commit_id, json) = encode(sums);
            let key = names.insight(&sums.campaign_id);
            (key, arguments(commit_id, json))
        });
        let (runs, message) = (runs.collect(), campaigns.join(","));
        let (servers, script, held) = (&self.servers, &self.script, self.connection.take());
        let putting = async {
            let mut connection = match held {
                Some(connection) => connection,
                None => within_reason(servers.connect()).await?,
            };
            let told = connection.run_and_tell(script, runs, names.channel(), message);
            let results = within_reason(told).await?;
            anyhow::Ok((connection, results))
        };
        let (connection, results) = self.runtime.block_on(putting)?;
        // One that failed is not held any more.
        self.connection = Some(connection);
        Ok(results.contains(&REPLACED_FOREIGN))
    }
}

async fn within_reason<T>(asked: impl Future<Output = RedisResult<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(answered) => answered.map_err(|error| anyhow::Error::msg(explained(&error))),
        Err(_) => anyhow::bail!("Redis does not answer within {} s", TIMEOUT.as_secs()),
    }
}
