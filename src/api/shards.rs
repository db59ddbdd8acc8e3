//! The databases that the API answers from, each with what this process holds of it. Usually it is one, which has everything.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::cache::InsightCache;
use crate::database::{Database, Unavailable};
use crate::shard::Shard;

/// One of them.
#[derive(Clone)]
pub struct Served {
    /// Its range of partitions; none: it has all of them.
    pub shard: Option<Shard>,
    pub database: Database,
    pub cache: Arc<InsightCache>,
}

impl Served {
    fn has(&self, campaign: &str) -> bool {
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
}
