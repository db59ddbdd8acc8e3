//! The one transaction that makes a batch true.
//!
//! Positions, events, sums and dead letters of a batch are written together or not at all:
//!
//! 1. `stream_positions`: the fence. No row moved means that somebody else owns the partition.
//! 2. `campaigns`: first sight of a campaign.
//! 3. `event_blocks`, `late_events`: the events.
//! 4. `report_rows`, `report_history`: what platforms say, of which some events are the differences.
//! 5. `sum_chunks`, `sum_parts`: the events' sums.
//! 6. `dead_letters`: what could not be counted.
//!
//! Shares that must take over a campaign go one by one, each in a transaction of its own, after the
//! rest: only then does the look-up under the lock see everything the others have written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::Connection;
use diesel::pg::PgConnection;
use diesel::result::Error as DieselError;

use super::batch::{Filled, Reading};
use super::positions::{self, Refusal};
use super::projections::Fold;
use super::reports::Restated;
use super::settled::{Rejected, Rejection, Settled};
use super::{append, dead_letters, ownership, reports, settle};
use crate::event::Count;
use crate::offset::Offset;
use crate::store::blocks::{self, BlockKey};
use crate::store::events::Fingerprinter;
use crate::store::sums::part::{self, Chunks};
use crate::store::{CommitId, StoreError, StreamId};
use crate::time::Timestamp;
use crate::totals::Totals;
use crate::{crash, guards, traces};

/// What became of a share.
#[derive(Debug)]
pub struct ShareResult {
    pub stream: StreamId,
    pub outcome: Outcome,
}

/// What became of a share.
#[derive(Debug)]
pub enum Outcome {
    /// It is true now (or was already: the reply to an earlier COMMIT had been lost).
    Committed(Committed),
    /// Another process owns the partition.
    Lost,
    /// What is known of the partition is out of date (a campaign was taken over), or a sum would pass its limit:
    /// claim it again and read on from its position, in this way.
    Reset(Reading),
}

/// What a committed share changed.
#[derive(Debug)]
pub struct Committed {
    pub commit_id: CommitId,
    pub next_offset: Offset,
    pub records: Count,
    pub duplicates: Count,
    /// Report rows that said what is known, and those older than what is known.
    pub unchanged: Count,
    pub superseded: Count,
    /// The reasons of its dead letters.
    pub dead: Vec<crate::event::Reason>,
    /// Where these stand, in the same order.
    pub dead_at: Box<[Offset]>,
    /// The sum of its events; a field that would not fit stays at the largest number.
    pub totals: Totals,
    /// The latest event time in it.
    pub max_event_time: Option<Timestamp>,
    /// The campaigns whose sums changed.
    pub campaigns: Vec<Arc<str>>,
    /// Campaigns now known to be the partition's, and the time before which their events must be
    /// looked up.
    pub owned: Vec<(Arc<str>, Timestamp)>,
}

/// Why a transaction was given up.
enum Abort {
    Store(StoreError),
    /// These streams' fences did not hold.
    Refused(Vec<StreamId>),
    /// Ownership changed between looking and locking.
    Outrun,
}

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Abort {
        Abort::Store(error)
    }
}

impl From<DieselError> for Abort {
    fn from(error: DieselError) -> Abort {
        Abort::Store(error.into())
    }
}

