//! The batches that fill while the writers write: one a writer, of the records of its partitions. Here is
//! how full each is and when it goes; the records themselves are with their partitions.

use std::time::{Duration, Instant};

/// A batch of a size between these goes when no other writer is busy. Two transactions at a time pay where
/// there is little to do, since one need not wait for the other, and where there is so much that the database
/// is what all wait for; in between, one larger batch is cheaper than two.
const FEW_RECORDS: usize = 1_000;
const MANY_RECORDS: usize = 50_000;
/// A batch is full with so many records for each of its campaigns, but not with fewer than [`ENOUGH_RECORDS`].
/// With few campaigns, a larger batch has hardly fewer sums for each record, and takes memory.
const RECORDS_A_CAMPAIGN: usize = 400;
const ENOUGH_RECORDS: usize = 50_000;
/// How long a poll waits where there is nothing to write.
const IDLE_POLL: Duration = Duration::from_millis(50);

/// How much waits to be written, of a partition or of some together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Shares that move their position, if only past offsets without a record.
    pub shares: usize,
    pub records: usize,
    /// The campaigns of its events, those of each partition by themselves.
    pub campaigns: usize,
    /// Bytes of records that are kept whole.
    pub kept: usize,
}

/// What the memory of a process allows.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Campaigns of one batch: each is a few kilobytes of rows while it is written.
    pub campaigns: usize,
    /// Bytes of records that are kept whole in one batch: each is there several times while it is written.
    pub kept: usize,
    /// Campaign ids remembered for one partition.
    pub campaigns_known: usize,
}

/// What a campaign takes while it is written, and while it is remembered, in bytes.
const CAMPAIGN_WRITTEN: u64 = 4 << 10;
const CAMPAIGN_KNOWN: u64 = 256;
/// Records that are kept whole are there about four times while they are written: as they came, as parameters, in
/// libpq's buffer, and those of the next batch.
const KEPT_MOST: u64 = 8 << 20;

impl Bounds {
    /// Cut from what a process may use: a quarter for what is written, a quarter for what is remembered.
    pub fn of(memory: u64, writers: usize, partitions: usize) -> Bounds {
        let share = |part: u64, among: usize, each: u64| {
            let bytes = memory / part / among.max(1) as u64;
            usize::try_from(bytes / each).unwrap_or(usize::MAX)
        };
        Bounds {
            campaigns: share(4, writers, CAMPAIGN_WRITTEN).max(1_000),
            kept: share(32, writers, 1).min(KEPT_MOST as usize),
            campaigns_known: share(4, partitions, CAMPAIGN_KNOWN).clamp(10_000, 1_000_000),
        }
    }
}

/// See the module.
pub struct Batches {
    /// How many records each may have at most.
    most: usize,
    bounds: Bounds,
    /// How long what came first waits for others.
    linger: Duration,
    /// How long it does for [`pace`](super::pace).
    apart: Duration,
    batches: Vec<Batch>,
}

#[derive(Clone, Copy, Default)]
struct Batch {
    load: Load,
    /// Since when there is anything.
    since: Option<Instant>,
}

impl Batch {
    fn is_heavy(&self, bounds: &Bounds) -> bool {
        self.load.kept >= bounds.kept || self.load.campaigns >= bounds.campaigns
    }

    fn room(&self, most: usize, bounds: &Bounds) -> usize {
        if self.is_heavy(bounds) {
            return 0;
        }
        let enough = self.load.campaigns.saturating_mul(RECORDS_A_CAMPAIGN);
        let full = enough.max(ENOUGH_RECORDS).min(most);
        full.saturating_sub(self.load.records)
    }
}

impl Batches {
    /// Empty ones, for so many writers, of at most so many records in all, and each within its bounds.
    pub fn new(writers: usize, records: usize, bounds: Bounds, linger: Duration) -> Batches {
        let writers = writers.max(1);
        Batches {
            most: (records / writers).max(1),
            bounds,
            linger,
            apart: Duration::ZERO,
            batches: vec![Batch::default(); writers],
        }
    }

