//! The memory of recent events of one partition, which decides most duplicates without asking the
//! database.
//!
//! It promises: every event of the partition's own campaigns that is in the event store or on its
//! way there, and whose `event_time` is at or after the horizon, is in the memory. What is
//! older must be looked up. When the memory is full its oldest events (by `event_time`, whatever
//! order they came in) leave it and the horizon rises past them, so the promise stays.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use uuid::Uuid;

use crate::store::events::Fingerprint;
use crate::time::Timestamp;

/// A bucket spans 2^17 µs, about an eighth of a second: what leaves the memory at a time. At full speed that is
/// many events, and must be far fewer than there are in memory.
const BUCKET_SHIFT: u32 = 17;

/// What the memory knows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Counted: the same id with the same content.
    Duplicate,
    /// Counted with another content or time.
    Conflict,
    /// Not counted; it is in the memory now.
    New,
    /// Before the horizon, and not in the memory: only the event store knows.
    Late,
}

/// See the module.
pub struct Recent {
    capacity: usize,
    /// The time from which on the memory is complete.
    horizon: Timestamp,
    /// Which place each id has. Apart from what is there, because most ids that are looked for are new:
    /// the smaller what they are looked for in, the more of it is in the processor's caches.
    index: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    places: Vec<(Uuid, Fingerprint)>,
    free: Vec<u32>,
    /// Places by when their events happened, so that the oldest can leave.
    buckets: BTreeMap<i64, Vec<u32>>,
    /// The bucket that was filled last, taken out of `buckets`: most events follow each other.
    filling: (i64, Vec<u32>),
}

impl Recent {
    /// An empty memory of at most `capacity` events, for a partition of which the store has none.
    pub fn new(capacity: usize) -> Recent {
        Recent {
            capacity: capacity.clamp(1, u32::MAX as usize),
            horizon: Timestamp::MIN,
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            places: Vec::new(),
            free: Vec::new(),
            buckets: BTreeMap::new(),
            filling: (i64::MIN, Vec::new()),
        }
    }

    /// Judges an event, and remembers it if it is new.
    pub fn see(&mut self, id: Uuid, event_time: Timestamp, print: Fingerprint) -> Seen {
        let hash = self.hasher.hash_one(id);
        let known = self
            .index
            .find(hash, |&place| self.places[place as usize].0 == id);
        if let Some(&place) = known {
            return if self.places[place as usize].1 == print {
                Seen::Duplicate
            } else {
                Seen::Conflict
            };
        }
        if event_time < self.horizon {
            return Seen::Late;
        }
        if self.index.len() >= self.capacity {
            self.forget_oldest();
        }
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = (id, print);
                place
            }
            None => {
                self.places.push((id, print));
                self.places.len() as u32 - 1
            }
        };
        let (hasher, places) = (&self.hasher, &self.places);
        self.index
            .insert_unique(hash, place, |&p| hasher.hash_one(places[p as usize].0));
        let bucket = event_time.get() >> BUCKET_SHIFT;
        if bucket != self.filling.0 {
            self.fill(bucket);
        }
        self.filling.1.push(place);
        Seen::New
    }

    /// Remembers an event that is in the event store.
    pub fn remember(&mut self, id: Uuid, event_time: Timestamp, print: Fingerprint) {
        self.see(id, event_time, print);
    }

    /// Says that events before `horizon` are not all there.
    pub fn raise_horizon(&mut self, horizon: Timestamp) {
        self.horizon = self.horizon.max(horizon);
    }

    /// Goes on with another bucket.
    fn fill(&mut self, bucket: i64) {
        let next = self.buckets.remove(&bucket).unwrap_or_default();
        let (before, filled) = std::mem::replace(&mut self.filling, (bucket, next));
        if !filled.is_empty() {
            self.buckets.insert(before, filled);
        }
    }

    /// Lets the oldest bucket go.
    fn forget_oldest(&mut self) {
        self.fill(i64::MIN);
        let Some((bucket, places)) = self.buckets.pop_first() else {
            return;
        };
        for place in places {
            let hash = self.hasher.hash_one(self.places[place as usize].0);
            if let Ok(entry) = self.index.find_entry(hash, |&p| p == place) {
                entry.remove();
            }
            self.free.push(place);
        }
        self.raise_horizon(Timestamp::new((bucket + 1) << BUCKET_SHIFT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Counts;
    use crate::store::events::Fingerprinter;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_four_answers() {
        let prints = Fingerprinter::default();
        let print = |t| prints.of("c", 0, t, &Counts::default());
        let mut recent = Recent::new(2);
        let id = Uuid::from_u128;
        let [first, second, third] = [1, 2, 3].map(|n| Timestamp::new(n << 20));
        assert_eq!(recent.see(id(1), first, print(first)), Seen::New);
        assert_eq!(recent.see(id(1), first, print(first)), Seen::Duplicate);
        assert_eq!(recent.see(id(1), second, print(second)), Seen::Conflict);
        assert_eq!(recent.see(id(2), second, print(second)), Seen::New);
        assert_eq!(recent.see(id(3), third, print(third)), Seen::New);
        // The first has left, and so its time is not covered any more.
        assert_eq!(recent.see(id(1), first, print(first)), Seen::Late);
        assert_eq!(recent.see(id(4), first, print(first)), Seen::Late);
        assert!(recent.horizon > first && recent.horizon <= second);
    }

    proptest! {
        /// Against a memory that forgets nothing: what it calls new is new, what it calls a
        /// duplicate is one, and it is never larger than allowed.
        #[test]
        fn never_wrong_and_never_too_large(
            capacity in 1usize..50,
            events in prop::collection::vec((0u128..200, 0i64..100), 1..500),
        ) {
            let prints = Fingerprinter::default();
            let mut recent = Recent::new(capacity);
            // An event's identity is its id with its time.
            let mut all: HashSet<(Uuid, Timestamp)> = HashSet::new();
            for (id, second) in events {
                let (id, time) = (Uuid::from_u128(id), Timestamp::new(second << 20));
                match recent.see(id, time, prints.of("c", 0, time, &Counts::default())) {
                    Seen::New => prop_assert!(all.insert((id, time))),
                    Seen::Duplicate => prop_assert!(all.contains(&(id, time))),
                    Seen::Conflict => prop_assert!(all.iter().any(|(i, t)| *i == id && *t != time)),
                    Seen::Late => {
                        prop_assert!(time < recent.horizon);
                        all.insert((id, time));
                    }
                }
                prop_assert!(recent.index.len() <= capacity);
            }
        }
    }
}
