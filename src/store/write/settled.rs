//! A share of which every row is decided.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use diesel::PgConnection;

use super::batch::{Filled, RawRecord};
use super::dead_letters;
use super::ownership::Needs;
use crate::event::{Count, Reason};
use crate::store::StoreError;
use crate::store::blocks::{self, BlockKey};
use crate::store::events::Columns;

/// Why a row of a share is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    Duplicate,
    Dead(Reason),
}

/// The rows of a share that are not counted, ascending.
pub(super) type Rejected = Vec<(usize, Rejection)>;

/// What one attempt writes of a share.
#[derive(Debug)]
pub(super) struct Settled<'a> {
    pub share: &'a Filled,
    pub rejected: Rejected,
    /// What is counted: the share's own columns, unless rows of them were rejected.
    pub events: Cow<'a, Columns>,
    pub duplicates: Count,
    pub dead: Vec<(Reason, &'a RawRecord)>,
    /// The rows of `events` that are older than the memory of recent ids.
    pub late: Vec<usize>,
    pub needs: Needs,
}

impl Settled<'_> {
    /// The share without the rejected rows, each of which was undecided.
    pub fn new(share: &Filled, rejected: Rejected) -> Settled<'_> {
        let mut dead: Vec<_> = share.dead.iter().map(|d| (d.reason, &d.record)).collect();
        let (mut duplicates, mut late) = (share.duplicates, Vec::new());
        let mut ahead = rejected.iter().peekable();
        let mut rejected_before = 0;
        for undecided in &share.undecided {
            match ahead.next_if(|(row, _)| *row == undecided.row) {
                Some((_, rejection)) => {
                    rejected_before += 1;
                    match rejection {
                        Rejection::Duplicate => duplicates += Count::new(1),
                        Rejection::Dead(reason) => dead.push((*reason, &undecided.record)),
                    }
                }
                None if undecided.late => late.push(undecided.row - rejected_before),
                None => {}
            }
        }
        let events = if rejected.is_empty() {
            Cow::Borrowed(&share.events)
        } else {
            let rows: Vec<usize> = rejected.iter().map(|(row, _)| *row).collect();
            Cow::Owned(share.events.without(&rows))
        };
        Settled {
            share,
            rejected,
            events,
            duplicates,
            dead,
            late,
            needs: Needs::default(),
        }
    }

    /// Its campaigns that have no owner yet.
    pub fn unowned(&self) -> impl Iterator<Item = &Arc<str>> {
        let campaigns = &self.share.campaigns;
        self.needs
            .unowned
            .iter()
            .filter_map(|&index| campaigns.get(index as usize))
    }

    /// A share that is written already, as it was settled then: the store has its events and dead letters.
    pub fn recalled<'a>(
        connection: &mut PgConnection,
        share: &'a Filled,
    ) -> Result<Settled<'a>, StoreError> {
        let offset_of = |row: usize| share.events.offset[row];
        let places = share.undecided.iter().map(|undecided| BlockKey {
            stream: share.stream,
            first_offset: offset_of(undecided.row),
            event_count: Count::new(1),
        });
        let mut stored = HashSet::new();
        blocks::for_each(connection, &places.collect::<Vec<_>>(), |block| {
            stored.extend(block.events.offset.iter().copied());
            Ok(())
        })?;
        let reasons = dead_letters::reasons(connection, share)?;
        let rejected = share
            .undecided
            .iter()
            .filter(|undecided| !stored.contains(&offset_of(undecided.row)))
            .map(|undecided| {
                let reason = reasons.get(&offset_of(undecided.row));
                let rejection = reason.map_or(Rejection::Duplicate, |r| Rejection::Dead(*r));
                (undecided.row, rejection)
            });
        Ok(Settled::new(share, rejected.collect()))
    }
}
