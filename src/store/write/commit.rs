//! The one transaction that makes a batch true.
//!
//! Positions, events, sums and dead letters of a batch are written together or not at all:
//!
//! 1. `stream_positions`: the fence. No row moved means that somebody else owns the partition.
//! 2. `campaigns`: first sight of a campaign.
//! 3. `event_blocks`, `late_events`: the events.
//! 4. `metrics_*`: their sums; `day_versions`: that these days have new ones.
//! 5. `dead_letters`: what could not be counted.
//!
//! Shares that must take over a campaign go one by one, each in a transaction of its own, after the
//! rest: only then does the look-up under the lock see everything the others have written.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::Connection;
use diesel::pg::PgConnection;
use diesel::result::Error as DieselError;

use super::batch::Share;
use super::ownership::{self, Needs};
use super::positions::{self, Refusal};
use super::projections::{self, Fold};
use super::{append, day_versions, dead_letters};
use crate::store::events::Fingerprinter;
use crate::store::{StoreError, StreamId};
use crate::totals::Totals;
use crate::{crash, guards};

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
    /// What is known of the partition is out of date (a campaign was taken over): claim it again
    /// and read on from its position.
    Reset,
    /// A sum would pass its limit: as `Reset`, and the next share must be careful.
    ResetCarefully,
}

/// What a committed share changed.
#[derive(Debug)]
pub struct Committed {
    pub commit_id: i64,
    pub next_offset: i64,
    pub records: i64,
    pub duplicates: i64,
    /// The reasons of its dead letters.
    pub dead: Vec<crate::event::Reason>,
    /// The sum of its events; a field that would not fit stays at the largest number.
    pub totals: Totals,
    /// The latest event time in it.
    pub max_event_time: Option<i64>,
    /// The campaigns whose sums changed.
    pub campaigns: Vec<Arc<str>>,
    /// Campaigns now known to be the partition's, and the time before which their events must be
    /// looked up.
    pub owned: Vec<(Arc<str>, i64)>,
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
    shares: &mut [Share],
) -> Result<Vec<ShareResult>, StoreError> {
    let mut results = Vec::with_capacity(shares.len());
    let mut waiting: Vec<&mut Share> = shares.iter_mut().collect();
    let mut one_by_one = false;
    while !waiting.is_empty() {
        let mut needs = Vec::with_capacity(waiting.len());
        for share in &mut waiting {
            needs.push(ownership::settle(connection, fingerprinter, share)?);
        }
        let mut chosen = choose(&waiting, &needs);
        if one_by_one {
            chosen.truncate(1);
        }
        let done: Vec<StreamId> = chosen.iter().map(|&i| waiting[i].stream).collect();
        crash::point("before-begin");
        let written = match chosen.as_slice() {
            &[alone] if !needs[alone].takeovers.is_empty() => {
                take_over(connection, fingerprinter, waiting[alone], &needs[alone])
            }
            _ => {
                let group: Vec<_> = chosen.iter().map(|&i| (&*waiting[i], &needs[i])).collect();
                connection.transaction(|connection| write(connection, &group))
            }
        };
        match written {
            Ok(committed) => {
                crash::point("after-commit");
                results.extend(committed);
                waiting.retain(|share| !done.contains(&share.stream));
            }
            Err(Abort::Refused(streams)) => {
                for share in waiting
                    .iter()
                    .filter(|share| streams.contains(&share.stream))
                {
                    let outcome = match positions::refusal(connection, share)? {
                        Refusal::AlreadyCommitted { commit_id } => {
                            Outcome::Committed(summary(share, &Needs::default(), commit_id))
                        }
                        Refusal::Lost => Outcome::Lost,
                        Refusal::CampaignsMoved => Outcome::Reset,
                    };
                    results.push(ShareResult {
                        stream: share.stream,
                        outcome,
                    });
                }
                waiting.retain(|share| !streams.contains(&share.stream));
            }
            // The next look sees who was quicker.
            Err(Abort::Outrun) => {}
            Err(Abort::Store(StoreError::SumOverflow)) => {
                // Which event it was is found out by adding up one by one; the rest can go on.
                results.extend(done.iter().map(|&stream| ShareResult {
                    stream,
                    outcome: Outcome::ResetCarefully,
                }));
                waiting.retain(|share| !done.contains(&share.stream));
            }
            // Two shares of this very transaction, perhaps: alone, the second finds the first's.
            Err(Abort::Store(StoreError::StoredMeanwhile)) if !one_by_one => one_by_one = true,
            Err(Abort::Store(error)) => return Err(error),
        }
    }
    Ok(results)
}

