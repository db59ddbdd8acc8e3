//! Sums by parts of a window: by hour, day, month, whatever the calendar, and by platform.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::converted::{Awaiting, Converted, for_each_campaign};
use super::{Freshness, Window, freshest, in_one_snapshot, sum_up};
use crate::currency::Currency;
use crate::event::Platform;
use crate::rates::conversion::Conversion;
use crate::store::positions::{self, Position};
use crate::store::read::cells;
use crate::store::read::descriptions::{self, Descriptions};
use crate::store::read::report_days::{self, ReportDay};
use crate::store::sums::plan::Plan;
use crate::store::{StoreError, platform};
use crate::time::Timestamp;
use crate::totals::WideTotals;

/// Whose sums are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of all campaigns together.
    All,
    /// Those of some campaigns: together, or of each.
    Campaigns { ids: Vec<String>, each: bool },
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    pub scope: Scope,
    /// Where the window is cut: the start of each part, ascending, and the end of the last, in
    /// whole minutes. None: all time, in one part.
    pub cuts: Option<Vec<Timestamp>>,
    /// Whether the parts are days, of one campaign: then what reports say of these is asked for as well.
    pub days: bool,
    /// Into what money is converted, by pieces that each lie in a part.
    pub conversion: Option<Conversion>,
}

/// The sums of one part on one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which part, from 0.
    pub part: usize,
    /// Empty when campaigns are added up.
    pub campaign_id: String,
    pub platform: Platform,
    /// That of the money: the campaigns' own, none where none is known; or that which it is converted into.
    pub currency: Option<Currency>,
    pub totals: WideTotals,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Those that have events, by part, campaign, platform and currency.
    pub rows: Vec<Row>,
    /// What the campaigns that are asked for by id are called and whose they are.
    pub descriptions: Descriptions,
    /// Those days of the campaign that there are reports of, where they were asked for.
    pub days: Vec<ReportDay>,
    /// By which rates money was converted, where that was asked for.
    pub converted: Converted,
    /// None if there are no events at all, whatever the window.
    pub freshness: Option<Freshness>,
    /// What they rest on: every event on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

impl Row {
    fn of(&self) -> (usize, &str, u8, Option<Currency>) {
        let platform = self.platform.index();
        (self.part, &self.campaign_id, platform, self.currency)
    }
}

impl Series {
    /// That of two databases together.
    pub fn and(mut self, other: Series) -> Series {
        self.rows.extend(other.rows);
        // Both are in order: they are merged.
        self.rows.sort_by(|a, b| a.of().cmp(&b.of()));
        self.rows.dedup_by(|more, row| {
            let is_same = more.of() == row.of();
            if is_same {
                row.totals.add_wide(&more.totals);
            }
            is_same
        });
        // A campaign's days are in its database.
        self.days.extend(other.days);
        Series {
            rows: self.rows,
            descriptions: self.descriptions.and(other.descriptions),
            days: self.days,
            converted: self.converted.and(other.converted),
            freshness: freshest([self.freshness, other.freshness]),
            positions: positions::both(self.positions, other.positions),
        }
    }
}

impl Question {
    /// The same about those of the campaigns that are somewhere; none if none of them is.
    pub fn about(&self, is_there: impl Fn(&str) -> bool) -> Option<Question> {
        let mut question = self.clone();
        if let Scope::Campaigns { ids, .. } = &mut question.scope {
            ids.retain(|id| is_there(id));
            if ids.is_empty() {
                return None;
            }
        }
        Some(question)
    }

    /// The windows that it asks about: each a part, or a piece of one.
    fn windows(&self) -> Vec<Option<Window>> {
        let pieces = self.conversion.as_ref().map(|of| &of.cuts);
        let cuts = pieces.or(self.cuts.as_ref());
        cuts.map_or_else(|| vec![None], |cuts| Window::between(cuts))
    }

    /// The part that each of these windows is, or is a piece of.
    fn parts(&self, windows: &[Option<Window>]) -> Vec<u32> {
        let part = |(number, window): (u32, &Option<Window>)| match (&self.cuts, window) {
            _ if self.conversion.is_none() => number,
            (Some(cuts), Some(window)) => {
                let after = cuts.partition_point(|cut| *cut <= window.since());
                after.saturating_sub(1) as u32
            }
            _ => 0,
        };
        (0..).zip(windows).map(part).collect()
    }
}

/// Answers a question.
///
/// # Errors
/// When the database does not answer.
pub fn read(connection: &mut PgConnection, question: &Question) -> Result<Series, StoreError> {
    in_one_snapshot(connection, |connection| match &question.scope {
        Scope::All => of_all(connection, question),
        Scope::Campaigns { ids, each } => of_campaigns(connection, question, ids, *each),
    })
}

/// Sums by part, campaign, platform and currency; the campaign is empty where all are added up.
type Sums = BTreeMap<(u32, String, u8, Option<Currency>), WideTotals>;

fn of_all(connection: &mut PgConnection, question: &Question) -> Result<Series, StoreError> {
    let facts = cells::facts_of_all(connection)?;
    let events = facts.map(|facts| (facts.first, facts.last));
    let windows = question.windows();
    let plan = Plan::of(&windows, events);
    let parts = question.parts(&windows);
    let part = |window: u32| parts.get(window as usize).copied().unwrap_or_default();
    let descriptions = descriptions::of_all(connection)?;
    let mut sums: BTreeMap<(u32, u8, Option<Currency>), WideTotals> = BTreeMap::new();
    let converted = for_each_campaign(
        connection,
        &plan,
        question.conversion.as_ref(),
        &descriptions,
        |_| true,
        |_, currency, addends| {
            for addend in addends {
                sums.entry((part(addend.window), addend.platform, currency))
                    .or_default()
                    .add(&addend.totals, addend.times);
            }
        },
    )?;
    let sums = sums.into_iter();
    let sums = sums
        .map(|((part, platform, currency), sum)| ((part, String::new(), platform, currency), sum));
    Ok(Series {
        rows: rows(sums.collect())?,
        descriptions: Descriptions::default(),
        days: Vec::new(),
        converted,
        freshness: facts.map(Freshness::from),
        positions: positions::all(connection)?,
    })
}

