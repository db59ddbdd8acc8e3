//! The sums that rules are held against: those of insights, for many campaigns and windows at once.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;

use crate::event::Platform;
use crate::store::read::cells::{self, Of};
use crate::store::read::insights::{Summed, Window, sum_up};
use crate::store::sums::Grain;
use crate::store::sums::plan::Plan;
use crate::store::{StoreError, platform};
use crate::time::{Length, Timestamp};
use crate::totals::{Totals, WideTotals};

/// The sums of some campaigns over some windows, as of one instant.
#[derive(Debug, Default)]
pub struct Sums {
    windows: HashMap<Window, u32>,
    campaigns: BTreeMap<String, Summed>,
}

impl Sums {
    /// The sum of a campaign over a window and those platforms.
    pub fn of(
        &self,
        campaign_id: &str,
        window: Window,
        has_platform: impl Fn(Platform) -> bool,
    ) -> Totals {
        let known = self
            .campaigns
            .get(campaign_id)
            .zip(self.windows.get(&window));
        let Some((summed, &number)) = known else {
            return Totals::default();
        };
        let of_window = summed.sums.range((number, 0)..=(number, u8::MAX));
        let of_platforms = of_window.filter(|((_, index), _)| {
            Platform::from_index(i64::from(*index)).is_some_and(&has_platform)
        });
        let mut sum = WideTotals::default();
        of_platforms.for_each(|(_, more)| sum.add_wide(more));
        // Each platform's sums are within 2^60, so four of them fit.
        sum.totals().unwrap_or_default()
    }
}

/// Adds up these campaigns over these windows.
///
/// # Errors
/// When the database does not answer.
pub fn sums(
    connection: &mut PgConnection,
    campaigns: &[&str],
    windows: &[Window],
) -> Result<Sums, StoreError> {
    if windows.is_empty() || campaigns.is_empty() {
        return Ok(Sums::default());
    }
    let asked: Vec<Option<Window>> = windows.iter().copied().map(Some).collect();
    Ok(Sums {
        windows: windows.iter().copied().zip(0..).collect(),
        campaigns: sum_up(connection, campaigns, &asked)?,
    })
}

/// The sums of a campaign in one minute on one platform.
#[derive(Clone, Copy, Debug)]
pub struct Minute {
    /// Its first microsecond.
    pub start: Timestamp,
    pub platform: Platform,
    pub totals: Totals,
}

/// The minutes of a campaign from `since` up to but not including `until`, in order.
///
/// # Errors
/// When the database does not answer.
pub fn minutes(
    connection: &mut PgConnection,
    campaign_id: &str,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<Minute>, StoreError> {
    let whole = |time: Timestamp| time.floor(Length::MINUTE);
    let Some(window) = Window::covering(whole(since), whole(until)) else {
        return Ok(Vec::new());
    };
    let plan = Plan::of_grain(Grain::Minute, window);
    let mut sums: BTreeMap<(Timestamp, u8), WideTotals> = BTreeMap::new();
    cells::for_each(
        connection,
        Of::Campaign(campaign_id),
        &plan,
        |_, _, range, cells| {
            for cell in cells.iter().filter(|cell| !range.effects(cell).is_empty()) {
                sums.entry(cell.key()).or_default().add(&cell.totals, 1);
            }
            Ok(())
        },
    )?;
    let minutes = sums.into_iter().map(|((start, index), sum)| {
        Ok(Minute {
            start,
            platform: platform(index.into())?,
            totals: sum.totals()?,
        })
    });
    minutes.collect()
}
