//! Sums of a series by part, campaign and platform, added up as they are asked for.

use std::collections::{BTreeSet, HashMap};

use crate::event::Platform;
use crate::store::read::insights::series::Series;
use crate::totals::{Overflow, Totals, WideTotals};

/// See the module. A campaign or platform that is none means all of them together.
pub(super) struct Grid<'a> {
    parts: usize,
    sums: HashMap<(usize, Option<&'a str>, Option<Platform>), WideTotals>,
    whole: HashMap<Option<Platform>, WideTotals>,
}

impl<'a> Grid<'a> {
    /// The sums of `series`, which has so many parts, on some platforms; none named: on all.
    pub fn of(series: &'a Series, parts: usize, platforms: &[Platform]) -> Grid<'a> {
        let mut grid = Grid {
            parts,
            sums: HashMap::new(),
            whole: HashMap::new(),
        };
        for row in &series.rows {
            if !platforms.is_empty() && !platforms.contains(&row.platform) {
                continue;
            }
            for platform in [None, Some(row.platform)] {
                grid.whole
                    .entry(platform)
                    .or_default()
                    .add_wide(&row.totals);
                for campaign in [None, Some(row.campaign_id.as_str())] {
                    let key = (row.part, campaign, platform);
                    grid.sums.entry(key).or_default().add_wide(&row.totals);
                }
            }
        }
        grid
    }

    /// The sums of one cell; none when there is no such part.
    pub fn get(
        &self,
        part: usize,
        campaign: Option<&str>,
        platform: Option<Platform>,
    ) -> Result<Option<Totals>, Overflow> {
        let sums = self.sums.get(&(part, campaign, platform));
        (part < self.parts)
            .then(|| sums.copied().unwrap_or_default().totals())
            .transpose()
    }

    /// The sums over all parts and campaigns.
    pub fn whole(&self, platform: Option<Platform>) -> Result<Totals, Overflow> {
        self.whole
            .get(&platform)
            .copied()
            .unwrap_or_default()
            .totals()
    }

    /// The platforms that have events, in order.
    pub fn platforms(&self) -> BTreeSet<Platform> {
        self.whole.keys().copied().flatten().collect()
    }
}
