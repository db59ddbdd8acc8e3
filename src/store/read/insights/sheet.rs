//! The sums of every campaign over a window: what lists are searched, filtered and sorted from.

use std::collections::HashMap;

use diesel::prelude::*;

use super::{Freshness, Window, in_one_snapshot};
use crate::event::{Count, Platform};
use crate::store::StoreError;
use crate::store::positions::{self, Position};
use crate::store::read::cells::{self, Of};
use crate::store::sums::plan::Plan;
use crate::totals::Totals;

/// The sums of every campaign that has events in the window, by campaign id.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    pub rows: Vec<(Box<str>, Totals)>,
    /// None if there are no events at all.
    pub freshness: Option<Freshness>,
    /// What they rest on: every event on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

impl Sheet {
    /// The sums of a campaign.
    pub fn get(&self, campaign_id: &str) -> Option<&Totals> {
        let place = self
            .rows
            .binary_search_by(|(id, _)| (**id).cmp(campaign_id));
        self.rows.get(place.ok()?).map(|(_, totals)| totals)
    }
}

/// Reads the sums of every campaign over a window, or over all time, on some platforms; none
/// named: on all.
///
/// # Errors
/// When the database does not answer.
pub fn read(
    connection: &mut PgConnection,
    window: Option<Window>,
    platforms: &[Platform],
) -> Result<Sheet, StoreError> {
    in_one_snapshot(connection, |connection| {
        let facts = cells::facts_of_all(connection)?;
        let plan = Plan::of(&[window], facts.map(|facts| (facts.first, facts.last)));
        let mut sums: HashMap<Box<str>, Totals, foldhash::fast::RandomState> = HashMap::default();
        let chosen = |index: u8| {
            let is_chosen = |platform: &Platform| platform.index() == index;
            platforms.is_empty() || platforms.iter().any(is_chosen)
        };
        cells::for_each(connection, Of::All, &plan, |_, campaign, range, cells| {
            // One campaign's sums are far below the largest number, in whatever order they are added.
            let mut more = Totals::default();
            let mut is_in = false;
            for cell in cells.iter().filter(|cell| chosen(cell.platform)) {
                for (_, times) in range.effects(cell) {
                    is_in = true;
                    more = if *times < 0 {
                        more.saturating_sub(cell.totals)
                    } else {
                        more.saturating_add(cell.totals)
                    };
                }
            }
            if is_in {
                match sums.get_mut(campaign) {
                    Some(sum) => *sum = sum.saturating_add(more),
                    None => {
                        sums.insert(campaign.into(), more);
                    }
                }
            }
            Ok(())
        })?;
        let has_events = |(_, totals): &(Box<str>, Totals)| totals.events != Count::ZERO;
        let mut rows: Vec<(Box<str>, Totals)> = sums.into_iter().filter(has_events).collect();
        rows.shrink_to_fit();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Sheet {
            rows,
            freshness: facts.map(Freshness::from),
            positions: positions::all(connection)?,
        })
    })
}
