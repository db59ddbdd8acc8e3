//! The sums of every campaign over a window: what lists are searched, filtered and sorted from.

use std::collections::HashMap;
use std::sync::Once;

use diesel::prelude::*;

use super::converted::{Converted, for_each_campaign};
use super::{Freshness, Window, freshest, in_one_snapshot};
use crate::event::{Conversions, Count, Money, Platform};
use crate::rates::conversion::Conversion;
use crate::store::StoreError;
use crate::store::positions::{self, Position};
use crate::store::read::cells;
use crate::store::read::descriptions::{self, Descriptions};
use crate::store::read::report_days;
use crate::store::sums::plan::Plan;
use crate::totals::mixed::{Claims, Shown};
use crate::totals::{Totals, metric};

/// The sums of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub campaign_id: Box<str>,
    pub totals: Totals,
    pub claims: Claims,
    /// What reports of the newest day of the window leave unknown.
    pub unsaid: metric::Sums,
}

impl Row {
    /// The sums, without those that are unknown.
    pub fn shown(&self) -> Shown {
        Shown::from(self.totals).unless_said(self.unsaid)
    }

    /// Adds what is known of the same campaign elsewhere.
    fn add(&mut self, more: &Row) {
        self.totals = self.totals.saturating_add(more.totals);
        self.claims = self.claims.and(more.claims);
        self.unsaid = self.unsaid.and(more.unsaid);
    }

    /// Whether reports may say nothing of a sum: of which nothing was counted.
    fn has_zeros(&self) -> bool {
        self.totals.counts.numbers().contains(&0)
    }
}

/// The sums of every campaign that has events in the window, by campaign id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sheet {
    pub rows: Vec<Row>,
    /// What the campaigns are called and whose they are.
    pub descriptions: Descriptions,
    /// By which rates money was converted, where that was asked for.
    pub converted: Converted,
    /// None if there are no events at all.
    pub freshness: Option<Freshness>,
    /// What they rest on: every event on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

impl Sheet {
    /// A campaign's.
    pub fn get(&self, campaign_id: &str) -> Option<&Row> {
        let place = self
            .rows
            .binary_search_by(|row| (*row.campaign_id).cmp(campaign_id));
        self.rows.get(place.ok()?)
    }

    /// That of two databases together. No campaign should be in both; of one that is, the sums are added up, for without them less
    /// would be shown than was counted.
    pub fn and(mut self, other: Sheet) -> Sheet {
        self.rows.extend(other.rows);
        // Both are in order: they are merged.
        self.rows.sort_by(|a, b| a.campaign_id.cmp(&b.campaign_id));
        let mut twice = None;
        self.rows.dedup_by(|more, row| {
            let is_same = more.campaign_id == row.campaign_id;
            if is_same {
                row.add(more);
                twice.get_or_insert_with(|| more.campaign_id.clone());
            }
            is_same
        });
        if let Some(campaign) = twice {
            SAID_OF_TWICE.call_once(|| warn_of(&campaign));
        }
        Sheet {
            rows: self.rows,
            descriptions: self.descriptions.and(other.descriptions),
            converted: self.converted.and(other.converted),
            freshness: freshest([self.freshness, other.freshness]),
            positions: positions::both(self.positions, other.positions),
        }
    }
}

/// Once is enough: it is said of a list that is asked for again and again.
static SAID_OF_TWICE: Once = Once::new();

fn warn_of(campaign: &str) {
    log::warn!(
        "campaign '{campaign}' is in more than one database: lists and sums add up what each of them has of it, and \
         what is asked of it alone is answered from the one that has its key's partition; the others counted it before \
         ranges were as they are, or it was sent with another key"
    );
}

/// The sums of a campaign, while they are added up; and of each platform, those that it claims.
#[derive(Clone, Copy, Default)]
struct Sum {
    totals: Totals,
    claimed: [(Conversions, Money); Platform::ALL.len()],
}

impl Sum {
    // One campaign's sums are far below the largest number, in whatever order they are added.
    fn add(&mut self, platform: u8, totals: Totals, times: i8) {
        let counts = &totals.counts;
        let claimed = self.claimed.get_mut(usize::from(platform));
        if times < 0 {
            self.totals = self.totals.saturating_sub(totals);
            if let Some((conversions, revenue)) = claimed {
                *conversions = conversions.saturating_sub(counts.conversions);
                *revenue = revenue.saturating_sub(counts.revenue_micros);
            }
        } else {
            self.totals = self.totals.saturating_add(totals);
            if let Some((conversions, revenue)) = claimed {
                *conversions = conversions.saturating_add(counts.conversions);
                *revenue = revenue.saturating_add(counts.revenue_micros);
            }
        }
    }

