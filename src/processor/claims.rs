//! From "the group says it is ours" to "PostgreSQL says it is ours".
//!
//! A partition that the group assigns waits here until Kafka has said what its log holds and the writer has claimed
//! it: until its epoch is raised and its position read. A claim can be overtaken by another process that has not
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
    /// Kafka is being asked what its log holds.
    scouted: bool,
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
    /// Those whose position was beyond the end of the log, as Kafka had told it before they were claimed.
    beyond: BTreeSet<i32>,
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
        self.beyond.remove(&partition);
    }

    /// A partition's position is beyond the end of its log. The last owner may have counted what came after the end
    /// was asked for, so it is asked for again: nobody else counts any more. `false` if that was done.
    pub fn beyond(&mut self, partition: i32, reading: Reading) -> bool {
        let is_first = self.beyond.insert(partition);
        if is_first {
            self.again(partition, reading);
        }
        is_first
    }

    /// A partition's position is within its log.
    pub fn within(&mut self, partition: i32) {
        self.beyond.remove(&partition);
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
                scouted: false,
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

    /// What the group has given us.
    pub fn ours(&self) -> impl Iterator<Item = i32> {
        self.ours.iter().copied()
    }

    /// The partitions that are due to be claimed: what their logs hold is to be asked now.
    pub fn due(&mut self) -> Vec<i32> {
        let now = Instant::now();
        let is_due = |w: &Waiting| !w.scouted && w.not_before.is_none_or(|t| t <= now);
        let due = self.waiting.iter_mut().filter(|(_, w)| is_due(w));
        due.map(|(&partition, waiting)| {
            waiting.scouted = true;
            partition
        })
        .collect()
    }

    /// What its log holds is known: how to read it, if it is still to be claimed. The writer is asked to.
    pub fn scouted(&mut self, partition: i32) -> Option<Reading> {
        let waiting = self.waiting.get(&partition).filter(|w| w.scouted)?;
        let reading = waiting.reading;
        self.waiting.remove(&partition);
        self.asked.insert(partition);
        Some(reading)
    }

    /// What its log holds could not be found out: that is to be asked again in a while, and nobody waits for it.
    pub fn unknown(&mut self, partition: i32) {
        self.beyond.remove(&partition);
        if let Some(waiting) = self.waiting.get_mut(&partition) {
            waiting.scouted = false;
            waiting.not_before = Some(Instant::now() + PAUSES.first);
        }
    }

    /// Whether a partition that is ours has yet to be claimed.
    pub fn pending(&self) -> bool {
        !self.waiting.is_empty() || !self.asked.is_empty()
    }

    /// Whether it is being found out now whether a position is of this log: a writer is claiming its partition, or
    /// it was beyond the end and is compared with a newer one.
    pub fn under_way(&self) -> bool {
        !self.asked.is_empty() || !self.beyond.is_empty()
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
        assert_eq!(claims.due(), [3]);
        assert!(claims.pending() && !claims.under_way());
        assert!(claims.due().is_empty(), "Kafka is being asked");
        claims.unknown(3);
        assert!(claims.pending());
        claims.again(3, Reading::Careful);
        assert_eq!(claims.due(), [3]);
        assert_eq!(claims.scouted(3), Some(Reading::Careful));
        assert_eq!(claims.scouted(3), None);
        assert!(claims.due().is_empty());
        assert!(claims.pending() && claims.under_way());
        assert!(claims.answered(3));
        assert!(!claims.pending() && !claims.under_way());
        assert!(!claims.answered(3));
    }

    #[test]
    fn a_position_beyond_the_end_is_under_way_until_it_was_compared_again() {
        let mut claims = Claims::default();
        let claimed = |claims: &mut Claims| {
            assert_eq!(claims.due(), [3]);
            claims.scouted(3);
            assert!(claims.answered(3));
        };
        claims.assigned(3);
        claimed(&mut claims);
        assert!(claims.beyond(3, Reading::Usual));
        assert!(claims.under_way(), "others may not write");
        claimed(&mut claims);
        assert!(!claims.beyond(3, Reading::Usual), "it is of another log");
        claims.again(3, Reading::Usual);
        claims.due();
        claims.unknown(3);
        assert!(
            !claims.under_way(),
            "nobody waits for a leader that is away"
        );
        claims.within(3);
        assert!(!claims.under_way());
    }

    #[test]
    fn a_claim_that_was_revoked_meanwhile_is_not_wanted() {
        let mut claims = Claims::default();
        claims.assigned(3);
        claims.due();
        claims.scouted(3);
        claims.revoked(3);
        assert!(!claims.answered(3));
        claims.again(3, Reading::Careful);
        assert!(claims.due().is_empty(), "it is not ours");
    }

    #[test]
    fn a_lost_partition_is_claimed_again_after_a_pause_that_doubles() {
        let mut claims = Claims::default();
        claims.assigned(3);
        claims.due();
        claims.scouted(3);
        claims.answered(3);
        assert_eq!(claims.lost(3), PAUSES.first);
        assert!(claims.due().is_empty(), "not at once");
        assert_eq!(claims.lost(3), PAUSES.first * 2);
        assert_eq!((0..20).map(|_| claims.lost(3)).max(), Some(PAUSES.longest));
        let later = Instant::now() + PAUSES.longest + KEPT;
        assert_eq!(claims.lost_at(3, later), PAUSES.first, "kept in between");
        assert_eq!(claims.lost_at(3, later), PAUSES.first * 2);
        claims.revoked(3);
        claims.assigned(3);
        assert_eq!(claims.due(), [3], "a new assignment starts anew");
    }
}
