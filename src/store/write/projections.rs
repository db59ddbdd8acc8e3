//! A batch's sums: of each partition a fresh part by minute.
//!
//! What a batch costs is what it holds: nothing that is there is touched, so there is no lock, and no order of locks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::store::events::Columns;
use crate::store::sums::chunk::{Cell, Facts};
use crate::store::sums::part::{Chunks, NewPart, Part, PartId};
use crate::store::sums::{Grain, Reach};
use crate::store::{CommitId, StreamId};
use crate::time::{Length, Timestamp};
use crate::totals::{Overflow, Totals};

/// A campaign (by index) in an interval on a platform.
type Key = (u32, Timestamp, u8);

/// Events added up by campaign, minute and platform.
#[derive(Debug, Default)]
pub struct Fold {
    minutes: Sums,
}

type Sums = HashMap<Key, Sum, foldhash::fast::RandomState>;

/// Events of one key.
#[derive(Clone, Copy, Debug)]
struct Sum {
    totals: Totals,
    facts: Facts,
}

impl Sum {
    fn plus(self, other: Sum) -> Result<Sum, Overflow> {
        Ok(Sum {
            totals: self.totals.checked_add(other.totals)?,
            facts: self.facts.and(other.facts),
        })
    }
}

/// Adds to what is there.
fn add(sums: &mut Sums, key: Key, sum: Sum) -> Result<(), Overflow> {
    match sums.entry(key) {
        Entry::Occupied(mut known) => {
            let known = known.get_mut();
            *known = known.plus(sum)?;
        }
        Entry::Vacant(new) => {
            new.insert(sum);
        }
    }
    Ok(())
}

impl Fold {
    /// Adds all rows; `campaign_of` translates their campaign index to the fold's, and `commit_of` says which transaction counted
    /// a row.
    ///
    /// # Errors
    /// [`Overflow`] if a sum does not fit.
    pub fn add(
        &mut self,
        events: &Columns,
        campaign_of: impl Fn(u32) -> u32,
        commit_of: impl Fn(usize) -> (CommitId, Timestamp),
    ) -> Result<(), Overflow> {
        for row in 0..events.len() {
            let time = events.event_time[row];
            let minute = time.floor(Length::MINUTE);
            let key = (
                campaign_of(events.campaign[row]),
                minute,
                events.platform[row],
            );
            let (commit_id, committed_at) = commit_of(row);
            let sum = Sum {
                totals: Totals::of(events.counts(row)),
                facts: Facts {
                    first: time,
                    last: time,
                    commit_id,
                    committed_at,
                },
            };
            add(&mut self.minutes, key, sum)?;
        }
        Ok(())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// How many cells it makes.
    pub fn len(&self) -> usize {
        self.minutes.len()
    }

    /// Writes it as a fresh part, campaign by campaign in byte order. `campaigns` are those that it indexes. None if nothing
    /// was added.
    pub fn part<S: AsRef<str>>(
        &self,
        (stream, id): (StreamId, PartId),
        campaigns: &[S],
        out: &mut Chunks,
    ) -> Option<Part> {
        let rank = ranks(campaigns);
        let mut rows: Vec<(u32, Cell)> = self
            .minutes
            .iter()
            .map(|(&(campaign, start, platform), sum)| {
                let cell = Cell {
                    start,
                    platform,
                    totals: sum.totals,
                    facts: sum.facts,
                };
                (campaign, cell)
            })
            .collect();
        rows.sort_unstable_by_key(|(campaign, cell)| {
            let place = rank.get(*campaign as usize).copied();
            (place.unwrap_or(u32::MAX), cell.key())
        });
        let mut part = NewPart::new(stream, id, Grain::Minute, Reach::Fresh, Timestamp::EPOCH);
        let mut cells = Vec::new();
        for of_campaign in rows.chunk_by(|(a, _), (b, _)| a == b) {
            cells.clear();
            cells.extend(of_campaign.iter().map(|(_, cell)| *cell));
            let campaign = of_campaign
                .first()
                .and_then(|(index, _)| campaigns.get(*index as usize));
            part.push(campaign.map_or("", AsRef::as_ref), &cells, out);
        }
        part.finish(out)
    }
}

/// The place of each campaign in byte order, which is the order of the primary keys.
fn ranks<S: AsRef<str>>(campaigns: &[S]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..campaigns.len() as u32).collect();
    order.sort_unstable_by_key(|&i| campaigns.get(i as usize).map(AsRef::as_ref));
    let mut rank = vec![0; campaigns.len()];
    for (place, &campaign) in order.iter().enumerate() {
        if let Some(rank) = rank.get_mut(campaign as usize) {
            *rank = place as u32;
        }
    }
    rank
}
