//! Sums of a series by part, campaign and platform, added up as they are asked for.

use std::collections::{BTreeSet, HashMap};

use crate::event::Platform;
use crate::store::read::insights::series::Series;
use crate::totals::Totals;

/// See the module. A campaign or platform that is none means all of them together.
pub(super) struct Grid<'a> {
    parts: usize,
    sums: HashMap<(usize, Option<&'a str>, Option<Platform>), Totals>,
    whole: HashMap<Option<Platform>, Totals>,
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
                let whole = grid.whole.entry(platform).or_default();
                *whole = whole.saturating_add(row.totals);
                for campaign in [None, Some(row.campaign_id.as_str())] {
                    let sum = grid.sums.entry((row.part, campaign, platform)).or_default();
                    *sum = sum.saturating_add(row.totals);
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
    ) -> Option<Totals> {
        let sums = self.sums.get(&(part, campaign, platform));
        (part < self.parts).then(|| sums.copied().unwrap_or_default())
    }

    /// The sums over all parts and campaigns.
    pub fn whole(&self, platform: Option<Platform>) -> Totals {
        self.whole.get(&platform).copied().unwrap_or_default()
    }

    /// The platforms that have events, in order.
    pub fn platforms(&self) -> BTreeSet<Platform> {
        self.whole.keys().copied().flatten().collect()
    }
}