/// Writes a batch: at most one share a partition. May be called again with the same shares after
/// an error, on a new connection: what had been committed is recognised.
///
/// # Errors
/// When the database did not do it. Nothing is known then about the last transaction, and calling
/// again finds out.
pub fn commit(
    connection: &mut PgConnection,
    fingerprinter: &Fingerprinter,
    shares: &[Filled],
) -> Result<Vec<ShareResult>, StoreError> {
    let mut results = Vec::with_capacity(shares.len());
    let mut waiting: Vec<_> = shares.iter().map(|s| (s, Rejected::new())).collect();
    let (mut one_by_one, mut tightened) = (false, false);
    while !waiting.is_empty() {
        let step = traces::step("settle");
        let mut settled = Vec::with_capacity(waiting.len());
        for (share, rejected) in waiting {
            settled.push(settle::settle(connection, fingerprinter, share, rejected)?);
        }
        step.done();
        let mut chosen = choose(&settled);
        if one_by_one {
            chosen.truncate(1);
        }
        let streams: Vec<StreamId> = chosen.iter().map(|s| s.share.stream).collect();
        crash::point("before-begin");
        let step = traces::step("commit");
        let written = match chosen.as_slice() {
            [alone] if !alone.needs.takeovers.is_empty() => {
                take_over(connection, fingerprinter, alone)
            }
            together => connection.transaction(|connection| write(connection, together)),
        };
        let done = match written {
            Ok(committed) => {
                crash::point("after-commit");
                step.done();
                results.extend(committed);
                streams
            }
            Err(Abort::Refused(streams)) => {
                for share in shares.iter().filter(|s| streams.contains(&s.stream)) {
                    let outcome = match positions::refusal(connection, share)? {
                        Refusal::AlreadyCommitted { commit_id } => {
                            let settled = recall(connection, share)?;
                            Outcome::Committed(committed(&settled, commit_id))
                        }
                        Refusal::Lost => Outcome::Lost,
                        Refusal::CampaignsMoved => Outcome::Reset(Reading::Usual),
                    };
                    results.push(ShareResult {
                        stream: share.stream,
                        outcome,
                    });
                }
                streams
            }
            // The next look sees who was quicker.
            Err(Abort::Outrun) => Vec::new(),
            // The bound is one of all sums together. What they really are is looked up, which leaves room for long.
            Err(Abort::Store(StoreError::SumOverflow)) if !tightened => {
                positions::tighten(connection, &streams)?;
                tightened = true;
                Vec::new()
            }
            Err(Abort::Store(StoreError::SumOverflow)) => {
                // Which event it was is found out by adding up one by one; the rest can go on.
                results.extend(streams.iter().map(|&stream| ShareResult {
                    stream,
                    outcome: Outcome::Reset(Reading::Careful),
                }));
                streams
            }
            // Two shares of this very transaction, perhaps: alone, the second finds the first's.
            Err(Abort::Store(StoreError::StoredMeanwhile)) if !one_by_one => {
                one_by_one = true;
                Vec::new()
            }
            Err(Abort::Store(error)) => return Err(error),
        };
        settled.retain(|s| !done.contains(&s.share.stream));
        waiting = settled.into_iter().map(|s| (s.share, s.rejected)).collect();
    }
    Ok(results)
}

/// Which of the waiting shares the next transaction writes: all that take nothing over (and no
/// campaign without an owner that another of them takes), or else one alone.
fn choose<'s, 'a>(waiting: &'s [Settled<'a>]) -> Vec<&'s Settled<'a>> {
    let mut taken: HashSet<_, foldhash::fast::RandomState> = HashSet::default();
    let together: Vec<_> = waiting
        .iter()
        .filter(|settled| {
            let joins = settled.needs.takeovers.is_empty()
                && !settled.unowned().any(|name| taken.contains(name));
            if joins {
                taken.extend(settled.unowned());
            }
            joins
        })
        .collect();
    if together.is_empty() {
        waiting.iter().take(1).collect()
    } else {
        together
    }
}

/// Writes one share whose partition takes campaigns over, holding the positions of all concerned.
fn take_over(
    connection: &mut PgConnection,
    fingerprinter: &Fingerprinter,
    settled: &Settled<'_>,
) -> Result<Vec<ShareResult>, Abort> {
    let takeovers = settled.needs.takeovers.iter();
    let mut concerned: Vec<StreamId> = takeovers.map(|(_, stream)| *stream).collect();
    concerned.push(settled.share.stream);
    connection.transaction(|connection| {
        positions::lock(connection, &concerned)?;
        // Looked at again: the former owner may have committed until the lock was ours.
        let rejected = settled.rejected.clone();
        let settled = settle::settle(connection, fingerprinter, settled.share, rejected)?;
        let mut takeovers = settled.needs.takeovers.iter();
        if takeovers.any(|(_, stream)| !concerned.contains(stream)) {
            return Err(Abort::Outrun);
        }
        write(connection, &[&settled])
    })
}

