//! What the API asks: sums of a campaign, or of many, over a window of time.
//!
//! A window is cut at days and hours, so that a year is read from 365 rows of
//! `metrics_by_day` a platform and only its ragged ends from hours and minutes.

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::StoreError;
use super::columns::pg_timestamp;
use super::positions::{self, Position, PositionColumns};
use super::projections::{self, Grain, SumRow};
use crate::event::{MICROS_PER_MINUTE, Platform};
use crate::totals::Totals;
use crate::totals::metric::Metric;

/// A span of time, from `since` up to but not including `until`, in microseconds since 1970, both
/// whole minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    since: i64,
    until: i64,
}

impl Window {
    /// The smallest window of whole minutes that holds `since` up to `until`; none if that is
    /// empty.
    pub fn covering(since: i64, until: i64) -> Option<Window> {
        let floor = |t: i64| t - t.rem_euclid(MICROS_PER_MINUTE);
        let window = Window {
            since: floor(since),
            until: floor(until.checked_add(MICROS_PER_MINUTE - 1)?),
        };
        (since < until).then_some(window)
    }

    /// Its first microsecond.
    pub fn since(self) -> i64 {
        self.since
    }

    /// The first microsecond after it.
    pub fn until(self) -> i64 {
        self.until
    }

    /// The ranges of each table that make it up: whole days, whole hours before and after them,
    /// and whole minutes before and after those.
    fn ranges(self) -> [(Grain, i64, i64); 5] {
        let inner = |(since, until): (i64, i64), grain: Grain| {
            let length = grain.micros();
            let start = since + (-since).rem_euclid(length);
            let end = until - until.rem_euclid(length);
            // Nothing whole inside: an empty range at the end, so that all of it is "before".
            if start < end {
                (start, end)
            } else {
                (until, until)
            }
        };
        let hours = inner((self.since, self.until), Grain::Hour);
        let days = inner(hours, Grain::Day);
        [
            (Grain::Day, days.0, days.1),
            (Grain::Hour, hours.0, days.0),
            (Grain::Hour, days.1, hours.1),
            (Grain::Minute, self.since, hours.0),
            (Grain::Minute, hours.1, self.until),
        ]
    }

    /// The rows that make it up, as a subquery with the columns of a sum; `condition` is
    /// added to each part.
    fn sql(self, condition: &str) -> String {
        let parts: Vec<String> = self
            .ranges()
            .into_iter()
            .filter(|(_, from, to)| from < to)
            .map(|(grain, from, to)| {
                let (table, column) = (grain.table(), grain.column());
                format!(
                    "SELECT campaign_id, platform, events, impressions, clicks, conversions, cost_micros, revenue_micros \
                     FROM {table} WHERE {column} >= {} AND {column} < {}{condition}",
                    sql_time(from),
                    sql_time(to),
                )
            })
            .collect();
        parts.join(" UNION ALL ")
    }
}

/// A time as SQL. Numbers only, so nothing needs quoting.
fn sql_time(micros: i64) -> String {
    format!("(timestamptz 'epoch' + interval '1 microsecond' * {micros})")
}

/// How fresh an answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Freshness {
    /// The earliest and the latest event of the campaign, whatever the window.
    pub first_event_time: DateTime<Utc>,
    pub last_event_time: DateTime<Utc>,
    /// When the last event was counted.
    pub counted_at: DateTime<Utc>,
    /// The last transaction that counted one: the version of an answer.
    pub commit_id: i64,
}

impl Freshness {
    /// Of both together.
    pub(super) fn and(self, other: Freshness) -> Freshness {
        Freshness {
            first_event_time: self.first_event_time.min(other.first_event_time),
            last_event_time: self.last_event_time.max(other.last_event_time),
            counted_at: self.counted_at.max(other.counted_at),
            commit_id: self.commit_id.max(other.commit_id),
        }
    }
}

/// The sums of one campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct CampaignSums {
    pub campaign_id: String,
    /// Those platforms that have events in the window, in order.
    pub platforms: Vec<(Platform, Totals)>,
    pub freshness: Freshness,
    /// What they rest on: every event of the campaign on these partitions, up to these positions.
    pub positions: Vec<Position>,
}

#[derive(QueryableByName)]
struct TotalRow {
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(embed)]
    sums: SumRow,
    #[diesel(sql_type = Timestamptz)]
    min_event_time: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    max_event_time: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    commit_id: i64,
    #[diesel(sql_type = Timestamptz)]
    committed_at: DateTime<Utc>,
    #[diesel(embed)]
    positions: PositionColumns,
}

