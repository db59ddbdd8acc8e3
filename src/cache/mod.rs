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
//!
//! Commit ids are those of one turn of the database's history. Its [identity] changes when a standby takes over, when
//! positions go back, or when Redis did not take what changed: then nothing from before counts, here or in Redis.
//!
//! [identity]: crate::store::identity

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{Mutex, mpsc, watch};

use crate::database::{Database, Unavailable};
use crate::store::read::descriptions::Description;
use crate::store::read::insights::{self, CampaignSums, Window};
use crate::store::{CommitId, identity};

pub mod answers;
pub mod cause;
mod descriptions;
pub mod lists;
pub mod rates;
pub mod redis;
pub mod refresh;
pub mod servers;
pub mod tls;

use self::descriptions::Descriptions;
use self::redis::{Names, SharedCache};

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
    /// Before it was asked for.
    checked: Instant,
    generation: u64,
    /// Of which identity of the database, counted from the first.
    turn: u64,
    /// Since when a notice has said so.
    outdated: OnceLock<Instant>,
    source: Source,
}

impl Entry {
    /// Of two answers, the one with the smaller version never replaces the other.
    fn version(&self) -> (u64, Option<CommitId>) {
        (self.turn, self.sums.as_ref().map(|s| s.freshness.commit_id))
    }
}

/// The place of an answer, which stays while answers come and go.
#[derive(Default)]
struct Slot {
    held: RwLock<Option<Arc<Entry>>>,
    /// Notices so far.
    notices: AtomicU64,
    /// Whose turn it is to read anew.
    reading: Mutex<()>,
}

impl Slot {
    fn held(&self) -> Option<Arc<Entry>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    /// Holds what was read after so many notices.
    fn hold(&self, entry: &Arc<Entry>, notices: u64) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(entry));
        // A notice that came while we asked found the entry before this one. Counted first and looked
        // for afterwards, on both sides, so that one of the two sees the other.
        if self.notices.load(Ordering::SeqCst) != notices {
            let _ = entry.outdated.set(entry.checked);
        }
    }

    fn outdate(&self) {
        self.notices.fetch_add(1, Ordering::SeqCst);
        if let Some(entry) = self.held() {
            // The first notice counts.
            let _ = entry.outdated.set(Instant::now());
        }
    }
}

/// An answer and where it came from.
#[derive(Clone, Debug)]
pub struct Found {
    pub sums: Option<Arc<CampaignSums>>,
    pub source: Source,
}

/// See the module.
pub struct InsightCache {
    slots: Cache<Key, Arc<Slot>>,
    database: Database,
    descriptions: Descriptions,
    shared: Option<Arc<SharedCache>>,
    fresh_for: Duration,
    /// Rises when notices may have been missed: everything older must be checked.
    generation: AtomicU64,
    /// Rises when the database has another identity.
    turn: AtomicU64,
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

/// How often the database is asked for its identity.
const IDENTITY_INTERVAL: Duration = Duration::from_millis(500);
/// The most answers kept, and how long one that nobody asks for is.
const MAX_ENTRIES: u64 = 200_000;
const KEPT_UNASKED: Duration = Duration::from_secs(600);
/// While one request reads anew, others are answered with what was fresh until so long ago: well below
/// what anybody sees, well above what a reading takes. Without it each commit would stop all who ask.
const GRACE: Duration = Duration::from_millis(25);

impl InsightCache {
    /// An empty cache before `database` and, if there is one, `shared`.
    pub fn new(
        database: Database,
        shared: Option<Arc<SharedCache>>,
        fresh_for: Duration,
    ) -> InsightCache {
        InsightCache {
            slots: Cache::builder()
                .max_capacity(MAX_ENTRIES)
                .time_to_idle(KEPT_UNASKED)
                .build(),
            descriptions: Descriptions::new(database.clone()),
            database,
            shared,
            fresh_for,
            generation: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            changes: watch::Sender::new(()),
        }
    }