/// A share that is written already, as it was settled then: the store has its events and dead letters.
///
/// Which report rows said nothing new, and in which way, it has not: they are taken for duplicates here, and only what this process
/// says of itself is so.
fn recall<'a>(connection: &mut PgConnection, share: &'a Filled) -> Result<Settled<'a>, StoreError> {
    let offset_of = |row: usize| share.events.offset[row];
    let places = share.undecided.iter().map(|undecided| BlockKey {
        stream: share.stream,
        first_offset: offset_of(undecided.row),
        event_count: Count::new(1),
    });
    let mut stored = HashMap::new();
    blocks::for_each(connection, &places.collect::<Vec<_>>(), |block| {
        let events = &block.events;
        stored.extend((0..events.len()).map(|row| (events.offset[row], events.counts(row))));
        Ok(())
    })?;
    let reasons = dead_letters::reasons(connection, share)?;
    let rejected = share
        .undecided
        .iter()
        .filter(|undecided| !stored.contains_key(&offset_of(undecided.row)))
        .map(|undecided| {
            let reason = reasons.get(&offset_of(undecided.row));
            let rejection = reason.map_or(Rejection::Duplicate, |r| Rejection::Dead(*r));
            (undecided.row, rejection)
        });
    let rejected = rejected.collect();
    // By how much report rows changed sums is told by what was stored of them.
    let reported = share.reports.rows.iter();
    let restated = Restated {
        counts: reported
            .filter_map(|r| Some((r.row, *stored.get(&offset_of(r.row))?)))
            .collect(),
        ..Restated::default()
    };
    Ok(Settled::new(share, rejected, restated))
}

/// The transaction's body.
fn write(
    connection: &mut PgConnection,
    shares: &[&Settled<'_>],
) -> Result<Vec<ShareResult>, Abort> {
    crash::point("after-begin");
    crash::point("before-position");
    let commit = if guards::up() {
        positions::advance(connection, shares)?.map_err(Abort::Refused)?
    } else {
        positions::without_a_fence(connection)?
    };
    crash::point("after-position");
    if !ownership::take_ownership(connection, shares)? {
        return Err(Abort::Outrun);
    }
    for settled in shares {
        if !settled.needs.takeovers.is_empty() {
            ownership::take_over(connection, settled)?;
        }
    }
    crash::point("before-blocks");
    for settled in shares {
        append::append(
            connection,
            settled.share,
            &settled.events,
            &settled.late,
            commit,
        )?;
    }
    crash::point("after-blocks");
    for settled in shares {
        reports::write(connection, settled, commit)?;
    }
    let mut chunks = Chunks::default();
    let mut parts = Vec::with_capacity(shares.len());
    for settled in shares {
        let mut fold = Fold::default();
        let added = fold.add(
            &settled.events,
            |campaign| campaign,
            |_| (commit.id, commit.at),
        );
        added.map_err(StoreError::from)?;
        // One part a transaction and partition, so the commit names it.
        let name = (settled.share.stream, commit.id.get());
        parts.extend(fold.part(name, &settled.share.campaigns, &mut chunks));
        chunks.relieve(connection)?;
    }
    crash::point("before-sums");
    chunks.flush(connection)?;
    part::enter(connection, "sum_parts", &parts)?;
    crash::point("after-sums");
    for settled in shares {
        dead_letters::insert(connection, settled, commit.id)?;
    }
    let results = shares.iter().map(|settled| ShareResult {
        stream: settled.share.stream,
        outcome: Outcome::Committed(committed(settled, commit.id)),
    });
    let results = results.collect();
    crash::point("before-commit");
    Ok(results)
}

/// What a share changed that was written as it was settled.
fn committed(settled: &Settled<'_>, commit_id: CommitId) -> Committed {
    let Settled { share, events, .. } = settled;
    let mut totals = Totals::default();
    let mut used = vec![false; share.campaigns.len()];
    for row in 0..events.len() {
        // Over many campaigns, each within its limit, the sum may not fit. That must not fail the
        // batch, for no event of it is to blame.
        totals = totals.saturating_add(Totals::of(events.counts(row)));
        if let Some(used) = used.get_mut(events.campaign[row] as usize) {
            *used = true;
        }
    }
    let mut owned = settled.needs.owned.clone();
    owned.extend(settled.unowned().map(|name| (name.clone(), Timestamp::MIN)));
    Committed {
        commit_id,
        next_offset: share.next_offset,
        records: share.records,
        duplicates: settled.duplicates,
        unchanged: settled.unchanged,
        superseded: settled.superseded,
        dead: settled.dead.iter().map(|(reason, _)| *reason).collect(),
        dead_at: settled
            .dead
            .iter()
            .map(|(_, record)| record.offset)
            .collect(),
        totals,
        max_event_time: events.event_time.iter().max().copied(),
        campaigns: share
            .campaigns
            .iter()
            .zip(&used)
            .filter(|(_, used)| **used)
            .map(|(name, _)| name.clone())
            .collect(),
        owned,
    }
}
