//! From "the group says it is ours" to "PostgreSQL says it is ours".
//!
//! A partition that the group assigns waits here until the writer has claimed it: until its epoch
//! is raised and its position read. A claim can be overtaken by another process that has not
//! noticed yet that the partition is not its own any more; then we claim again, after a pause that
//! doubles, so that two consumer groups that count one topic into one database by mistake slow each
//! other down but never stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::pause::Backoff;
use crate::store::write::batch::Reading;

const PAUSES: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};
/// Who has kept a partition for so long, which is longer than any pause, has lost it for another reason.
const KEPT: Duration = Duration::from_secs(60);

/// A partition that waits to be claimed.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    reading: Reading,
    not_before: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub struct Claims {
    /// What the group has given us.
    ours: BTreeSet<i32>,
    waiting: BTreeMap<i32, Waiting>,
    /// Those the writer is claiming now.
    asked: BTreeSet<i32>,
    /// When we last lost a partition, and how often before.
    losses: BTreeMap<i32, (Instant, u32)>,
}

impl Claims {
    /// The group has given us a partition.
    pub fn assigned(&mut self, partition: i32) {
        self.ours.insert(partition);
        self.again(partition, Reading::Usual);
    }

    /// The group has taken a partition.
    pub fn revoked(&mut self, partition: i32) {
        self.ours.remove(&partition);
        self.waiting.remove(&partition);
        self.asked.remove(&partition);
        self.losses.remove(&partition);
    }

    /// A partition must be claimed (again).
    pub fn again(&mut self, partition: i32, reading: Reading) {
        self.wait(partition, reading, None);
    }

    fn wait(&mut self, partition: i32, reading: Reading, not_before: Option<Instant>) {
        if self.ours.contains(&partition) {
            let waiting = Waiting {
                reading,
                not_before,
            };
            self.waiting.insert(partition, waiting);
        }
    }

    /// Another process has claimed a partition that the group says is ours. Returns how long we
    /// wait before we claim it again.
    pub fn lost(&mut self, partition: i32) -> Duration {
        self.lost_at(partition, Instant::now())
    }

    fn lost_at(&mut self, partition: i32, now: Instant) -> Duration {
        let before = match self.losses.get(&partition) {
            Some(&(at, n)) if now.duration_since(at + PAUSES.after(n)) < KEPT => n + 1,
            _ => 0,
        };
        let pause = PAUSES.after(before);
        self.losses.insert(partition, (now, before));
        self.wait(partition, Reading::Usual, Some(now + pause));
        pause
    }

    /// The partitions that are due to be claimed, and how to read them.
    pub fn due(&self) -> Vec<(i32, Reading)> {
        let now = Instant::now();
        self.waiting
            .iter()
            .filter(|(_, w)| w.not_before.is_none_or(|t| t <= now))
            .map(|(&partition, w)| (partition, w.reading))
            .collect()
    }

    /// Whether a partition that is ours has yet to be claimed.
    pub fn pending(&self) -> bool {
        !self.waiting.is_empty() || !self.asked.is_empty()
    }

    /// Whether a writer is claiming one now.
    pub fn under_way(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The writer was asked to claim a partition.
    pub fn asked(&mut self, partition: i32) {
        self.waiting.remove(&partition);
        self.asked.insert(partition);
    }

    /// The writer has claimed it. `false` if it is not wanted any more.
    pub fn answered(&mut self, partition: i32) -> bool {
        self.asked.remove(&partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assigned_partition_is_claimed_once() {
        let mut claims = Claims::default();
        claims.assigned(3);
        assert_eq!(claims.due(), [(3, Reading::Usual)]);
        assert!(claims.pending() && !claims.under_way());
        claims.asked(3);
        assert_eq!(claims.due(), []);
        assert!(claims.pending() && claims.under_way());
        assert!(claims.answered(3));
        assert!(!claims.pending() && !claims.under_way());
        assert!(!claims.answered(3));
    }

    #[test]
    fn a_claim_that_was_revoked_meanwhile_is_not_wanted() {
        let mut claims = Claims::default();
        claims.assigned(3);
        claims.asked(3);
        claims.revoked(3);
        assert!(!claims.answered(3));
        claims.again(3, Reading::Careful);
        assert_eq!(claims.due(), [], "it is not ours");
    }

    #[test]
    fn a_lost_partition_is_claimed_again_after_a_pause_that_doubles() {
        let mut claims = Claims::default();
        claims.assigned(3);
        claims.asked(3);
        claims.answered(3);
        assert_eq!(claims.lost(3), PAUSES.first);
        assert_eq!(claims.due(), [], "not at once");
        assert_eq!(claims.lost(3), PAUSES.first * 2);
        assert_eq!((0..20).map(|_| claims.lost(3)).max(), Some(PAUSES.longest));
        let later = Instant::now() + PAUSES.longest + KEPT;
        assert_eq!(claims.lost_at(3, later), PAUSES.first, "kept in between");
        assert_eq!(claims.lost_at(3, later), PAUSES.first * 2);
        claims.revoked(3);
        claims.assigned(3);
        assert_eq!(
            claims.due(),
            [(3, Reading::Usual)],
            "a new assignment starts anew"
        );
    }
}
