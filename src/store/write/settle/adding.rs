//! The careful reading of a share: which of its events and report rows still fit into sums.

use std::collections::BTreeMap;

use crate::event::{Counts, MAX_SUM, Reason};
use crate::store::read::insights::Summed;
use crate::store::write::FastMap;
use crate::store::write::batch::Filled;
use crate::store::write::settled::{Rejected, Rejection};
use crate::totals::{Totals, WideTotals};

/// Adds up the rows of a share one by one, in their order, and leaves out those with which a sum, given what is stored, would pass
/// its limit. All rows of a share that is read carefully are undecided, so all have their record at hand.
pub(super) struct Adding<'a> {
    share: &'a Filled,
    /// What was counted before, ascending.
    rejected: &'a Rejected,
    sums: FastMap<(u32, u8), WideTotals>,
    /// The first row that was not looked at.
    next: usize,
    /// The events that do not fit.
    overflowing: Rejected,
}

impl<'a> Adding<'a> {
    pub fn to(
        share: &'a Filled,
        rejected: &'a Rejected,
        stored: &BTreeMap<String, Summed>,
    ) -> Adding<'a> {
        let index: FastMap<&str, u32> = (0..)
            .zip(&share.campaigns)
            .map(|(i, name)| (name.as_ref(), i))
            .collect();
        let mut sums: FastMap<(u32, u8), WideTotals> = FastMap::default();
        for (campaign, summed) in stored {
            if let Some(campaign) = index.get(campaign.as_str()) {
                let stored = summed.sums.iter();
                sums.extend(stored.map(|((_, platform), sum)| ((*campaign, *platform), *sum)));
            }
        }
        Adding {
            share,
            rejected,
            sums,
            next: 0,
            overflowing: Rejected::new(),
        }
    }

    /// Whether a row fits, and is added.
    fn add(&mut self, row: usize, counts: &Counts) -> bool {
        let events = &self.share.events;
        let sum = self
            .sums
            .entry((events.campaign[row], events.platform[row]))
            .or_default();
        let mut next = *sum;
        next.add(&Totals::of(*counts), 1);
        let fits = next.largest() <= i128::from(MAX_SUM);
        if fits {
            *sum = next;
        }
        fits
    }

    /// Adds the events before a row.
    fn add_events(&mut self, until: usize) {
        for row in self.next..until {
            let is_rejected = self
                .rejected
                .binary_search_by_key(&row, |(row, _)| *row)
                .is_ok();
            if is_rejected || self.share.reports.has(row) {
                continue;
            }
            if !self.add(row, &self.share.events.counts(row)) {
                let rejection = Rejection::Dead(Reason::SumOverflow);
                self.overflowing.push((row, rejection));
            }
        }
        self.next = until;
    }

    /// Adds the events before a report row, and then, if it fits, that by which it changes sums.
    pub fn add_restatement(&mut self, row: usize, counts: &Counts) -> bool {
        self.add_events(row);
        self.add(row, counts)
    }

    /// The events that do not fit, and the largest of the sums with all that do.
    pub fn add_the_rest(mut self) -> (Rejected, i64) {
        self.add_events(self.share.events.len());
        let largest = self.sums.values().map(WideTotals::largest).max();
        let largest = i64::try_from(largest.unwrap_or_default()).unwrap_or(i64::MAX);
        (self.overflowing, largest)
    }
}
