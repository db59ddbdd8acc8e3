//! The memory of recent events of one partition, which decides most duplicates without asking the
//! database.
//!
//! It promises: every event of the partition's own campaigns that is in the event store or on its
//! way there, and whose `event_time` is at or after the horizon, is in the memory. What is
//! older must be looked up. When the memory is full its oldest events (by `event_time`, whatever
//! order they came in) leave it and the horizon rises past them, so the promise stays.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::store::batch::Fingerprint;

/// A bucket spans 2^18 µs, about a quarter of a second: what leaves the memory at a time.
const BUCKET_SHIFT: u32 = 18;

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
    /// The time from which on the memory is complete, in microseconds since 1970.
    horizon: i64,
    prints: HashMap<Uuid, Fingerprint, foldhash::fast::RandomState>,
    /// Ids by when they happened, so that the oldest can leave.
    buckets: BTreeMap<i64, Vec<Uuid>>,
}

impl Recent {
    /// An empty memory of at most `capacity` events, for a partition of which the store has none.
    pub fn new(capacity: usize) -> Recent {
        Recent {
            capacity: capacity.max(1),
            horizon: i64::MIN,
            prints: HashMap::default(),
            buckets: BTreeMap::new(),
        }
    }

    /// Judges an event, and remembers it if it is new.
    pub fn see(&mut self, id: Uuid, event_time: i64, print: Fingerprint) -> Seen {
        match self.prints.entry(id) {
            Entry::Occupied(first) if *first.get() == print => Seen::Duplicate,
            Entry::Occupied(_) => Seen::Conflict,
            Entry::Vacant(_) if event_time < self.horizon => Seen::Late,
            Entry::Vacant(unseen) => {
                unseen.insert(print);
                self.file(id, event_time);
                Seen::New
            }
        }
    }

    /// Remembers an event that is in the event store.
    pub fn remember(&mut self, id: Uuid, event_time: i64, print: Fingerprint) {
        self.see(id, event_time, print);
    }

    /// Says that events before `horizon` are not all there.
    pub fn raise_horizon(&mut self, horizon: i64) {
        self.horizon = self.horizon.max(horizon);
    }

    /// Notes when a new id happened; the oldest make room for it.
    fn file(&mut self, id: Uuid, event_time: i64) {
        self.buckets
            .entry(event_time >> BUCKET_SHIFT)
            .or_default()
            .push(id);
        while self.prints.len() > self.capacity
            && let Some((bucket, ids)) = self.buckets.pop_first()
        {
            for id in ids {
                self.prints.remove(&id);
            }
            self.raise_horizon((bucket + 1) << BUCKET_SHIFT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Counts;
    use crate::store::batch::Fingerprinter;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_four_answers() {
        let prints = Fingerprinter::default();
        let print = |t| prints.of("c", 0, t, &Counts::default());
        let mut recent = Recent::new(2);
        let id = Uuid::from_u128;
        let second = 1 << 20;
        assert_eq!(recent.see(id(1), second, print(second)), Seen::New);
        assert_eq!(recent.see(id(1), second, print(second)), Seen::Duplicate);
        assert_eq!(
            recent.see(id(1), 2 * second, print(2 * second)),
            Seen::Conflict
        );
        assert_eq!(recent.see(id(2), 2 * second, print(2 * second)), Seen::New);
        assert_eq!(recent.see(id(3), 3 * second, print(3 * second)), Seen::New);
        // The first has left, and so its time is not covered any more.
        assert_eq!(recent.see(id(1), second, print(second)), Seen::Late);
        assert_eq!(recent.see(id(4), second, print(second)), Seen::Late);
        assert!(recent.horizon > second && recent.horizon <= 2 * second);
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
            let mut all: HashSet<(Uuid, i64)> = HashSet::new();
            for (id, second) in events {
                let (id, time) = (Uuid::from_u128(id), second << 20);
                match recent.see(id, time, prints.of("c", 0, time, &Counts::default())) {
                    Seen::New => prop_assert!(all.insert((id, time))),
                    Seen::Duplicate => prop_assert!(all.contains(&(id, time))),
                    Seen::Conflict => prop_assert!(all.iter().any(|(i, t)| *i == id && *t != time)),
                    Seen::Late => {
                        prop_assert!(time < recent.horizon);
                        all.insert((id, time));
                    }
                }
                prop_assert!(recent.prints.len() <= capacity);
            }
        }
    }
}