pub(super) fn platform(index: i16) -> Result<Platform, StoreError> {
    Platform::from_index(index.into()).ok_or_else(|| {
        StoreError::Query(diesel::result::Error::DeserializationError(
            format!("platform {index} is none we know").into(),
        ))
    })
}

/// All-time sums of some campaigns, by campaign; one that has no events is left out.
///
/// # Errors
/// When the database does not answer.
pub fn totals(
    connection: &mut PgConnection,
    campaigns: &[&str],
) -> Result<Vec<CampaignSums>, StoreError> {
    let rows: Vec<TotalRow> = sql_query(format!(
        "SELECT t.campaign_id, t.platform, t.events, t.impressions, t.clicks, t.conversions, t.cost_micros, \
             t.revenue_micros, t.min_event_time, t.max_event_time, t.commit_id, t.committed_at, \
             p.topics, p.partitions, p.next_offsets \
         FROM metrics_total AS t CROSS JOIN LATERAL {} AS p \
         WHERE t.campaign_id = ANY($1) ORDER BY t.campaign_id, t.platform",
        positions::of_campaign()
    ))
    .bind::<Array<Text>, _>(campaigns)
    .load(connection)?;
    let mut out: Vec<CampaignSums> = Vec::new();
    for row in rows {
        let entry = (platform(row.sums.platform)?, row.sums.totals());
        let fresh = Freshness {
            first_event_time: row.min_event_time,
            last_event_time: row.max_event_time,
            counted_at: row.committed_at,
            commit_id: row.commit_id,
        };
        match out.last_mut() {
            Some(last) if last.campaign_id == row.campaign_id => {
                last.platforms.push(entry);
                last.freshness = last.freshness.and(fresh);
            }
            _ => out.push(CampaignSums {
                positions: row.positions.into(),
                campaign_id: row.campaign_id,
                platforms: vec![entry],
                freshness: fresh,
            }),
        }
    }
    Ok(out)
}

/// The sums of a campaign over a window, or over all time; none if the campaign has no events at
/// all.
///
/// # Errors
/// When the database does not answer.
pub fn campaign(
    connection: &mut PgConnection,
    campaign_id: &str,
    window: Option<Window>,
) -> Result<Option<CampaignSums>, StoreError> {
    // One snapshot, so that the sums and their freshness belong together.
    connection.build_transaction().read_only().repeatable_read().run(|connection| {
        connection.batch_execute(projections::BEFORE_SNAPSHOT)?;
        let Some(mut sums) = totals(connection, &[campaign_id])?.pop() else {
            return Ok(None);
        };
        if let Some(window) = window {
            let rows: Vec<SumRow> = sql_query(format!(
                "SELECT platform, sum(events)::bigint AS events, sum(impressions)::bigint AS impressions, \
                     sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions, \
                     sum(cost_micros)::bigint AS cost_micros, sum(revenue_micros)::bigint AS revenue_micros \
                 FROM ({}) AS parts GROUP BY platform ORDER BY platform",
                window.sql(" AND campaign_id = $1")
            ))
            .bind::<Text, _>(campaign_id)
            .load(connection)?;
            sums.platforms = rows
                .into_iter()
                .map(|row| Ok((platform(row.platform)?, row.totals())))
                .collect::<Result<_, StoreError>>()?;
        }
        Ok(Some(sums))
    })
}

/// The value campaigns are sorted by, over the columns of a sum; null where a ratio has none. The
/// ratios are those of [`Totals`].
fn expression(metric: Metric) -> &'static str {
    match metric {
        Metric::Events => "events",
        Metric::Impressions => "impressions",
        Metric::Clicks => "clicks",
        Metric::Conversions => "conversions",
        Metric::CostMicros | Metric::Cost => "cost_micros",
        Metric::RevenueMicros | Metric::Revenue => "revenue_micros",
        Metric::ProfitMicros | Metric::Profit => "revenue_micros - cost_micros",
        Metric::Ctr => "clicks::float8 / NULLIF(impressions, 0)",
        Metric::Cvr => "conversions::float8 / NULLIF(clicks, 0)",
        Metric::Cpc => "cost_micros::float8 / NULLIF(clicks, 0)",
        Metric::Cpm => "cost_micros::float8 / NULLIF(impressions, 0)",
        Metric::Cpa => "cost_micros::float8 / NULLIF(conversions, 0)",
        Metric::Roas => "revenue_micros::float8 / NULLIF(cost_micros, 0)",
        Metric::Aov => "revenue_micros::float8 / NULLIF(conversions, 0)",
    }
}

/// A page of campaigns that is asked for.
#[derive(Clone, Debug)]
pub struct Page {
    pub window: Option<Window>,
    pub sort: Metric,
    pub descending: bool,
    /// Go on after the campaign with this value and id.
    pub after: Option<(Option<f64>, String)>,
    pub limit: i64,
}