    /// Redis, and the names there, once they are known.
    fn shared(&self) -> Option<(&SharedCache, Names)> {
        let shared = self.shared.as_deref()?;
        Some((shared, shared.names()?))
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
    pub async fn get(&self, campaign: &str, window: Option<Window>) -> Result<Found, Unavailable> {
        let asked = Instant::now();
        let key = Key {
            campaign: Arc::from(campaign),
            window,
        };
        let slot = self.slots.get_with_by_ref(&key, Arc::default);
        let answer = |entry: Arc<Entry>, source| Found {
            sums: entry.sums.clone(),
            source,
        };
        if let Some(entry) = self.at_once(&slot) {
            return Ok(answer(entry, Source::Process));
        }
        // One reads at a time; whoever waited finds the answer of the first. What was read after they
        // asked answers them, whatever notices have come since.
        let _reading = slot.reading.lock().await;
        let held = slot.held();
        if let Some(entry) = &held
            && (self.is_fresh(entry) || entry.checked >= asked)
        {
            return Ok(answer(Arc::clone(entry), Source::Process));
        }
        let notices = slot.notices.load(Ordering::SeqCst);
        match (self.load(&key).await, held) {
            (Ok(read), held) => {
                let sums = match held {
                    // A slow reader must not put back what a faster one has replaced; and where nothing
                    // has changed, what was written from these sums is still good.
                    Some(held) if held.version() > read.version() || held.sums == read.sums => {
                        held.sums.clone()
                    }
                    _ => read.sums,
                };
                let entry = Arc::new(Entry { sums, ..read });
                slot.hold(&entry, notices);
                let source = entry.source;
                Ok(answer(entry, source))
            }
            (Err(_), Some(held)) if held.sums.is_some() => Ok(answer(held, Source::Stale)),
            (Err(unavailable), _) => Err(unavailable),
        }
    }

    /// What a campaign is called and whose it is, if that is known.
    pub async fn description(&self, campaign: &str) -> Option<Description> {
        self.descriptions.get(&Arc::from(campaign)).await
    }

    /// The sums that [`InsightCache::get`] would answer without asking anybody; none: it would ask, or
    /// there is no such campaign.
    pub fn peek(&self, campaign: &Arc<str>, window: Option<Window>) -> Option<Arc<CampaignSums>> {
        let slot = self.slots.get(&Key {
            campaign: Arc::clone(campaign),
            window,
        })?;
        self.at_once(&slot)?.sums.clone()
    }

    /// What may be answered at once: what is fresh, or was a moment ago while somebody reads it anew.
    fn at_once(&self, slot: &Slot) -> Option<Arc<Entry>> {
        let entry = slot.held()?;
        let may = self.is_fresh(&entry)
            || (self.is_within(&entry, GRACE) && slot.reading.try_lock().is_err());
        may.then_some(entry)
    }

    fn is_fresh(&self, entry: &Entry) -> bool {
        entry.outdated.get().is_none() && self.is_within(entry, Duration::ZERO)
    }

    /// Whether an entry was fresh until less than `grace` ago.
    fn is_within(&self, entry: &Entry, grace: Duration) -> bool {
        entry.generation == self.generation.load(Ordering::Acquire)
            && entry.turn == self.turn.load(Ordering::Acquire)
            && entry.checked.elapsed() < self.fresh_for.saturating_add(grace)
            && entry
                .outdated
                .get()
                .is_none_or(|since| since.elapsed() < grace)
    }

    async fn load(&self, key: &Key) -> Result<Entry, Unavailable> {
        // Read before asking: what is missed while we ask makes the answer outdated again.
        let generation = self.generation.load(Ordering::Acquire);
        let turn = self.turn.load(Ordering::Acquire);
        let checked = Instant::now();
        let entry = |sums, source| Entry {
            sums,
            checked,
            generation,
            turn,
            outdated: OnceLock::new(),
            source,
        };
        let shared = key.window.is_none().then(|| self.shared()).flatten();
        if let Some((shared, names)) = &shared
            && let Some(sums) = shared.get(names, &key.campaign).await
        {
            let sums = CampaignSums {
                description: self.descriptions.get(&key.campaign).await,
                ..sums
            };
            return Ok(entry(Some(Arc::new(sums)), Source::Redis));
        }
        let (campaign, window) = (Arc::clone(&key.campaign), key.window);
        let sums = self
            .database
            .read(move |connection| insights::campaign(connection, &campaign, window))
            .await?
            .map(Arc::new);
        if let Some(sums) = &sums {
            let description = sums.description.as_ref();
            self.descriptions.hold(&key.campaign, description, checked);
        }
        if let (Some((shared, names)), Some(sums)) = (&shared, &sums) {
            shared.put(names, sums).await;
        }
        Ok(entry(sums, Source::Database))
    }

    /// Follows the database's identity, for as long as the process runs.
    pub async fn follow_identity(&self) {
        let mut known = None;
        loop {
            // While it is away, it is what it was.
            if let Ok(now) = self.database.read(identity::identity).await
                && known != Some(now)
            {
                if let Some(shared) = &self.shared {
                    shared.belongs_to(Names::of(now));
                }
                // The names first: what is read in the new turn is not of the old ones.
                self.descriptions.forget();
                self.turn.fetch_add(1, Ordering::AcqRel);
                self.changes.send_replace(());
                known = Some(now);
            }
            tokio::time::sleep(IDENTITY_INTERVAL).await;
        }
    }

    /// Follows notices until nobody can send any more.
    pub async fn follow(&self, mut notices: mpsc::UnboundedReceiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Changed(campaigns) => {
                    for campaign in campaigns {
                        // Windows are left to `fresh_for`: most of them a commit does not touch.
                        if let Some(slot) = self.slots.get(&Key {
                            campaign,
                            window: None,
                        }) {
                            slot.outdate();
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

    /// How Redis is, in a word or two, `ok` if it is well; none: there is none.
    pub async fn shared_standing(&self) -> Option<&'static str> {
        match &self.shared {
            Some(shared) => Some(shared.standing().await),
            None => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::store::read::insights::Freshness;

    const LONG: Duration = Duration::from_secs(3_600);

    /// A cache before a database that is not there.
    pub(crate) fn cache() -> Arc<InsightCache> {
        let nowhere = Database::new("postgres://127.0.0.1:1/nothing", 1);
        Arc::new(InsightCache::new(nowhere, None, LONG))
    }

    pub(crate) fn sums(commit_id: i64) -> Arc<CampaignSums> {
        Arc::new(CampaignSums {
            campaign_id: "cmp-1".to_owned(),
            platforms: Vec::new(),
            freshness: Freshness {
                first_event_time: DateTime::UNIX_EPOCH,
                last_event_time: DateTime::UNIX_EPOCH,
                counted_at: DateTime::UNIX_EPOCH,
                commit_id: CommitId::new(commit_id),
            },
            description: None,
            positions: Vec::new(),
        })
    }

    impl InsightCache {
        /// Holds the all-time sums of a campaign as if they had been read.
        pub(crate) fn hold(&self, sums: &Arc<CampaignSums>) {
            let slot = self.slot(&sums.campaign_id);
            slot.hold(&entry(sums), slot.notices.load(Ordering::SeqCst));
        }

        pub(crate) fn outdate(&self, campaign: &str) {
            self.slot(campaign).outdate();
        }

        fn slot(&self, campaign: &str) -> Arc<Slot> {
            let key = Key {
                campaign: Arc::from(campaign),
                window: None,
            };
            self.slots.get_with(key, Arc::default)
        }
    }

    fn entry(sums: &Arc<CampaignSums>) -> Arc<Entry> {
        Arc::new(Entry {
            sums: Some(Arc::clone(sums)),
            checked: Instant::now(),
            generation: 0,
            turn: 0,
            outdated: OnceLock::new(),
            source: Source::Database,
        })
    }

    #[test]
    fn what_was_known_at_an_earlier_turn_gives_way_whatever_its_commit() {
        let of = |turn, commit_id| {
            let entry = Arc::into_inner(entry(&sums(commit_id))).expect("ours alone");
            Entry { turn, ..entry }.version()
        };
        assert!(of(1, 9) > of(1, 8));
        assert!(of(2, 5) > of(1, 9));
    }

    #[tokio::test]
    async fn what_was_fresh_a_moment_ago_answers_while_it_is_read_anew_and_no_longer() {
        let cache = cache();
        let (campaign, sums) = (Arc::from("cmp-1"), sums(1));
        let slot = cache.slot("cmp-1");
        let hold = |outdated: Option<Instant>| {
            let entry = entry(&sums);
            if let Some(at) = outdated {
                entry.outdated.set(at).expect("once");
            }
            slot.hold(&entry, 0);
        };
        let answers = || cache.peek(&campaign, None).is_some();
        // So that the moment lasts as long as the test does.
        let just_now = Instant::now() + LONG;
        let before = Instant::now().checked_sub(GRACE).expect("a time");
        for (outdated, unread, being_read) in [
            (None, true, true),
            (Some(just_now), false, true),
            (Some(before), false, false),
        ] {
            hold(outdated);
            assert_eq!(answers(), unread, "{outdated:?}");
            let _reading = slot.reading.lock().await;
            assert_eq!(answers(), being_read, "{outdated:?}");
        }
        hold(Some(just_now));
        cache.generation.fetch_add(1, Ordering::AcqRel);
        let _reading = slot.reading.lock().await;
        assert!(!answers(), "notices may have been missed for long");
    }

    #[tokio::test]
    async fn a_notice_that_comes_while_it_is_read_makes_what_was_read_outdated() {
        let cache = cache();
        let slot = cache.slot("cmp-1");
        let (before, read) = (slot.notices.load(Ordering::SeqCst), entry(&sums(1)));
        slot.outdate();
        slot.hold(&read, before);
        assert_eq!(read.outdated.get(), Some(&read.checked));
        slot.hold(&entry(&sums(2)), slot.notices.load(Ordering::SeqCst));
        assert!(cache.peek(&Arc::from("cmp-1"), None).is_some());
    }

    #[tokio::test]
    async fn without_the_database_what_is_outdated_is_stale() {
        let cache = cache();
        cache.hold(&sums(1));
        let source = async || cache.get("cmp-1", None).await.map(|answer| answer.source);
        assert_eq!(source().await.expect("held"), Source::Process);
        cache.outdate("cmp-1");
        assert_eq!(source().await.expect("held"), Source::Stale);
        assert!(cache.get("cmp-2", None).await.is_err());
    }
}