/// Which of the waiting shares the next transaction writes: all that take nothing over (and no
/// campaign without an owner that another of them takes), or else one alone.
fn choose(waiting: &[&mut Share], needs: &[Needs]) -> Vec<usize> {
    let mut taken = std::collections::HashSet::new();
    let together: Vec<usize> = (0..waiting.len())
        .filter(|&i| {
            let names = || {
                needs[i]
                    .unowned
                    .iter()
                    .filter_map(|&c| waiting[i].campaigns.get(c as usize))
            };
            let joins = needs[i].takeovers.is_empty() && !names().any(|name| taken.contains(name));
            if joins {
                taken.extend(names().cloned());
            }
            joins
        })
        .collect();
    if together.is_empty() {
        vec![0]
    } else {
        together
    }
}

/// Writes one share whose partition takes campaigns over, holding the positions of all concerned.
fn take_over(
    connection: &mut PgConnection,
    fingerprinter: &Fingerprinter,
    share: &mut Share,
    needs: &Needs,
) -> Result<Vec<ShareResult>, Abort> {
    let mut concerned: Vec<StreamId> = needs.takeovers.iter().map(|(_, stream)| *stream).collect();
    concerned.push(share.stream);
    connection.transaction(|connection| {
        positions::lock(connection, &concerned)?;
        // Looked at again: the former owner may have committed until the lock was ours.
        let needs = ownership::settle(connection, fingerprinter, share)?;
        if needs
            .takeovers
            .iter()
            .any(|(_, stream)| !concerned.contains(stream))
        {
            return Err(Abort::Outrun);
        }
        write(connection, &[(&*share, &needs)])
    })
}

/// The transaction's body.
fn write(
    connection: &mut PgConnection,
    group: &[(&Share, &Needs)],
) -> Result<Vec<ShareResult>, Abort> {
    let shares: Vec<&Share> = group.iter().map(|(share, _)| *share).collect();
    crash::point("after-begin");
    crash::point("before-position");
    let commit = if guards::up() {
        positions::advance(connection, &shares)?.map_err(Abort::Refused)?
    } else {
        positions::without_a_fence(connection)?
    };
    crash::point("after-position");
    if !ownership::take_ownership(connection, group)? {
        return Err(Abort::Outrun);
    }
    for (share, needs) in group {
        if !needs.takeovers.is_empty() {
            ownership::take_over(connection, share, needs)?;
        }
    }
    crash::point("before-blocks");
    for share in &shares {
        append::append(connection, share, commit)?;
    }
    crash::point("after-blocks");
    let (fold, campaigns) = add_up(&shares)?;
    crash::point("before-upsert");
    projections::upsert(connection, "", &fold, &campaigns, commit)?;
    day_versions::touch(connection, &shares, commit)?;
    crash::point("after-upsert");
    for share in &shares {
        dead_letters::insert(connection, share, commit.id)?;
    }
    let committed = group.iter().map(|(share, needs)| ShareResult {
        stream: share.stream,
        outcome: Outcome::Committed(summary(share, needs, commit.id)),
    });
    crash::point("before-commit");
    Ok(committed.collect())
}

/// The sums of all shares, and the campaigns they are of: one upsert per table for the batch.
fn add_up<'a>(shares: &[&'a Share]) -> Result<(Fold, Vec<&'a str>), StoreError> {
    let mut fold = Fold::default();
    let mut campaigns = Vec::new();
    let mut index = HashMap::<&str, u32, foldhash::fast::RandomState>::default();
    for share in shares {
        let of_share: Vec<u32> = share
            .campaigns
            .iter()
            .map(|name| {
                *index.entry(name).or_insert_with(|| {
                    campaigns.push(&**name);
                    campaigns.len() as u32 - 1
                })
            })
            .collect();
        fold.add(&share.events, |campaign| of_share[campaign as usize])
            .map_err(|_| StoreError::SumOverflow)?;
    }
    Ok((fold, campaigns))
}

fn summary(share: &Share, needs: &Needs, commit_id: i64) -> Committed {
    let mut totals = Totals::default();
    let mut used = vec![false; share.campaigns.len()];
    for row in 0..share.events.len() {
        // Over many campaigns, each within its limit, the sum may not fit. That must not fail the
        // batch, for no event of it is to blame.
        totals = totals.saturating_add(Totals::of(share.events.counts(row)));
        if let Some(used) = used.get_mut(share.events.campaign[row] as usize) {
            *used = true;
        }
    }
    let name = |index: &u32| share.campaigns.get(*index as usize).cloned();
    let mut owned = needs.owned.clone();
    owned.extend(
        needs
            .unowned
            .iter()
            .filter_map(name)
            .map(|name| (name, i64::MIN)),
    );
    Committed {
        commit_id,
        next_offset: share.next_offset,
        records: share.records,
        duplicates: share.duplicates,
        dead: share.dead.iter().map(|d| d.reason).collect(),
        totals,
        max_event_time: share.events.event_time.iter().max().copied(),
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
