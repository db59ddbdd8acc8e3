//! Sums by parts of a window: by hour, day, month, whatever the calendar, and by platform.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::{Freshness, Window, in_one_snapshot, sum_up};
use crate::currency::Currency;
use crate::event::Platform;
use crate::store::positions::{self, Position};
use crate::store::read::cells::{self, Of};
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
}

/// The sums of one part on one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which part, from 0.
    pub part: usize,
    /// Empty when campaigns are added up.
    pub campaign_id: String,
    pub platform: Platform,
    /// That of the campaigns; none where none is known.
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
    /// None if there are no events at all, whatever the window.
    pub freshness: Option<Freshness>,
    /// What they rest on: every event on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

impl Question {
    /// The windows that it asks about, each a part.
    fn windows(&self) -> Vec<Option<Window>> {
        let Some(cuts) = &self.cuts else {
            return vec![None];
        };
        // Cuts ascend, so none is empty.
        let windows = cuts.windows(2).filter_map(|ends| match ends {
            [since, until] => Window::covering(*since, *until),
            _ => None,
        });
        windows.map(Some).collect()
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
    let plan = Plan::of(&question.windows(), events);
    let descriptions = descriptions::of_all(connection)?;
    let mut sums: BTreeMap<(u32, u8, Option<Currency>), WideTotals> = BTreeMap::new();
    cells::for_each(connection, Of::All, &plan, |_, campaign, range, cells| {
        let currency = descriptions.currency(campaign);
        for cell in cells {
            for (part, times) in range.effects(cell) {
                sums.entry((*part, cell.platform, currency))
                    .or_default()
                    .add(&cell.totals, *times);
            }
        }
        Ok(())
    })?;
    let sums = sums.into_iter();
    Ok(Series {
        rows: rows(
            sums.map(|((part, platform, currency), sum)| {
                ((part, String::new(), platform, currency), sum)
            })
            .collect(),
        )?,
        descriptions: Descriptions::default(),
        days: Vec::new(),
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
    let parts = windows.len() as u32;
    windows.push(None);
    let descriptions = descriptions::of_some(connection, &ids)?;
    let days = match ids.as_slice() {
        [id] if question.days && descriptions.of(id).is_some() => days(connection, id, question)?,
        _ => Vec::new(),
    };
    let mut sums = Sums::new();
    let mut freshness = None;
    let mut positions = Vec::new();
    for (id, summed) in sum_up(connection, &ids, &windows)? {
        let more = Freshness::from(summed.facts);
        freshness = Some(freshness.map_or(more, |known: Freshness| known.and(more)));
        for position in summed.positions.into_values() {
            if !positions.contains(&position) {
                positions.push(position);
            }
        }
        let currency = descriptions.currency(&id);
        for ((part, platform), sum) in summed.sums.range(..(parts, 0)) {
            let name = if each { id.clone() } else { String::new() };
            sums.entry((*part, name, *platform, currency))
                .or_default()
                .add_wide(sum);
        }
    }
    Ok(Series {
        rows: rows(sums)?,
        descriptions,
        days,
        freshness,
        positions,
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
