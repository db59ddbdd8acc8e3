//! The databases that the API answers from, each with what this process holds of it. Usually it is one, which has everything.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::PgConnection;
use futures_util::future::try_join_all;

use crate::alerts::learned::Learned;
use crate::cache::InsightCache;
use crate::database::{Database, Unavailable, Which};
use crate::shard::Shard;
use crate::store::StoreError;

/// One of them.
#[derive(Clone)]
pub struct Served {
    /// Its range of partitions; none: it has all of them.
    pub shard: Option<Shard>,
    pub database: Database,
    pub cache: Arc<InsightCache>,
    /// How the days of its accounts grow, for what alert rules are measured at.
    pub learned: Arc<Mutex<Learned>>,
}

impl Served {
    /// Whether a campaign is one of its own.
    pub fn has(&self, campaign: &str) -> bool {
        self.shard.is_none_or(|shard| shard.has_campaign(campaign))
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    home: Database,
    first: Served,
    others: Arc<[Served]>,
}

impl Shards {
    /// Databases that each have a range of partitions, or one that has everything; `home` has what is of no campaign.
    ///
    /// # Errors
    /// What is wrong with the ranges, in words, where they are not all partitions of one topic.
    pub fn new(home: Database, first: Served, others: Vec<Served>) -> Result<Shards, String> {
        let all = std::iter::once(&first).chain(&others);
        let ranges: Vec<Shard> = all.filter_map(|served| served.shard).collect();
        Shard::tile(&ranges)?;
        Ok(Shards {
            home,
            first,
            others: others.into(),
        })
    }

    /// One that never answers, with what this cache holds.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn nowhere(cache: Arc<InsightCache>) -> Shards {
        let database = Database::new("postgres://127.0.0.1:1/nothing", 1);
        Shards {
            home: database.clone(),
            first: Served {
                shard: None,
                database,
                cache,
                learned: Arc::default(),
            },
            others: Arc::default(),
        }
    }

    /// How long an answer may go unchecked.
    pub fn fresh_for(&self) -> Duration {
        self.first.cache.fresh_for()
    }

    /// What lists are shared through.
    pub fn lists(&self) -> &InsightCache {
        &self.first.cache
    }

    /// The one with what is of no campaign: keys, rates, receipts, and files that were taken in.
    pub fn home(&self) -> &Database {
        &self.home
    }

    /// All that have campaigns.
    pub fn all(&self) -> impl Iterator<Item = &Served> {
        std::iter::once(&self.first).chain(self.others.iter())
    }

    /// The one that decides of what all have alike, such as alert rules; and the others.
    pub fn first_and_others(&self) -> (&Database, impl Iterator<Item = &Database>) {
        let others = self.others.iter().map(|served| &served.database);
        (&self.first.database, others)
    }

    /// The one that has a campaign, if any does.
    pub fn of(&self, campaign: &str) -> &Served {
        // They tile the topic: if it is none of the others, it is the first.
        let other = self.others.iter().find(|served| served.has(campaign));
        other.unwrap_or(&self.first)
    }

    /// The one that has a partition of the topic, if any does.
    pub fn of_partition(&self, partition: i32) -> &Served {
        let has = |served: &&Served| served.shard.is_some_and(|shard| shard.has(partition));
        self.others.iter().find(has).unwrap_or(&self.first)
    }

    /// Asks all of them at a time; their answers are in the order of [`Shards::all`].
    ///
    /// # Errors
    /// As one of them says first.
    pub async fn each<T, Asking>(
        &self,
        ask: impl Fn(Served) -> Asking,
    ) -> Result<Vec<T>, Unavailable>
    where
        Asking: Future<Output = Result<T, Unavailable>>,
    {
        try_join_all(self.all().cloned().map(ask)).await
    }

    /// Asks those of them that have a question of their own, at a time and under one place, and puts together what they answer.
    ///
    /// # Errors
    /// As one of them says first.
    pub async fn together<T, Question>(
        &self,
        place: impl Send + Sync + 'static,
        question: impl Fn(&Served) -> Option<Question>,
        and: impl Fn(T, T) -> T + Send + 'static,
    ) -> Result<T, Unavailable>
    where
        T: Default + Send + 'static,
        Question: FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    {
        let place = Arc::new(place);
        let asked = self.all().filter_map(|served| {
            let (question, database) = (question(served)?, served.database.clone());
            let place = Arc::clone(&place);
            Some(async move { database.read_long(place, question).await })
        });
        let mut answers = try_join_all(asked).await?;
        if answers.len() < 2 {
            return Ok(answers.pop().unwrap_or_default());
        }
        // Two of a million campaigns take a moment: off the threads that answer everybody.
        let whole = tokio::task::spawn_blocking(move || {
            let _place = place;
            answers.into_iter().reduce(and).unwrap_or_default()
        });
        whole
            .await
            .map_err(|e| Unavailable::Database(Which::default(), e.to_string()))
    }
}
