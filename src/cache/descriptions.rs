//! What campaigns are called and whose they are, as this process read it lately.
//!
//! Redis has sums only: a new name changes none, so no commit would put it there. Read from PostgreSQL instead, at most
//! once in [`FRESH`] for a campaign, it is that old at worst; and while PostgreSQL does not answer, what was known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;

use super::{KEPT_UNASKED, MAX_ENTRIES};
use crate::database::Database;
use crate::store::read::descriptions::{self, Description};

/// How old a description may be. Names and accounts change once in months.
const FRESH: Duration = Duration::from_secs(2);
/// How long sums that are there wait for it.
const PATIENCE: Duration = Duration::from_millis(250);

#[derive(Clone)]
struct Held {
    description: Option<Description>,
    asked: Instant,
}

/// See the module.
pub(super) struct Descriptions {
    held: Cache<Arc<str>, Held>,
    database: Database,
}

impl Descriptions {
    /// None yet.
    pub fn new(database: Database) -> Descriptions {
        Descriptions {
            held: Cache::builder()
                .max_capacity(MAX_ENTRIES)
                .time_to_idle(KEPT_UNASKED)
                .build(),
            database,
        }
    }

    /// That of a campaign, if one is known.
    pub async fn get(&self, campaign: &Arc<str>) -> Option<Description> {
        let held = self.held.get(campaign);
        if let Some(held) = held.as_ref().filter(|held| held.asked.elapsed() < FRESH) {
            return held.description.clone();
        }
        let asked = Instant::now();
        let id = Arc::clone(campaign);
        let read = self
            .database
            .read(move |connection| descriptions::of_one(connection, &id));
        let description = match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(description)) => description,
            // Held on to, so that not everybody who asks is made to wait.
            Ok(Err(_)) | Err(_) => held.and_then(|held| held.description),
        };
        self.hold(campaign, description.as_ref(), asked);
        description
    }

    /// Holds what was asked for at an instant.
    pub fn hold(&self, campaign: &Arc<str>, description: Option<&Description>, asked: Instant) {
        let description = description.cloned();
        let held = Held { description, asked };
        self.held.insert(Arc::clone(campaign), held);
    }

    /// Forgets them: the database is another one.
    pub fn forget(&self) {
        self.held.invalidate_all();
    }
}
