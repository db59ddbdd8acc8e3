//! A round of the feed: what all databases had told by then, each up to its own last answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::alerts::{Happening, Happenings};
use super::event_id;
use super::log::Place;
use crate::store::read::changes::{Commits, Progress};

/// See the module.
#[derive(Debug, Default)]
pub struct Round {
    /// They are numbered from one on.
    pub number: u64,
    /// Everything up to this place of the log belongs to this round or an earlier one.
    pub place: Place,
    /// What each database has told, in their order.
    pub parts: Vec<Arc<Part>>,
}

/// What one database has told: of one that is away it stays what it was.
#[derive(Debug, Default)]
pub struct Part {
    pub commits: Commits,
    pub progress: Progress,
    pub alerts: Happenings,
    /// The number of the round in which it answered for the first time, or for the first time after it had been away.
    pub back_at: u64,
}

/// Of databases that were away when a client came, what it has seen of each, by their order: the rest it is told when it comes
/// again, as soon as one of them is back.
pub type Owed = BTreeMap<usize, Commits>;

impl Round {
    /// How much has been counted over all databases.
    pub fn progress(&self) -> Progress {
        let all = self.parts.iter().map(|part| part.progress);
        all.fold(Progress::default(), Progress::and)
    }

    /// Where a client goes on from that is owed so much.
    pub fn event_id(&self, owed: &Owed) -> String {
        let parts = self.parts.iter().enumerate();
        let seen = parts.flat_map(|(n, part)| owed.get(&n).unwrap_or(&part.commits));
        event_id::write(&seen.map(|(stream, commit)| (*stream, *commit)).collect())
    }

    /// What has happened to alerts since an earlier round; none if some of it is no longer kept.
    pub fn happenings_since(&self, before: &Round) -> Option<Vec<&Happening>> {
        let mut happenings = Vec::new();
        for (part, before) in self.parts.iter().zip(&before.parts) {
            happenings.extend(part.alerts.after(before.alerts.last())?);
        }
        Some(happenings)
    }

    /// Whether it tells something that an earlier one did not.
    pub fn has_news_since(&self, before: &Round) -> bool {
        let mut parts = self.parts.iter().zip(&before.parts);
        let is_news = |(part, before): (&Arc<Part>, &Arc<Part>)| {
            part.commits != before.commits || part.alerts.last() != before.alerts.last()
        };
        self.place != before.place || self.parts.len() != before.parts.len() || parts.any(is_news)
    }

    /// Whether a database has come back since a round of this number.
    pub fn is_back_since(&self, number: u64) -> bool {
        self.parts.iter().any(|part| part.back_at > number)
    }

    /// Whether one of the databases of which something is owed has come back since a round of this number.
    pub fn can_pay_since(&self, owed: &Owed, number: u64) -> bool {
        let mut owing = owed.keys().filter_map(|n| self.parts.get(*n));
        owing.any(|part| part.back_at > number)
    }
}