fn of_campaigns(
    connection: &mut PgConnection,
    question: &Question,
    ids: &[String],
    each: bool,
) -> Result<Series, StoreError> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    // All time as well, behind the parts: that says how fresh the campaigns are.
    let mut windows = question.windows();
    let parts = question.parts(&windows);
    windows.push(None);
    let descriptions = descriptions::of_some(connection, &ids)?;
    let days = match ids.as_slice() {
        [id] if question.days && descriptions.of(id).is_some() => days(connection, id, question)?,
        _ => Vec::new(),
    };
    let mut awaiting = Awaiting::new(question.conversion.as_ref());
    let mut sums = Sums::new();
    let mut freshness = None;
    let mut positions = BTreeMap::new();
    let name = |id: &str| if each { id.to_owned() } else { String::new() };
    for (id, summed) in sum_up(connection, &ids, &windows)? {
        freshness = freshest([freshness, Some(summed.facts.into())]);
        positions.extend(summed.positions);
        let own = descriptions.currency(&id);
        let currency = awaiting.shown(own);
        let mut purse = awaiting.of(&id, || own);
        for ((window, platform), sum) in &summed.sums {
            let Some(part) = parts.get(*window as usize) else {
                continue;
            };
            let mut sum = *sum;
            if let Some(purse) = &mut purse {
                let mut totals = sum.totals()?;
                purse.take(*platform, *window, &mut totals.counts, 1);
                sum = WideTotals::from(&totals);
            }
            sums.entry((*part, name(&id), *platform, currency))
                .or_default()
                .add_wide(&sum);
        }
    }
    let converted = awaiting.convert(&descriptions, |into, id, platform, window, amounts| {
        if let Some(part) = parts.get(window as usize) {
            sums.entry((*part, name(id), platform, Some(into)))
                .or_default()
                .add(&amounts.totals(), 1);
        }
    })?;
    Ok(Series {
        rows: rows(sums)?,
        descriptions,
        days,
        converted,
        freshness,
        positions: positions.into_values().collect(),
    })
}

/// Those days whose noon may lie in the window, in whatever zone: a day more at both ends.
fn days(
    connection: &mut PgConnection,
    campaign: &str,
    question: &Question,
) -> Result<Vec<ReportDay>, StoreError> {
    let date = |cut: Option<&Timestamp>| Some(cut?.datetime()?.date_naive());
    let cuts = question.cuts.as_deref().unwrap_or_default();
    let first = date(cuts.first()).and_then(|date| date.pred_opt());
    let last = date(cuts.last()).and_then(|date| date.succ_opt());
    match (first, last) {
        (Some(first), Some(last)) => report_days::read(connection, campaign, first, last),
        _ => Ok(Vec::new()),
    }
}

fn rows(sums: Sums) -> Result<Vec<Row>, StoreError> {
    let rows = sums
        .into_iter()
        .map(|((part, campaign_id, index, currency), sum)| {
            Ok(Row {
                part: part as usize,
                campaign_id,
                platform: platform(index.into())?,
                currency,
                totals: sum,
            })
        });
    let rows: Vec<Row> = rows.collect::<Result<_, StoreError>>()?;
    Ok(rows
        .into_iter()
        .filter(|row| row.totals.has_events())
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Counts;
    use crate::totals::Totals;

    /// What was counted in a part, of a campaign on a platform.
    type Counted = (u32, String, u8, i64);

    fn series(counted: &[Counted]) -> Series {
        let mut sums = Sums::new();
        for (part, campaign, platform, clicks) in counted {
            let currency = Currency::from_code(["EUR", "USD"][campaign.len() % 2]);
            sums.entry((*part, campaign.clone(), *platform, currency))
                .or_default()
                .add(&Totals::of(Counts::of([10, *clicks, 0, 7, 9])), 1);
        }
        Series {
            rows: rows(sums).expect("rows"),
            ..Series::default()
        }
    }

    fn counted() -> impl Strategy<Value = Vec<Counted>> {
        prop::collection::vec((0u32..3, "[a-b]{0,2}", 0u8..4, 0i64..9), 0..20)
    }

    proptest! {
        #[test]
        fn two_series_together_have_what_was_counted_in_either(own in counted(), other in counted()) {
            let both = series(&[own.clone(), other.clone()].concat());
            prop_assert_eq!(series(&own).and(series(&other)), both.clone());
            prop_assert_eq!(series(&other).and(series(&own)), both);
        }

        #[test]
        fn each_campaign_is_asked_of_one_of_those_that_share_them(ids in prop::collection::vec("[a-d]", 0..6), each: bool) {
            let question = Question {
                scope: Scope::Campaigns { ids: ids.clone(), each },
                cuts: None,
                days: false,
                conversion: None,
            };
            let is_first = |id: &str| id < "c";
            let asked = [question.about(is_first), question.about(|id| !is_first(id))];
            let mut of: Vec<String> = Vec::new();
            for question in asked.into_iter().flatten() {
                let Scope::Campaigns { ids, each: is_each } = question.scope else {
                    return Err(TestCaseError::fail("asks about all"));
                };
                prop_assert!(!ids.is_empty() && is_each == each);
                of.extend(ids);
            }
            let mut ids = ids;
            ids.sort();
            of.sort();
            prop_assert_eq!(of, ids);
        }
    }
}
