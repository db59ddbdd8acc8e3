//! Sums of a series by part, campaign, platform and currency, added up as they are asked for.

use std::collections::{BTreeSet, HashMap};

use crate::currency::Currency;
use crate::event::Platform;
use crate::store::read::insights::series::Series;
use crate::totals::mixed::{Claims, Mixed, Shown};
use crate::totals::{Overflow, WideTotals};

/// Which sums. A campaign, platform or currency that is none means all of them together; the currency of campaigns of which none is
/// known is a none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Cell<'a> {
    pub part: usize,
    pub campaign: Option<&'a str>,
    pub platform: Option<Platform>,
    pub currency: Option<Option<Currency>>,
}

/// Platform and currency, over all parts and campaigns.
type Whole = (Option<Platform>, Option<Option<Currency>>);

/// See the module.
pub(super) struct Grid<'a> {
    parts: usize,
    sums: HashMap<Cell<'a>, Mixed>,
    whole: HashMap<Whole, Mixed>,
}

impl<'a> Grid<'a> {
    /// The sums of `series`, which has so many parts, on some platforms; none named: on all. Parts are added up
    /// by currency only where that is asked for.
    pub fn of(
        series: &'a Series,
        parts: usize,
        platforms: &[Platform],
        by_currency: bool,
    ) -> Grid<'a> {
        let mut grid = Grid {
            parts,
            sums: HashMap::new(),
            whole: HashMap::new(),
        };
        for row in &series.rows {
            if !platforms.is_empty() && !platforms.contains(&row.platform) {
                continue;
            }
            let each = [None, Some(row.currency)];
            for platform in [None, Some(row.platform)] {
                for currency in each {
                    add(
                        &mut grid.whole,
                        (platform, currency),
                        &row.totals,
                        row.currency,
                    );
                }
                for &currency in each.iter().take(1 + usize::from(by_currency)) {
                    for campaign in [None, Some(row.campaign_id.as_str())] {
                        let cell = Cell {
                            part: row.part,
                            campaign,
                            platform,
                            currency,
                        };
                        add(&mut grid.sums, cell, &row.totals, row.currency);
                    }
                }
            }
        }
        grid
    }

    /// The sums of one cell; none when there is no such part.
    pub fn get(&self, cell: Cell<'_>) -> Result<Option<Shown>, Overflow> {
        let sums = self.sums.get(&cell);
        (cell.part < self.parts)
            .then(|| sums.copied().unwrap_or_default().shown())
            .transpose()
    }

    /// The sums over all parts and campaigns.
    pub fn whole(
        &self,
        platform: Option<Platform>,
        currency: Option<Option<Currency>>,
    ) -> Result<Shown, Overflow> {
        let sums = self.whole.get(&(platform, currency));
        sums.copied().unwrap_or_default().shown()
    }

    /// Whose claims are in those of all platforms together.
    pub fn claims(&self, currency: Option<Option<Currency>>) -> Result<Claims, Overflow> {
        let mut claims = Claims::default();
        for platform in self.platforms() {
            let counts = self.whole(Some(platform), currency)?.totals.counts;
            claims = claims.and(Claims::of(
                platform,
                counts.conversions,
                counts.revenue_micros,
            ));
        }
        Ok(claims)
    }

    /// The platforms that have events, in order.
    pub fn platforms(&self) -> BTreeSet<Platform> {
        self.whole
            .keys()
            .filter_map(|(platform, _)| *platform)
            .collect()
    }

    /// The currencies that have events, by code; unknown ones come last.
    pub fn currencies(&self) -> Vec<Option<Currency>> {
        let there = self.whole.keys().filter_map(|(_, currency)| *currency);
        let there: BTreeSet<Option<Currency>> = there.collect();
        let known = there.iter().copied().filter(Option::is_some);
        known
            .chain(there.iter().copied().filter(Option::is_none))
            .collect()
    }
}

fn add<K: std::hash::Hash + Eq>(
    sums: &mut HashMap<K, Mixed>,
    key: K,
    more: &WideTotals,
    currency: Option<Currency>,
) {
    sums.entry(key).or_default().add(more, currency);
}