    fn claims(&self) -> Claims {
        let each = Platform::ALL.into_iter().zip(self.claimed);
        each.fold(
            Claims::default(),
            |all, (platform, (conversions, revenue))| {
                all.and(Claims::of(platform, conversions, revenue))
            },
        )
    }
}

/// Reads the sums of every campaign over a window, or over all time, on some platforms; none
/// named: on all. With a conversion, over its pieces, whose money is converted.
///
/// # Errors
/// When the database does not answer.
pub fn read(
    connection: &mut PgConnection,
    window: Option<Window>,
    platforms: &[Platform],
    conversion: Option<&Conversion>,
) -> Result<Sheet, StoreError> {
    in_one_snapshot(connection, |connection| {
        let facts = cells::facts_of_all(connection)?;
        let windows = conversion.map_or_else(|| vec![window], |of| Window::between(&of.cuts));
        let plan = Plan::of(&windows, facts.map(|facts| (facts.first, facts.last)));
        let descriptions = descriptions::of_all(connection)?;
        let mut sums: HashMap<Box<str>, Sum, foldhash::fast::RandomState> = HashMap::default();
        let chosen = |index: u8| {
            let is_chosen = |platform: &Platform| platform.index() == index;
            platforms.is_empty() || platforms.iter().any(is_chosen)
        };
        let converted = for_each_campaign(
            connection,
            &plan,
            conversion,
            &descriptions,
            chosen,
            |campaign, _, addends| {
                let sum = match sums.get_mut(campaign) {
                    Some(sum) => sum,
                    None => sums.entry(campaign.into()).or_default(),
                };
                for addend in addends {
                    sum.add(addend.platform, addend.totals, addend.times);
                }
            },
        )?;
        let sums = sums.into_iter();
        let has_events = sums.filter(|(_, sum)| sum.totals.events != Count::ZERO);
        let rows = has_events.map(|(campaign_id, sum)| Row {
            campaign_id,
            totals: sum.totals,
            claims: sum.claims(),
            unsaid: metric::Sums::default(),
        });
        let mut rows: Vec<Row> = rows.collect();
        rows.shrink_to_fit();
        rows.sort_unstable_by(|a, b| a.campaign_id.cmp(&b.campaign_id));
        let is_reported = |row: &&Row| descriptions.of(&row.campaign_id).is_some();
        let zeros = rows
            .iter()
            .filter(is_reported)
            .filter(|row| row.has_zeros());
        let zeros: Vec<&str> = zeros.map(|row| &*row.campaign_id).collect();
        for (campaign, unsaid) in report_days::unsaid(connection, &zeros, window, platforms)? {
            let place = rows.binary_search_by(|row| (*row.campaign_id).cmp(&campaign));
            if let Some(row) = place.ok().and_then(|place| rows.get_mut(place)) {
                row.unsaid = unsaid;
            }
        }
        Ok(Sheet {
            rows,
            descriptions,
            converted,
            freshness: facts.map(Freshness::from),
            positions: positions::all(connection)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::event::Counts;

    /// What was counted of a campaign on a platform.
    type Counted = (String, usize, i64);

    fn sheet(counted: &[Counted]) -> Sheet {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for (campaign, platform, revenue) in counted {
            let platform = Platform::ALL[*platform].index();
            let totals = Totals::of(Counts::of([10, 5, 0, 7, *revenue]));
            sums.entry(campaign).or_default().add(platform, totals, 1);
        }
        let rows = sums.into_iter().map(|(campaign, sum)| Row {
            campaign_id: campaign.into(),
            totals: sum.totals,
            claims: sum.claims(),
            unsaid: metric::Sums::default(),
        });
        Sheet {
            rows: rows.collect(),
            ..Sheet::default()
        }
    }

    fn counted() -> impl Strategy<Value = Vec<Counted>> {
        prop::collection::vec(("[a-d]{1,2}", 0..Platform::ALL.len(), 0i64..3), 0..20)
    }

    proptest! {
        #[test]
        fn two_sheets_together_have_what_was_counted_in_either(own in counted(), other in counted()) {
            let both = sheet(&[own.clone(), other.clone()].concat());
            prop_assert_eq!(sheet(&own).and(sheet(&other)), both.clone());
            prop_assert_eq!(sheet(&other).and(sheet(&own)), both);
        }
    }
}