    /// From now on each waits so long for more, or for as long as it does anyway.
    pub fn keep_apart(&mut self, apart: Duration) {
        self.apart = apart;
    }

    /// Which writer's batch a partition's records are in.
    pub fn writer_of(&self, partition: i32) -> usize {
        partition.unsigned_abs() as usize % self.batches.len()
    }

    /// Notes that of a partition `now` waits, in place of what waited `before`.
    pub fn change(&mut self, partition: i32, before: Load, now: Load) {
        let writer = self.writer_of(partition);
        if let Some(Batch { load, since }) = self.batches.get_mut(writer) {
            load.shares = (load.shares + now.shares).saturating_sub(before.shares);
            load.records = (load.records + now.records).saturating_sub(before.records);
            load.campaigns = (load.campaigns + now.campaigns).saturating_sub(before.campaigns);
            load.kept = (load.kept + now.kept).saturating_sub(before.kept);
            if load.shares == 0 {
                *since = None;
            } else {
                since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Whether there is nothing in any.
    pub fn are_empty(&self) -> bool {
        self.batches.iter().all(|batch| batch.since.is_none())
    }

    /// Whether a partition's batch is full, however few its records are.
    pub fn is_heavy(&self, partition: i32) -> bool {
        let batch = self.batches.get(self.writer_of(partition));
        batch.is_some_and(|batch| batch.is_heavy(&self.bounds))
    }

    /// How many more records may come before one is full.
    pub fn room(&self) -> usize {
        let rooms = self
            .batches
            .iter()
            .map(|batch| batch.room(self.most, &self.bounds));
        rooms.min().unwrap_or_default()
    }

    /// How long a poll may wait before something is to be done about one of them. `is_idle` says whether a
    /// writer has nothing to do.
    pub fn may_wait(&self, is_idle: impl Fn(usize) -> bool) -> Duration {
        let waits = (0..self.batches.len()).map(|writer| self.wait_of(writer, &is_idle));
        waits.min().unwrap_or(IDLE_POLL)
    }

    fn wait_of(&self, writer: usize, is_idle: &impl Fn(usize) -> bool) -> Duration {
        let batch = self.batches.get(writer);
        match (batch.and_then(|b| b.since), self.may_go(writer, is_idle)) {
            (None, true) => IDLE_POLL,
            (None, false) => Duration::from_millis(5),
            (Some(_), false) => Duration::from_millis(1),
            (Some(since), true) => self.linger.max(self.apart).saturating_sub(since.elapsed()),
        }
    }

    /// Whether a batch is neither small nor large.
    fn is_between(&self, writer: usize) -> bool {
        let records = self
            .batches
            .get(writer)
            .map_or(0, |batch| batch.load.records);
        (FEW_RECORDS..MANY_RECORDS).contains(&records)
    }

    /// Whether the writer has nothing to do, and if another one has, two at a time are worth it.
    fn may_go(&self, writer: usize, is_idle: &impl Fn(usize) -> bool) -> bool {
        is_idle(writer) && (!self.is_between(writer) || (0..self.batches.len()).all(is_idle))
    }

    /// Takes the batch that has waited longest of those that are due, and leaves an empty one: whose it was, and
    /// of how many records. With `now`, or where one is full, each is due whose writer has nothing to do:
    /// nothing more comes into any before the full one has gone.
    pub fn take_due(
        &mut self,
        is_idle: impl Fn(usize) -> bool,
        now: bool,
    ) -> Option<(usize, usize)> {
        let now = now || self.room() == 0;
        let is_due = |writer: usize| {
            if now {
                is_idle(writer)
            } else {
                self.wait_of(writer, &is_idle).is_zero()
            }
        };
        let due = self
            .batches
            .iter()
            .enumerate()
            .filter(|(writer, batch)| batch.since.is_some() && is_due(*writer));
        let writer = due.min_by_key(|(_, batch)| batch.since)?.0;
        let batch = std::mem::take(self.batches.get_mut(writer)?);
        Some((writer, batch.load.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: fn(usize) -> bool = |_| true;

    const WIDE: Bounds = Bounds {
        campaigns: usize::MAX,
        kept: 1 << 20,
        campaigns_known: 0,
    };

    #[test]
    fn a_batch_is_full_of_bytes_or_of_campaigns_as_well() {
        let load = |kept, campaigns| Load {
            shares: 1,
            records: 1,
            campaigns,
            kept,
        };
        let narrow = Bounds {
            campaigns: 10,
            ..WIDE
        };
        for (load, is_full) in [
            (load(1 << 20, 0), true),
            (load((1 << 20) - 1, 9), false),
            (load(0, 10), true),
        ] {
            let mut batches = Batches::new(2, 1_000, narrow, Duration::ZERO);
            batches.change(1, Load::default(), load);
            assert_eq!(batches.room() == 0, is_full);
            assert_eq!(batches.is_heavy(1), is_full);
            assert!(!batches.is_heavy(0));
        }
    }

    #[test]
    fn bounds_follow_memory() {
        let small = Bounds::of(512 << 20, 2, 4);
        let large = Bounds::of(24 << 30, 2, 4);
        assert!(small.campaigns < 20_000 && large.campaigns > 500_000);
        assert_eq!((small.kept, large.kept), (8 << 20, 8 << 20));
        assert_eq!(Bounds::of(128 << 20, 2, 4).kept, 2 << 20);
        assert_eq!(large.campaigns_known, 1_000_000);
    }

    /// As if a share of so many records had come.
    fn add(batches: &mut Batches, partition: i32, records: usize, campaigns: usize) {
        let load = Load {
            shares: records.min(1),
            records,
            campaigns,
            kept: 0,
        };
        batches.change(partition, Load::default(), load);
    }

    /// Batches of two writers, of partitions 0 and 1, with so many records each.
    fn filled(records: [usize; 2]) -> Batches {
        let mut batches = Batches::new(2, 2 * MANY_RECORDS, WIDE, Duration::ZERO);
        for (partition, records) in (0..).zip(records) {
            add(&mut batches, partition, records, 0);
        }
        batches
    }

    #[test]
    fn the_one_that_waited_longest_goes_first_and_is_empty_then() {
        let mut batches = Batches::new(2, 100, WIDE, Duration::ZERO);
        for partition in [1, 3, 0] {
            add(&mut batches, partition, 1, 0);
        }
        assert_eq!(batches.take_due(IDLE, false), Some((1, 2)));
        assert_eq!(batches.take_due(IDLE, false), Some((0, 1)));
        assert_eq!(batches.take_due(IDLE, true), None);
        assert!(batches.are_empty());
    }

    #[test]
    fn a_batch_lingers_for_others() {
        let mut batches = Batches::new(1, 100, WIDE, Duration::from_secs(3600));
        add(&mut batches, 0, 1, 0);
        assert_eq!(batches.take_due(IDLE, false), None);
        assert!(batches.may_wait(IDLE) > Duration::from_secs(3000));
        assert_eq!(batches.take_due(IDLE, true), Some((0, 1)));
    }

    #[test]
    fn batches_are_kept_apart_until_it_is_over() {
        let mut batches = Batches::new(1, 100, WIDE, Duration::ZERO);
        batches.keep_apart(Duration::from_secs(3600));
        add(&mut batches, 0, 1, 0);
        assert_eq!(batches.take_due(IDLE, false), None);
        add(&mut batches, 0, 99, 0);
        assert_eq!(batches.take_due(IDLE, false), Some((0, 100)), "it is full");
        add(&mut batches, 0, 1, 0);
        assert_eq!(batches.take_due(IDLE, false), None);
        batches.keep_apart(Duration::ZERO);
        assert_eq!(batches.take_due(IDLE, false), Some((0, 1)));
    }

    #[test]
    fn two_at_a_time_where_there_is_little_or_much() {
        let other_is_busy = |writer| writer == 1;
        for (records, goes) in [
            (1, true),
            (FEW_RECORDS - 1, true),
            (FEW_RECORDS, false),
            (MANY_RECORDS - 1, false),
            (MANY_RECORDS, true),
        ] {
            let mut batches = Batches::new(2, 4 * MANY_RECORDS, WIDE, Duration::ZERO);
            add(&mut batches, 1, records, 1_000);
            assert!(batches.room() > 0);
            let taken = batches.take_due(other_is_busy, false);
            assert_eq!(taken.is_some(), goes, "{records} records");
            assert_eq!(batches.take_due(IDLE, false).is_some(), !goes);
        }
    }

    #[test]
    fn where_one_is_full_the_other_goes_too() {
        let mut batches = filled([MANY_RECORDS, FEW_RECORDS]);
        assert_eq!(batches.room(), 0);
        let full_one_is_busy = |writer| writer == 1;
        assert_eq!(
            batches.take_due(full_one_is_busy, false),
            Some((1, FEW_RECORDS))
        );
        assert_eq!(batches.take_due(full_one_is_busy, false), None);
        assert_eq!(batches.room(), 0);
        assert_eq!(batches.take_due(IDLE, false), Some((0, MANY_RECORDS)));
        assert_eq!(batches.room(), MANY_RECORDS);
    }

    #[test]
    fn many_campaigns_make_a_batch_larger_up_to_its_limit() {
        let mut batches = Batches::new(1, 3 * ENOUGH_RECORDS, WIDE, Duration::ZERO);
        add(&mut batches, 0, ENOUGH_RECORDS, 0);
        assert_eq!(batches.room(), 0);
        add(&mut batches, 0, 1, ENOUGH_RECORDS / RECORDS_A_CAMPAIGN * 2);
        assert_eq!(batches.room(), ENOUGH_RECORDS - 1);
        add(&mut batches, 0, 1, 1_000_000);
        assert_eq!(batches.room(), 2 * ENOUGH_RECORDS - 2);
        assert_eq!(batches.take_due(IDLE, false), Some((0, ENOUGH_RECORDS + 2)));
        assert_eq!(batches.room(), ENOUGH_RECORDS);
        // Where less is allowed, less is full.
        assert_eq!(Batches::new(2, 20, WIDE, Duration::ZERO).room(), 10);
    }

    #[test]
    fn what_was_given_up_makes_room() {
        let mut batches = filled([3, 1]);
        let given_up = Load {
            shares: 1,
            records: 3,
            ..Load::default()
        };
        batches.change(0, given_up, Load::default());
        assert_eq!(batches.room(), MANY_RECORDS - 1);
        assert_eq!(batches.take_due(IDLE, true), Some((1, 1)));
        assert_eq!(batches.take_due(IDLE, true), None);
    }

    #[test]
    fn a_skip_is_no_record_and_is_due_in_its_time() {
        let skip = Load {
            shares: 1,
            ..Load::default()
        };
        let mut batches = Batches::new(1, 100, WIDE, Duration::from_secs(3600));
        batches.change(0, Load::default(), skip);
        batches.change(0, skip, skip);
        assert!(!batches.are_empty());
        assert_eq!(batches.room(), 100);
        assert_eq!(batches.take_due(IDLE, false), None);
        assert_eq!(batches.take_due(IDLE, true), Some((0, 0)));
        assert!(batches.are_empty());
        let mut batches = Batches::new(1, 100, WIDE, Duration::ZERO);
        batches.change(0, Load::default(), skip);
        assert_eq!(batches.take_due(IDLE, false), Some((0, 0)));
        batches.change(0, Load::default(), skip);
        batches.change(0, skip, Load::default());
        assert!(batches.are_empty());
        assert_eq!(batches.take_due(IDLE, true), None);
    }
}
