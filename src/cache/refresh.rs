//! The processor's side of Redis: after each commit, the changed campaigns' new sums.
//!
//! A thread of its own, so that a slow Redis slows nothing down. What changes while it is busy is gathered, one entry a
//! campaign. What Redis does not take (it is away, full, a replica, or we may not write) must not be answered from it as
//! if it were fresh: the store's [identity] changes, and no server finds there any more what was written before.
//!
//! [identity]: crate::store::identity

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diesel::PgConnection;

use super::redis::{BadUrl, Names, REPLACED_FOREIGN, client, encode, expire_seconds, set_if_newer};
use crate::outage::Outage;
use crate::pause::within;
use crate::store::read::insights::{self, CampaignSums};
use crate::store::{self, Limits, identity};

/// Campaigns read and written at a time.
const CHUNK: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(500);
/// How long a stopping refresher tries to hand over what is left.
const LAST_TRY: Duration = Duration::from_secs(3);

/// See the module. Stops, with what it has handed over, when dropped.
pub struct Refresher {
    changes: Option<Sender<Vec<Arc<str>>>>,
    /// Until when it may go on, once it is to stop.
    end: Arc<OnceLock<Instant>>,
    thread: Option<JoinHandle<()>>,
}

impl Refresher {
    /// Starts the thread. Neither server needs to be there yet, and a Redis whose URL cannot be used is one that is away.
    ///
    /// # Errors
    /// When the system gives us no thread.
    pub fn start(redis_url: &str, database_url: &str) -> anyhow::Result<Refresher> {
        let client = client(redis_url);
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
                        client,
                        database_url,
                        database: None,
                        redis: None,
                        has_said_foreign: false,
                        changed: HashSet::new(),
                        outage: Outage::default(),
                    }
                    .run(&incoming);
                }
            })?;
        Ok(Refresher {
            changes: Some(changes),
            end,
            thread: Some(thread),
        })
    }

    /// Where to report changed campaigns.
    pub fn changes(&self) -> Option<Sender<Vec<Arc<str>>>> {
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
    client: Result<redis::Client, BadUrl>,
    database_url: String,
    database: Option<PgConnection>,
    redis: Option<redis::Connection>,
    has_said_foreign: bool,
    changed: HashSet<Arc<str>>,
    outage: Outage,
    end: Arc<OnceLock<Instant>>,
}

impl Work {
    fn run(&mut self, incoming: &Receiver<Vec<Arc<str>>>) {
        loop {
            let first = if self.changed.is_empty() {
                incoming.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                // The database failed: the pause, unless there is more to gather.
                incoming.recv_timeout(PAUSE)
            };
            match first {
                Ok(campaigns) => self.changed.extend(campaigns),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let mut is_done = || self.changed.is_empty() || self.refresh().is_ok();
                    let ask = || Ok::<_, Infallible>(is_done().then_some(()));
                    let _ = within(LAST_TRY, PAUSE, ask);
                    return;
                }
            }
            while let Ok(campaigns) = incoming.try_recv() {
                self.changed.extend(campaigns);
            }
            if let Err(error) = self.refresh() {
                if !self.changed.is_empty() {
                    self.database = None;
                }
                self.outage.failed(format_args!(
                    "refreshing the shared cache failed ({error:#}); retrying, and what it holds is not used meanwhile"
                ));
                // So that the identity does not change with each commit.
                std::thread::sleep(PAUSE);
            } else {
                self.outage
                    .ended(format_args!("the shared cache is up to date again"));
            }
        }
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
            match put(&mut self.redis, &self.client, &names, &campaigns, &sums) {
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
                    self.redis = None;
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

/// Puts sums under these names, unless newer ones are there, and tells the servers. `true` if that replaced something
/// that is not ours.
fn put(
    held: &mut Option<redis::Connection>,
    client: &Result<redis::Client, BadUrl>,
    names: &Names,
    campaigns: &[&str],
    sums: &[CampaignSums],
) -> anyhow::Result<bool> {
    let redis = match held {
        Some(redis) => redis,
        None => held.insert(connect(client)?),
    };
    let script = set_if_newer();
    let mut pipeline = redis::pipe();
    pipeline.load_script(&script).ignore();
    for sums in sums {
        let (commit_id, json) = encode(sums);
        let key = names.insight(&sums.campaign_id);
        pipeline.invoke_script(
            script
                .key(key)
                .arg(commit_id.get())
                .arg(json)
                .arg(expire_seconds()),
        );
    }
    pipeline
        .publish(names.channel(), campaigns.join(","))
        .ignore();
    let results: Vec<i64> = pipeline.query(redis)?;
    Ok(results.contains(&REPLACED_FOREIGN))
}

fn connect(client: &Result<redis::Client, BadUrl>) -> anyhow::Result<redis::Connection> {
    let client = client.as_ref().map_err(BadUrl::clone)?;
    let redis = client.get_connection_with_timeout(TIMEOUT)?;
    redis.set_read_timeout(Some(TIMEOUT))?;
    redis.set_write_timeout(Some(TIMEOUT))?;
    Ok(redis)
}
