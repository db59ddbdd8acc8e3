//! Where insights are answered from: the process's memory, then Redis, then PostgreSQL.
//!
//! ```text
//! request → process cache ──miss──▶ Redis ──miss──▶ PostgreSQL
//!               ▲ outdated            ▲ set if newer     │
//!               └──── commit notices ─┴── refresher ◀────┘ after each commit
//! ```
//!
//! The cache can be old, never wrong. An entry carries the id of the commit it was read after, and
//! an older one never replaces a newer one, here or in Redis. Notices of commits make an entry
//! outdated at once; should they be lost, it is checked again after `fresh_for` anyway. With Redis
//! gone answers come from PostgreSQL, with PostgreSQL gone from here, marked stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;
use moka::ops::compute;
use tokio::sync::{mpsc, watch};

use crate::database::{Database, Unavailable};
use crate::store::insights::{self, CampaignSums, Window};

pub mod answers;
pub mod redis;
pub mod refresh;

use self::redis::SharedCache;

/// Where an answer came from: the `X-Cache` header, and a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Process,
    Redis,
    Database,
    /// The process cache, because nothing behind it answered.
    Stale,
}

impl Source {
    /// As it stands in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Process => "process",
            Source::Redis => "redis",
            Source::Database => "database",
            Source::Stale => "stale",
        }
    }
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    campaign: Arc<str>,
    /// None: all time. Only these are in Redis.
    window: Option<Window>,
}

/// An answer; none: there is no such campaign.
struct Entry {
    sums: Option<Arc<CampaignSums>>,
    checked: Instant,
    generation: u64,
    outdated: AtomicBool,
    source: Source,
}

impl Entry {
    fn commit_id(&self) -> i64 {
        self.sums
            .as_ref()
            .map_or(i64::MIN, |s| s.freshness.commit_id)
    }
}

/// An answer and where it came from.
#[derive(Clone, Debug)]
pub struct Answer {
    pub sums: Option<Arc<CampaignSums>>,
    pub source: Source,
}

/// See the module.
pub struct InsightCache {
    entries: Cache<Key, Arc<Entry>>,
    database: Database,
    shared: Option<Arc<SharedCache>>,
    fresh_for: Duration,
    /// Rises when notices may have been missed: everything older must be checked.
    generation: AtomicU64,
    /// Rings after each notice.
    changes: watch::Sender<()>,
}

/// Tells which campaigns have changed.
#[derive(Clone, Debug)]
pub enum Notice {
    Changed(Vec<Arc<str>>),
    /// Notices may have been missed.
    Anything,
}

/// The most answers kept, and how long one that nobody asks for is.
const MAX_ENTRIES: u64 = 200_000;
const KEPT_UNASKED: Duration = Duration::from_secs(600);

impl InsightCache {
    /// An empty cache before `database` and, if there is one, `shared`.
    pub fn new(
        database: Database,
        shared: Option<Arc<SharedCache>>,
        fresh_for: Duration,
    ) -> InsightCache {
        InsightCache {
            entries: Cache::builder()
                .max_capacity(MAX_ENTRIES)
                .time_to_idle(KEPT_UNASKED)
                .build(),
            database,
            shared,
            fresh_for,
            generation: AtomicU64::new(0),
            changes: watch::Sender::new(()),
        }
    }

    /// Tells, soon after a notice, that something has changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// How long an answer may go unchecked.
    pub fn fresh_for(&self) -> Duration {
        self.fresh_for
    }

    /// The sums of a campaign over a window, or over all time.
    ///
    /// # Errors
    /// [`Unavailable`] when nothing behind the cache answers and it holds nothing itself.
    pub async fn get(&self, campaign: &str, window: Option<Window>) -> Result<Answer, Unavailable> {
        let key = Key {
            campaign: Arc::from(campaign),
            window,
        };
        if let Some(entry) = self.entries.get(&key).await
            && self.is_fresh(&entry)
        {
            return Ok(Answer {
                sums: entry.sums.clone(),
                source: Source::Process,
            });
        }
        // One look-up per key at a time; whoever waited finds the answer of the first.
        let result = self
            .entries
            .entry_by_ref(&key)
            .and_try_compute_with(|held| async {
                let held = held.map(moka::Entry::into_value);
                if let Some(entry) = &held
                    && self.is_fresh(entry)
                {
                    return Ok(compute::Op::Nop);
                }
                let entry = self.load(&key).await?;
                // A slow reader must not put back what a faster one has replaced.
                let entry = match held {
                    Some(newer) if newer.commit_id() > entry.commit_id() => Entry {
                        sums: newer.sums.clone(),
                        ..entry
                    },
                    _ => entry,
                };
                Ok::<_, Unavailable>(compute::Op::Put(Arc::new(entry)))
            })
            .await;
        match result {
            Ok(compute::CompResult::Inserted(entry) | compute::CompResult::ReplacedWith(entry)) => {
                let entry = entry.into_value();
                Ok(Answer {
                    sums: entry.sums.clone(),
                    source: entry.source,
                })
            }
            Ok(compute::CompResult::Unchanged(entry)) => Ok(Answer {
                sums: entry.into_value().sums.clone(),
                source: Source::Process,
            }),
            Ok(compute::CompResult::StillNone(_) | compute::CompResult::Removed(_)) => {
                Err(Unavailable::Busy)
            }
            Err(unavailable) => match self.entries.get(&key).await {
                Some(entry) if entry.sums.is_some() => Ok(Answer {
                    sums: entry.sums.clone(),
                    source: Source::Stale,
                }),
                _ => Err(unavailable),
            },
        }
    }

    fn is_fresh(&self, entry: &Entry) -> bool {
        !entry.outdated.load(Ordering::Acquire)
            && entry.generation == self.generation.load(Ordering::Acquire)
            && entry.checked.elapsed() < self.fresh_for
    }

    async fn load(&self, key: &Key) -> Result<Entry, Unavailable> {
        // Read before asking: a notice that comes while we ask makes the answer outdated again.
        let generation = self.generation.load(Ordering::Acquire);
        let checked = Instant::now();
        let entry = |sums, source| Entry {
            sums,
            checked,
            generation,
            outdated: AtomicBool::new(false),
            source,
        };
        if key.window.is_none()
            && let Some(shared) = &self.shared
            && let Some(sums) = shared.get(&key.campaign).await
        {
            return Ok(entry(Some(Arc::new(sums)), Source::Redis));
        }
        let (campaign, window) = (Arc::clone(&key.campaign), key.window);
        let sums = self
            .database
            .read(move |connection| insights::campaign(connection, &campaign, window))
            .await?
            .map(Arc::new);
        if let (None, Some(shared), Some(sums)) = (key.window, &self.shared, &sums) {
            shared.put(sums).await;
        }
        Ok(entry(sums, Source::Database))
    }

    /// Follows notices until nobody can send any more.
    pub async fn follow(&self, mut notices: mpsc::UnboundedReceiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Changed(campaigns) => {
                    for campaign in campaigns {
                        // Windows are left to `fresh_for`: most of them a commit does not touch.
                        if let Some(entry) = self
                            .entries
                            .get(&Key {
                                campaign,
                                window: None,
                            })
                            .await
                        {
                            entry.outdated.store(true, Ordering::Release);
                        }
                    }
                }
                Notice::Anything => {
                    self.generation.fetch_add(1, Ordering::AcqRel);
                }
            }
            self.changes.send_replace(());
        }
    }

    /// Whether Redis answers; none: there is none.
    pub async fn shared_answers(&self) -> Option<bool> {
        match &self.shared {
            Some(shared) => Some(shared.answers().await),
            None => None,
        }
    }
}
