//! What the API asks: sums of a campaign, or of many, over a window of time.
//!
//! `series` sums by parts of a window, `sheet` the sums of every campaign, from which lists are made; both, as all here, from
//! cells ([`super::cells`]).

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Timestamptz;

use super::cells::{self, Of};
use super::descriptions::{self, Description};
use crate::event::{Count, Platform};
use crate::store::positions::Position;
use crate::store::sums::chunk::Facts;
use crate::store::sums::plan::Plan;
pub use crate::store::sums::plan::Window;
use crate::store::{CommitId, StoreError, StreamId, platform};
use crate::time::{Length, Timestamp};
use crate::totals::{Totals, WideTotals};

pub mod converted;
pub mod events;
pub mod series;
pub mod sheet;

/// How fresh an answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Freshness {
    /// The earliest and the latest event of the campaign, whatever the window.
    pub first_event_time: DateTime<Utc>,
    pub last_event_time: DateTime<Utc>,
    /// When the last event was counted.
    pub counted_at: DateTime<Utc>,
    /// The last transaction that counted one: the version of an answer.
    pub commit_id: CommitId,
}

impl From<Facts> for Freshness {
    fn from(facts: Facts) -> Freshness {
        let time = |time: Timestamp| time.datetime().unwrap_or_default();
        Freshness {
            first_event_time: time(facts.first),
            last_event_time: time(facts.last),
            counted_at: time(facts.committed_at),
            commit_id: facts.commit_id,
        }
    }
}

impl Freshness {
    /// The window that has all events.
    pub fn window(self) -> Option<Window> {
        let until = Timestamp::from(self.last_event_time) + Length::MICROSECOND;
        Window::covering(self.first_event_time.into(), until)
    }

    /// Of both together.
    pub(super) fn and(self, other: Freshness) -> Freshness {
        Freshness {
            first_event_time: self.first_event_time.min(other.first_event_time),
            last_event_time: self.last_event_time.max(other.last_event_time),
            counted_at: self.counted_at.max(other.counted_at),
            commit_id: self.commit_id.max(other.commit_id),
        }
    }
}

/// That of all of them together; none where there are no events.
fn freshest<const N: usize>(all: [Option<Freshness>; N]) -> Option<Freshness> {
    all.into_iter().flatten().reduce(Freshness::and)
}

/// The sums of one campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct CampaignSums {
    pub campaign_id: String,
    /// Those platforms that have events in the window, in order.
    pub platforms: Vec<(Platform, Totals)>,
    pub freshness: Freshness,
    /// What the campaign is called and whose it is, where that was asked for and is known.
    pub description: Option<Description>,
    /// What they rest on: every event of the campaign on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

/// Sums of a campaign over windows.
#[derive(Debug)]
pub(in crate::store) struct Summed {
    /// By number of the window, and platform.
    pub sums: BTreeMap<(u32, u8), WideTotals>,
    pub facts: Facts,
    pub positions: BTreeMap<StreamId, Position>,
}

impl Summed {
    /// Those platforms that have events in a window.
    pub fn platforms(&self, window: u32) -> Result<Vec<(Platform, Totals)>, StoreError> {
        let of_window = self.sums.range((window, 0)..=(window, u8::MAX));
        let sums =
            of_window.map(|((_, index), sum)| Ok((platform((*index).into())?, sum.totals()?)));
        let sums: Vec<(Platform, Totals)> = sums.collect::<Result<_, StoreError>>()?;
        let has_events = |(_, totals): &(Platform, Totals)| totals.events != Count::ZERO;
        Ok(sums.into_iter().filter(has_events).collect())
    }
}

/// So many campaigns are asked for one by one, by their keys; of more, what lies between them is read.
const FEW: usize = 16;

