//! Sums by parts of a window: by hour, day, month, whatever the calendar, and by platform.
//!
//! Each part is made of whole days, hours and minutes as a window is, so a month is read from days
//! and only its ends, where they are not those of UTC, from hours and minutes.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz};

use super::{Freshness, Window, freshness_of_all, in_one_snapshot, platform, totals};
use crate::event::Platform;
use crate::store::StoreError;
use crate::store::columns::{Bigints, Timestamps};
use crate::store::positions::{self, Position};
use crate::store::sums::{Grain, SUMS, SumRow, TOTAL_TABLE};
use crate::totals::Totals;

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
    /// microseconds and whole minutes. None: all time, in one part.
    pub cuts: Option<Vec<i64>>,
}

/// The sums of one part on one platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which part, from 0.
    pub part: usize,
    /// Empty when campaigns are added up.
    pub campaign_id: String,
    pub platform: Platform,
    pub totals: Totals,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Those that have events, by part, campaign and platform.
    pub rows: Vec<Row>,
    /// None if there are no events at all, whatever the window.
    pub freshness: Option<Freshness>,
    /// What they rest on: every event on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

#[derive(QueryableByName)]
struct PartRow {
    #[diesel(sql_type = BigInt)]
    part: i64,
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(embed)]
    sums: SumRow,
}

/// The columns of `m`, a projection.
const COLUMNS: &str = "m.campaign_id, m.platform, m.events, m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros";

/// Answers a question.
///
/// # Errors
/// When the database does not answer.
pub fn read(connection: &mut PgConnection, question: &Question) -> Result<Series, StoreError> {
    in_one_snapshot(connection, |connection| {
        let mut sums: BTreeMap<(usize, String, Platform), Totals> = BTreeMap::new();
        for row in parts(connection, question)? {
            let part = usize::try_from(row.part).unwrap_or_default();
            let key = (part, row.campaign_id, platform(row.sums.platform)?);
            let sum = sums.entry(key).or_default();
            *sum = sum.saturating_add(row.sums.totals());
        }
        let rows = sums
            .into_iter()
            .map(|((part, campaign_id, platform), totals)| Row {
                part,
                campaign_id,
                platform,
                totals,
            })
            .collect();
        let (freshness, positions) = match &question.scope {
            Scope::All => (freshness_of_all(connection)?, positions::all(connection)?),
            Scope::Campaigns { ids, .. } => {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                let mut freshness = None;
                let mut positions = Vec::new();
                for sums in totals(connection, &ids)? {
                    let more = sums.freshness;
                    freshness = Some(freshness.map_or(more, |f: Freshness| f.and(more)));
                    for position in sums.positions {
                        if !positions.contains(&position) {
                            positions.push(position);
                        }
                    }
                }
                (freshness, positions)
            }
        };
        Ok(Series {
            rows,
            freshness,
            positions,
        })
    })
}

/// The rows of each grain, added up.
fn parts(connection: &mut PgConnection, question: &Question) -> Result<Vec<PartRow>, StoreError> {
    let (ids, each) = match &question.scope {
        Scope::All => (&[] as &[String], false),
        Scope::Campaigns { ids, each } => (ids.as_slice(), *each),
    };
    let campaign = if each { "m.campaign_id" } else { "''" };
    let chosen = if question.scope == Scope::All {
        "cardinality($1) = 0"
    } else {
        "m.campaign_id = ANY($1)"
    };
    let Some(cuts) = &question.cuts else {
        return Ok(sql_query(format!(
            "SELECT 0::bigint AS part, {campaign} AS campaign_id, m.platform, {SUMS} \
             FROM {TOTAL_TABLE} AS m WHERE {chosen} GROUP BY 2, 3"
        ))
        .bind::<Array<Text>, _>(ids)
        .load(connection)?);
    };
    let mut rows = Vec::new();
    for grain in Grain::ALL {
        let Ranges { part, from, to } = Ranges::of(cuts, grain);
        if part.is_empty() {
            continue;
        }
        let (table, start) = (grain.table(), grain.column());
        // A few campaigns: each range by itself, from the primary key. All: one pass over the table,
        // in which each row looks up its range.
        let source = match question.scope {
            Scope::Campaigns { .. } => format!(
                "(SELECT r.part, {COLUMNS} FROM unnest($2, $3, $4) AS r (part, since, until) \
                  JOIN {table} AS m ON m.{start} >= r.since AND m.{start} < r.until AND {chosen})"
            ),
            Scope::All => format!(
                "(SELECT ($2)[m.n] AS part, {COLUMNS} \
                  FROM (SELECT {COLUMNS}, m.{start}, width_bucket(m.{start}, $3) AS n FROM {table} AS m \
                        WHERE {chosen} AND m.{start} >= ($3)[1] AND m.{start} < ($4)[cardinality($4)]) AS m \
                  WHERE m.{start} < ($4)[m.n])"
            ),
        };
        let more: Vec<PartRow> = sql_query(format!(
            "SELECT m.part, {campaign} AS campaign_id, m.platform, {SUMS} FROM {source} AS m GROUP BY 1, 2, 3"
        ))
        .bind::<Array<Text>, _>(ids)
        .bind::<Array<BigInt>, _>(Bigints(&part))
        .bind::<Array<Timestamptz>, _>(Timestamps(&from))
        .bind::<Array<Timestamptz>, _>(Timestamps(&to))
        .load(connection)?;
        rows.extend(more);
    }
    Ok(rows)
}

/// The ranges of one grain that the parts of a window are made of, ascending and apart.
#[derive(Default)]
struct Ranges {
    part: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
}

impl Ranges {
    fn of(cuts: &[i64], grain: Grain) -> Ranges {
        let mut ranges = Ranges::default();
        for (part, ends) in cuts.windows(2).enumerate() {
            let [since, until] = ends else { continue };
            let window = Window::covering(*since, *until);
            for (of, from, to) in window.into_iter().flat_map(Window::ranges) {
                if of == grain && from < to {
                    ranges.part.push(part as i64);
                    ranges.from.push(from);
                    ranges.to.push(to);
                }
            }
        }
        ranges
    }
}