/// One campaign of a page.
#[derive(Debug, QueryableByName)]
struct PageRow {
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(embed)]
    sums: SumRow,
    #[diesel(sql_type = Nullable<Double>)]
    value: Option<f64>,
}

/// A campaign in a list: its id, its sums over all platforms, and the value it is sorted by.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub campaign_id: String,
    pub totals: Totals,
    pub value: Option<f64>,
}

/// Campaigns with their sums, sorted; those whose metric has no value come last.
///
/// # Errors
/// When the database does not answer.
pub fn campaigns(connection: &mut PgConnection, page: &Page) -> Result<Vec<Listed>, StoreError> {
    const ALL_TIME: &str = "SELECT campaign_id, platform, events, impressions, clicks, conversions, cost_micros, \
         revenue_micros FROM metrics_total";
    let source = page
        .window
        .map_or_else(|| ALL_TIME.to_owned(), |w| w.sql(""));
    let (compare, order) = if page.descending {
        ("<", "DESC")
    } else {
        (">", "ASC")
    };
    let (has_cursor, value, id) = match &page.after {
        Some((value, id)) => (true, *value, id.as_str()),
        None => (false, None, ""),
    };
    let after = if !has_cursor {
        "true".to_owned()
    } else if value.is_some() {
        format!("(value {compare} $1 OR value IS NULL OR (value = $1 AND campaign_id > $2))")
    } else {
        "(value IS NULL AND campaign_id > $2)".to_owned()
    };
    let rows: Vec<PageRow> = sql_query(format!(
        "WITH sums AS (SELECT campaign_id, sum(events)::bigint AS events, sum(impressions)::bigint AS impressions, \
             sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions, \
             sum(cost_micros)::bigint AS cost_micros, sum(revenue_micros)::bigint AS revenue_micros \
             FROM ({source}) AS parts GROUP BY campaign_id), \
         valued AS (SELECT campaign_id, events, impressions, clicks, conversions, cost_micros, revenue_micros, \
             ({})::float8 AS value FROM sums) \
         SELECT campaign_id, 0::smallint AS platform, events, impressions, clicks, conversions, cost_micros, \
             revenue_micros, value \
         FROM valued WHERE {after} AND ($1 IS NULL OR true) AND ($2 IS NULL OR true) \
         ORDER BY value {order} NULLS LAST, campaign_id LIMIT $3",
        expression(page.sort)
    ))
    .bind::<Nullable<Double>, _>(value)
    .bind::<Text, _>(id)
    .bind::<BigInt, _>(page.limit)
    .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| Listed {
            campaign_id: row.campaign_id,
            totals: row.sums.totals(),
            value: row.value,
        })
        .collect())
}

/// The database's own id: what it has in a shared cache is kept under it.
///
/// # Errors
/// When the database does not answer.
pub fn store_id(connection: &mut PgConnection) -> Result<Uuid, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        store_id: Uuid,
    }
    let row: Row = sql_query("SELECT store_id FROM store_identity").get_result(connection)?;
    Ok(row.store_id)
}

/// A query that costs nothing, for health checks.
///
/// # Errors
/// When the database does not answer.
pub fn ping(connection: &mut PgConnection) -> Result<(), StoreError> {
    // The table as well: an empty database answers, but is not ready.
    sql_query("SELECT 1 FROM stream_positions WHERE stream_id = 0 AND committed_at > $1")
        .bind::<Timestamptz, _>(pg_timestamp(0))
        .execute(connection)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The parts are disjoint, aligned to their grain, and together are the window.
        #[test]
        fn ranges_make_up_the_window(since in 0i64..4_000_000_000_000_000, length in 1i64..90_000_000_000_000) {
            let window = Window::covering(since, since + length).expect("not empty");
            prop_assert!(window.since() <= since && since + length <= window.until());
            prop_assert!(since - window.since() < MICROS_PER_MINUTE);
            prop_assert!(window.until() - (since + length) < MICROS_PER_MINUTE);
            let mut parts: Vec<_> = window.ranges().into_iter().filter(|(_, a, b)| a < b).collect();
            for (grain, from, to) in &parts {
                prop_assert_eq!(from % grain.micros(), 0);
                prop_assert_eq!(to % grain.micros(), 0);
            }
            parts.sort_by_key(|p| p.1);
            let mut at = window.since();
            for (_, from, to) in parts {
                prop_assert_eq!(from, at);
                at = to;
            }
            prop_assert_eq!(at, window.until());
        }
    }

    #[test]
    fn an_empty_window_is_none() {
        assert_eq!(Window::covering(5, 5), None);
        assert_eq!(Window::covering(6, 5), None);
    }
}
