//! A share of which every row is decided.

use std::borrow::Cow;
use std::sync::Arc;

use super::batch::{Filled, RawRecord};
use super::reports::{Restated, Writes};
use crate::event::{Count, MAX_SUM, Reason};
use crate::store::StreamId;
use crate::store::events::Columns;
use crate::time::Timestamp;

/// Why a row of a share is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    Duplicate,
    /// A report row that says again what is known.
    Unchanged,
    /// A report row that is older than what is known.
    Superseded,
    Dead(Reason),
}

/// The rows of a share that are not counted, ascending.
pub(super) type Rejected = Vec<(usize, Rejection)>;

/// What writing a share takes, beyond its records.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Campaigns that have no owner yet: indexes into the share's campaigns.
    pub unowned: Vec<u32>,
    /// Campaigns owned by another partition that have a new event here, and that partition.
    pub takeovers: Vec<(u32, StreamId)>,
    /// Campaigns this partition owns, and the time before which their events must be looked up.
    pub owned: Vec<(Arc<str>, Timestamp)>,
    /// Of a share that was read carefully: the largest sum of its campaigns, once it is counted.
    pub largest_sum: Option<i64>,
}

/// What one attempt writes of a share.
#[derive(Debug)]
pub(super) struct Settled<'a> {
    pub share: &'a Filled,
    pub rejected: Rejected,
    /// What is counted: the share's own columns, unless rows of them were rejected.
    pub events: Cow<'a, Columns>,
    pub duplicates: Count,
    pub unchanged: Count,
    pub superseded: Count,
    pub dead: Vec<(Reason, &'a RawRecord)>,
    /// The rows of `events` that are older than the memory of recent ids.
    pub late: Vec<usize>,
    pub needs: Needs,
    /// What its report rows change.
    pub reported: Writes,
}

impl Settled<'_> {
    /// The share without the rejected rows, each of which was undecided, and with what its report rows come to. Which of these
    /// change nothing is rejected too.
    pub fn new(share: &Filled, rejected: Rejected, restated: Restated) -> Settled<'_> {
        let Restated {
            counts,
            rejected: unchanging,
            writes,
        } = restated;
        let rejected = both(rejected, unchanging);
        let mut dead: Vec<_> = share.dead.iter().map(|d| (d.reason, &d.record)).collect();
        let (mut duplicates, mut late) = (share.duplicates, Vec::new());
        let (mut unchanged, mut superseded) = (Count::ZERO, Count::ZERO);
        let mut ahead = rejected.iter().peekable();
        let mut rejected_before = 0;
        for undecided in &share.undecided {
            match ahead.next_if(|(row, _)| *row == undecided.row) {
                Some((_, rejection)) => {
                    rejected_before += 1;
                    match rejection {
                        Rejection::Duplicate => duplicates += Count::new(1),
                        Rejection::Unchanged => unchanged += Count::new(1),
                        Rejection::Superseded => superseded += Count::new(1),
                        Rejection::Dead(reason) => dead.push((*reason, &undecided.record)),
                    }
                }
                None if undecided.late => late.push(undecided.row - rejected_before),
                None => {}
            }
        }
        let mut events = Cow::Borrowed(&share.events);
        if !counts.is_empty() {
            let restated = events.to_mut();
            for (row, counts) in counts {
                restated.restate(row, counts);
            }
        }
        if !rejected.is_empty() {
            let rows: Vec<usize> = rejected.iter().map(|(row, _)| *row).collect();
            events = Cow::Owned(events.without(&rows));
        }
        Settled {
            share,
            rejected,
            events,
            duplicates,
            unchanged,
            superseded,
            dead,
            late,
            needs: Needs::default(),
            reported: writes,
        }
    }

    /// By how much it moves a sum away from zero at the most.
    pub fn counted(&self) -> i64 {
        let e = &self.events;
        let sums = (0..e.len()).fold([0_i128; 5], |mut sums, row| {
            for (sum, number) in sums.iter_mut().zip(e.counts(row).numbers()) {
                *sum += i128::from(number).abs();
            }
            sums
        });
        // Beyond the limit is beyond it, by however much.
        let largest = sums.into_iter().max().unwrap_or_default();
        largest.clamp(0, i128::from(MAX_SUM) + 1) as i64
    }

    /// Its campaigns that have no owner yet.
    pub fn unowned(&self) -> impl Iterator<Item = &Arc<str>> {
        let campaigns = &self.share.campaigns;
        self.needs
            .unowned
            .iter()
            .filter_map(|&index| campaigns.get(index as usize))
    }
}

/// Rows rejected in one way or another, ascending. None is in both.
pub(super) fn both(one: Rejected, other: Rejected) -> Rejected {
    if other.is_empty() {
        return one;
    }
    let mut all = one;
    all.extend(other);
    all.sort_unstable_by_key(|(row, _)| *row);
    all
}
