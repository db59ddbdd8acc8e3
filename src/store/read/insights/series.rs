//! Sums by parts of a window: by hour, day, month, whatever the calendar, and by platform.
//!
//! Each part is made of whole days, hours and minutes as a window is, so a month is read from days
//! and only its ends, where they are not those of UTC, from hours and minutes.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz};

use super::{Freshness, Window, freshness_of_all, in_one_snapshot, platform, totals};
use crate::event::Platform;
use crate::store::StoreError;
use crate::store::columns::{Bigints, Timestamps};
use crate::store::positions::{self, Position};
use crate::store::sums::{Grain, SumRow};
use crate::time::Timestamp;
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
    /// whole minutes. None: all time, in one part.
    pub cuts: Option<Vec<Timestamp>>,
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

/// Answers a question.
///
/// # Errors
/// When the database does not answer.
pub fn read(connection: &mut PgConnection, question: &Question) -> Result<Series, StoreError> {
    in_one_snapshot(connection, |connection| {
        let mut sums: BTreeMap<(usize, String, Platform), Totals> = BTreeMap::new();
        for row in parts(connection, question)? {
            let part = usize::try_from(row.part)
                .map_err(|e| DieselError::DeserializationError(Box::new(e)))?;
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
    let Some(cuts) = &question.cuts else {
        // $2 is known when it is planned: a few campaigns are read by primary key, all in one pass.
        return Ok(sql_query(
            "SELECT 0::bigint AS part, CASE WHEN $3 THEN campaign_id ELSE '' END AS campaign_id, platform,
                 bigint_sum(events) AS events, bigint_sum(impressions) AS impressions, bigint_sum(clicks) AS clicks,
                 bigint_sum(conversions) AS conversions, bigint_sum(cost_micros) AS cost_micros,
                 bigint_sum(revenue_micros) AS revenue_micros
             FROM metrics_total WHERE $2 OR campaign_id = ANY($1) GROUP BY 2, 3",
        )
        .bind::<Array<Text>, _>(ids)
        .bind::<Bool, _>(question.scope == Scope::All)
        .bind::<Bool, _>(each)
        .load(connection)?);
    };
    let mut rows = Vec::new();
    for grain in Grain::ALL {
        let Ranges { part, from, to } = Ranges::of(cuts, grain);
        if part.is_empty() {
            continue;
        }
        let text = grain.sql(match question.scope {
            // Each range of each campaign by itself, from the primary key.
            Scope::Campaigns { .. } => {
                "SELECT r.part, CASE WHEN $5 THEN m.campaign_id ELSE '' END AS campaign_id, m.platform,
                     bigint_sum(events) AS events, bigint_sum(impressions) AS impressions, bigint_sum(clicks) AS clicks,
                     bigint_sum(conversions) AS conversions, bigint_sum(cost_micros) AS cost_micros,
                     bigint_sum(revenue_micros) AS revenue_micros
                 FROM unnest($1, $2, $3) AS r (part, since, until)
                 JOIN metrics_by_minute AS m
                     ON m.minute >= r.since AND m.minute < r.until AND m.campaign_id = ANY($4)
                 GROUP BY 1, 2, 3"
            }
            // One pass over the table, in which each row looks up its range.
            Scope::All => {
                "SELECT ($1)[m.n] AS part, '' AS campaign_id, m.platform,
                     bigint_sum(events) AS events, bigint_sum(impressions) AS impressions, bigint_sum(clicks) AS clicks,
                     bigint_sum(conversions) AS conversions, bigint_sum(cost_micros) AS cost_micros,
                     bigint_sum(revenue_micros) AS revenue_micros
                 FROM (SELECT minute, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros,
                           width_bucket(minute, $2) AS n
                       FROM metrics_by_minute
                       WHERE minute >= ($2)[1] AND minute < ($3)[cardinality($3)]) AS m
                 WHERE m.minute < ($3)[m.n] GROUP BY 1, 3"
            }
        });
        let query = sql_query(text)
            .bind::<Array<BigInt>, _>(Bigints(&part))
            .bind::<Array<Timestamptz>, _>(Timestamps(&from))
            .bind::<Array<Timestamptz>, _>(Timestamps(&to));
        let more: Vec<PartRow> = match question.scope {
            Scope::All => query.load(connection)?,
            Scope::Campaigns { .. } => query
                .bind::<Array<Text>, _>(ids)
                .bind::<Bool, _>(each)
                .load(connection)?,
        };
        rows.extend(more);
    }
    Ok(rows)
}

/// The ranges of one grain that the parts of a window are made of, ascending and apart.
#[derive(Default)]
struct Ranges {
    part: Vec<i64>,
    from: Vec<Timestamp>,
    to: Vec<Timestamp>,
}

impl Ranges {
    fn of(cuts: &[Timestamp], grain: Grain) -> Ranges {
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
