//! The newest value of each campaign that changed, in the order of the changes.
//!
//! A reader keeps a place and nothing else: what it has not read yet is found here, and a campaign
//! that changed ten times meanwhile is found once. So a slow reader costs no memory and still ends
//! with every final value.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Change;

/// A place in the log: everything up to and including it has been read.
pub type Place = u64;

/// See the module.
pub struct Log {
    values: BTreeMap<Place, Arc<Change>>,
    places: HashMap<Arc<str>, Place>,
    head: Place,
    /// The place of the last value that was dropped for lack of room.
    dropped: Place,
    capacity: usize,
}

impl Log {
    /// An empty log for so many campaigns.
    pub fn new(capacity: usize) -> Log {
        Log {
            values: BTreeMap::new(),
            places: HashMap::new(),
            head: 0,
            dropped: 0,
            capacity,
        }
    }

    /// The last place.
    pub fn head(&self) -> Place {
        self.head
    }

    /// Adds a value and forgets the campaign's older one.
    pub fn push(&mut self, change: Arc<Change>) {
        self.head += 1;
        let campaign = Arc::from(change.sums.campaign_id.as_str());
        if let Some(before) = self.places.insert(campaign, self.head) {
            self.values.remove(&before);
        }
        self.values.insert(self.head, change);
        while self.values.len() > self.capacity {
            if let Some((place, change)) = self.values.pop_first() {
                self.places.remove(change.sums.campaign_id.as_str());
                self.dropped = place;
            }
        }
    }

    /// Forgets everything: whoever has not read all of it has missed something.
    pub fn clear(&mut self) {
        self.head += 1;
        self.dropped = self.head;
        self.values.clear();
        self.places.clear();
    }

    /// At most `limit` values after a place up to another one, and the place they reach; none if
    /// some of them have been dropped.
    pub fn between(
        &self,
        after: Place,
        upto: Place,
        limit: usize,
    ) -> Option<(Vec<Arc<Change>>, Place)> {
        if after < self.dropped {
            return None;
        }
        let mut reached = upto;
        let mut values = Vec::new();
        for (place, change) in self.values.range(after.saturating_add(1)..=upto) {
            values.push(Arc::clone(change));
            if values.len() == limit {
                reached = *place;
                break;
            }
        }
        Some((values, reached))
    }

    /// A campaign's newest value, if it came after a place; an error if it may have been dropped.
    pub fn of_campaign(
        &self,
        campaign: &str,
        after: Place,
    ) -> Result<Option<Arc<Change>>, Dropped> {
        match self.places.get(campaign) {
            Some(place) if *place > after => Ok(self.values.get(place).cloned()),
            Some(_) => Ok(None),
            None if after < self.dropped => Err(Dropped),
            None => Ok(None),
        }
    }
}

/// The log no longer has what was asked for.
#[derive(Debug)]
pub struct Dropped;

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    use crate::store::CommitId;
    use crate::store::read::insights::{CampaignSums, Freshness};

    fn change(campaign: u8, commit_id: i64) -> Arc<Change> {
        Arc::new(Change::of(CampaignSums {
            campaign_id: format!("cmp-{campaign}"),
            platforms: Vec::new(),
            freshness: Freshness {
                first_event_time: DateTime::UNIX_EPOCH,
                last_event_time: DateTime::UNIX_EPOCH,
                counted_at: DateTime::UNIX_EPOCH,
                commit_id: CommitId::new(commit_id),
            },
            description: None,
            positions: Vec::new(),
        }))
    }

    proptest! {
        /// However changes and reads alternate, and however little is read at a time: a reader who
        /// was never told that something was dropped ends with the newest value of everything.
        #[test]
        fn a_reader_ends_with_every_final_value(
            steps in prop::collection::vec((0u8..6, prop::option::of(1usize..4)), 1..80),
            capacity in 1usize..8,
        ) {
            let mut log = Log::new(capacity);
            let mut truth = HashMap::new();
            let mut seen = HashMap::new();
            let mut at = log.head();
            let mut missed = false;
            let mut read = |log: &Log, seen: &mut HashMap<String, CommitId>, at: &mut Place, limit| {
                match log.between(*at, log.head(), limit) {
                    Some((values, reached)) => {
                        for value in values {
                            let before = seen.insert(value.sums.campaign_id.clone(), value.sums.freshness.commit_id);
                            assert!(before < Some(value.sums.freshness.commit_id), "went back");
                        }
                        *at = reached;
                    }
                    None => {
                        missed = true;
                        *at = log.head();
                    }
                }
            };
            for (commit, (campaign, limit)) in steps.iter().enumerate() {
                let change = change(*campaign, commit as i64);
                truth.insert(change.sums.campaign_id.clone(), change.sums.freshness.commit_id);
                log.push(change);
                prop_assert!(log.values.len() <= capacity && log.places.len() == log.values.len());
                if let Some(limit) = limit {
                    read(&log, &mut seen, &mut at, *limit);
                }
            }
            while at < log.head() {
                read(&log, &mut seen, &mut at, 1);
            }
            prop_assert!(missed || seen == truth);
        }
    }

    #[test]
    fn what_was_dropped_is_said() {
        let mut log = Log::new(1);
        let start = log.head();
        log.push(change(1, 1));
        assert!(log.between(start, log.head(), 10).is_some());
        log.push(change(2, 2));
        assert!(log.between(start, log.head(), 10).is_none());
        assert!(matches!(log.of_campaign("cmp-1", start), Err(Dropped)));
        assert!(matches!(log.of_campaign("cmp-2", start), Ok(Some(_))));
        let head = log.head();
        assert!(matches!(log.of_campaign("cmp-1", head), Ok(None)));
        log.clear();
        assert!(log.between(head, log.head(), 10).is_none());
    }
}