/// Adds up campaigns over windows, each as of one instant; none stands for all time. One that has no events is left out.
pub(in crate::store) fn sum_up(
    connection: &mut PgConnection,
    campaigns: &[&str],
    windows: &[Option<Window>],
) -> Result<BTreeMap<String, Summed>, StoreError> {
    let plan = Plan::of(windows, None);
    let wanted: HashSet<&str> = campaigns.iter().copied().collect();
    let asked: Vec<Of<'_>> = match (wanted.iter().min(), wanted.iter().max()) {
        (Some(first), Some(last)) if wanted.len() > FEW => vec![Of::Between(first, last)],
        _ => wanted.iter().map(|id| Of::Campaign(id)).collect(),
    };
    let mut found: BTreeMap<String, Summed> = BTreeMap::new();
    for of in asked {
        cells::for_each(connection, of, &plan, |source, campaign, range, cells| {
            if cells.is_empty() || !wanted.contains(campaign) {
                return Ok(());
            }
            let summed = match found.get_mut(campaign) {
                Some(summed) => summed,
                None => found.entry(campaign.to_owned()).or_insert(Summed {
                    sums: BTreeMap::new(),
                    facts: Facts::NONE,
                    positions: BTreeMap::new(),
                }),
            };
            summed
                .positions
                .entry(source.stream)
                .or_insert_with(|| source.position.clone());
            for cell in cells {
                summed.facts = summed.facts.and(cell.facts);
                for (window, times) in range.effects(cell) {
                    let sum = summed.sums.entry((*window, cell.platform)).or_default();
                    sum.add(&cell.totals, *times);
                }
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// All-time sums of some campaigns, by campaign; one that has no events is left out.
///
/// # Errors
/// When the database does not answer.
pub fn totals(
    connection: &mut PgConnection,
    campaigns: &[&str],
) -> Result<Vec<CampaignSums>, StoreError> {
    let summed = sum_up(connection, campaigns, &[None])?;
    let sums = summed
        .into_iter()
        .map(|(id, summed)| of_window(id, summed, 0));
    sums.collect()
}

fn of_window(campaign_id: String, summed: Summed, window: u32) -> Result<CampaignSums, StoreError> {
    Ok(CampaignSums {
        campaign_id,
        platforms: summed.platforms(window)?,
        freshness: summed.facts.into(),
        description: None,
        positions: summed.positions.into_values().collect(),
    })
}

/// So that sums and what is said about them belong together.
pub(super) fn in_one_snapshot<T>(
    connection: &mut PgConnection,
    question: impl FnOnce(&mut PgConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut transaction = connection.build_transaction();
    transaction = transaction.read_only().repeatable_read();
    transaction.run(question)
}

/// The sums of a campaign over a window, or over all time, with its description; none if the campaign has no events at
/// all.
///
/// # Errors
/// When the database does not answer.
pub fn campaign(
    connection: &mut PgConnection,
    campaign_id: &str,
    window: Option<Window>,
) -> Result<Option<CampaignSums>, StoreError> {
    // All time as well, since that says how fresh the campaign is.
    let windows = [None, window];
    let windows = windows
        .get(..1 + usize::from(window.is_some()))
        .unwrap_or_default();
    let last = windows.len().saturating_sub(1) as u32;
    let mut summed = sum_up(connection, &[campaign_id], windows)?;
    let summed = summed.remove(campaign_id);
    let Some(summed) = summed else {
        return Ok(None);
    };
    Ok(Some(CampaignSums {
        description: descriptions::of_one(connection, campaign_id)?,
        ..of_window(campaign_id.to_owned(), summed, last)?
    }))
}

/// A query that costs nothing, for health checks.
///
/// # Errors
/// When the database does not answer.
pub fn ping(connection: &mut PgConnection) -> Result<(), StoreError> {
    // The table as well: an empty database answers, but is not ready.
    sql_query("SELECT 1 FROM stream_positions WHERE stream_id = 0 AND committed_at > $1")
        .bind::<Timestamptz, _>(Timestamp::EPOCH)
        .execute(connection)?;
    Ok(())
}
