//! The processor's side of Redis: after each commit, the changed campaigns' new sums.
//!
//! A thread of its own, so that a slow Redis slows nothing down. What changes while it is busy
//! is gathered, one entry a campaign, and nothing is forgotten until Redis has it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::PgConnection;

use super::redis::{Names, encode, expire_seconds, set_if_newer};
use crate::outage::Outage;
use crate::pause::within;
use crate::store::read::insights;
use crate::store::{self, Limits};

/// Campaigns read and written at a time.
const CHUNK: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);
/// How long a stopping refresher tries to hand over what is left.
const LAST_TRY: Duration = Duration::from_secs(3);

/// See the module. Stops, with what it has handed over, when dropped.
pub struct Refresher {
    changes: Option<Sender<Vec<Arc<str>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Refresher {
    /// Starts the thread. Neither server needs to be there yet.
    ///
    /// # Errors
    /// When the system gives us no thread, or the URL is not one.
    pub fn start(redis_url: &str, database_url: &str) -> anyhow::Result<Refresher> {
        let client = redis::Client::open(redis_url)?;
        let (changes, incoming) = channel();
        let database_url = database_url.to_owned();
        let thread = std::thread::Builder::new()
            .name("refresher".into())
            .spawn(move || {
                Work {
                    client,
                    database_url,
                    links: None,
                    changed: HashSet::new(),
                    outage: Outage::default(),
                }
                .run(&incoming);
            })?;
        Ok(Refresher {
            changes: Some(changes),
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
        self.changes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the refresher thread panicked");
        }
    }
}

struct Links {
    database: PgConnection,
    redis: redis::Connection,
    names: Names,
}

struct Work {
    client: redis::Client,
    database_url: String,
    links: Option<Links>,
    changed: HashSet<Arc<str>>,
    outage: Outage,
}

impl Work {
    fn run(&mut self, incoming: &Receiver<Vec<Arc<str>>>) {
        loop {
            let first = if self.changed.is_empty() {
                incoming.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                // Something failed: the pause, unless there is more to gather.
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
                self.links = None;
                self.outage.failed(format_args!(
                    "refreshing the shared cache failed ({error:#}); retrying"
                ));
            } else {
                self.outage
                    .ended(format_args!("the shared cache is up to date again"));
            }
        }
    }

    /// Brings Redis up to date with the changed campaigns; those that it got are forgotten.
    fn refresh(&mut self) -> anyhow::Result<()> {
        if self.links.is_none() {
            self.links = Some(self.connect()?);
        }
        let Some(links) = &mut self.links else {
            return Ok(());
        };
        while !self.changed.is_empty() {
            let chunk: Vec<Arc<str>> = self.changed.iter().take(CHUNK).cloned().collect();
            let names: Vec<&str> = chunk.iter().map(AsRef::as_ref).collect();
            // Read after the commit, so at least as new as what was reported.
            let sums = insights::totals(&mut links.database, &names)?;
            let script = set_if_newer();
            let mut pipeline = redis::pipe();
            pipeline.load_script(&script).ignore();
            for sums in &sums {
                let (commit_id, json) = encode(sums);
                let key = links.names.insight(&sums.campaign_id);
                pipeline
                    .invoke_script(
                        script
                            .key(key)
                            .arg(commit_id.get())
                            .arg(json)
                            .arg(expire_seconds()),
                    )
                    .ignore();
            }
            pipeline
                .publish(links.names.channel(), names.join(","))
                .ignore();
            pipeline.query::<()>(&mut links.redis)?;
            for campaign in &chunk {
                self.changed.remove(campaign);
            }
        }
        Ok(())
    }

    fn connect(&self) -> anyhow::Result<Links> {
        let redis = self.client.get_connection_with_timeout(TIMEOUT)?;
        redis.set_read_timeout(Some(TIMEOUT))?;
        redis.set_write_timeout(Some(TIMEOUT))?;
        let mut database = store::connect(&self.database_url, Limits::API)?;
        let names = Names::of(insights::store_id(&mut database)?);
        Ok(Links {
            database,
            redis,
            names,
        })
    }
}
