//! What the API asks: sums of a campaign, or of many, over a window of time.
//!
//! `window` is how a span of time is read from the projections, `series` sums by parts of one,
//! `sheet` the sums of every campaign, from which lists are made, `cover` the few rows that make up a
//! window of all of them.

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};

use crate::event::Platform;
use crate::store::positions::{Position, PositionColumns};
use crate::store::prepared::prepared;
use crate::store::sums::{BEFORE_SNAPSHOT, SumRow};
use crate::store::{CommitId, StoreError};
use crate::time::Timestamp;
use crate::totals::Totals;

mod cover;
pub mod events;
pub mod series;
pub mod sheet;
mod window;

pub use self::window::Window;

/// How fresh an answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Freshness {
    /// The earliest and the latest event of the campaign, whatever the window.
    pub first_event_time: DateTime<Utc>,
    pub last_event_time: DateTime<Utc>,
    /// When the last event was counted.
    pub counted_at: DateTime<Utc>,
    /// The last transaction that counted one: the version of an answer.
    pub commit_id: CommitId,
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
    commit_id: CommitId,
    #[diesel(sql_type = Timestamptz)]
    committed_at: DateTime<Utc>,
    #[diesel(embed)]
    positions: PositionColumns,
}

pub(in crate::store) fn platform(index: i16) -> Result<Platform, StoreError> {
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
    // Both tables by primary key: a few rows a campaign. A partition may hold events of a campaign that it owns, or
    // of any that has moved.
    let rows: Vec<TotalRow> = prepared(
        "WITH asked AS MATERIALIZED (
             SELECT t.campaign_id, p.topics, p.partitions, p.next_offsets
             FROM (SELECT DISTINCT unnest($1) AS campaign_id) AS t
             CROSS JOIN LATERAL (
                 SELECT COALESCE(array_agg(s.topic ORDER BY s.topic, s.partition), '{}') AS topics,
                     COALESCE(array_agg(s.partition ORDER BY s.topic, s.partition), '{}') AS partitions,
                     COALESCE(array_agg(s.next_offset ORDER BY s.topic, s.partition), '{}') AS next_offsets
                 FROM campaigns AS c
                 JOIN stream_positions AS s
                     ON s.events > 0 AND (s.stream_id = c.stream_id OR c.lookup_before > '-infinity')
                 WHERE c.campaign_id = t.campaign_id) AS p)
         SELECT t.campaign_id, t.platform, t.events, t.impressions, t.clicks, t.conversions, t.cost_micros,
             t.revenue_micros, t.min_event_time, t.max_event_time, t.commit_id, t.committed_at,
             asked.topics, asked.partitions, asked.next_offsets
         FROM asked JOIN metrics_total AS t USING (campaign_id) ORDER BY t.campaign_id, t.platform",
    )
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

/// So that sums and what is said about them belong together.
pub(super) fn in_one_snapshot<T>(
    connection: &mut PgConnection,
    question: impl FnOnce(&mut PgConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut transaction = connection.build_transaction();
    transaction = transaction.read_only().repeatable_read();
    transaction.run(|connection| {
        connection.batch_execute(BEFORE_SNAPSHOT)?;
        question(connection)
    })
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
    // One statement, which is a snapshot by itself. What changes with every commit is asked for most.
    let Some(window) = window else {
        return Ok(totals(connection, &[campaign_id])?.pop());
    };
    in_one_snapshot(connection, |connection| {
        let Some(mut sums) = totals(connection, &[campaign_id])?.pop() else {
            return Ok(None);
        };
        let rows: Vec<SumRow> = sql_query(format!(
            "SELECT platform,
                 bigint_sum(events) AS events, bigint_sum(impressions) AS impressions, bigint_sum(clicks) AS clicks,
                 bigint_sum(conversions) AS conversions, bigint_sum(cost_micros) AS cost_micros,
                 bigint_sum(revenue_micros) AS revenue_micros
             FROM ({}) AS parts GROUP BY platform ORDER BY platform",
            window.sql(" AND campaign_id = $1")
        ))
        .bind::<Text, _>(campaign_id)
        .load(connection)?;
        sums.platforms = rows
            .into_iter()
            .map(|row| Ok((platform(row.platform)?, row.totals())))
            .collect::<Result<_, StoreError>>()?;
        Ok(Some(sums))
    })
}

/// How fresh sums over all campaigns are; none if there are no events.
fn freshness_of_all(connection: &mut PgConnection) -> Result<Option<Freshness>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        min_event_time: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        max_event_time: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        committed_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<BigInt>)]
        commit_id: Option<CommitId>,
    }
    let row: Row = sql_query(
        "SELECT min(min_event_time) AS min_event_time, max(max_event_time) AS max_event_time,
             max(committed_at) AS committed_at, max(commit_id) AS commit_id FROM metrics_total",
    )
    .get_result(connection)?;
    Ok((|| {
        Some(Freshness {
            first_event_time: row.min_event_time?,
            last_event_time: row.max_event_time?,
            counted_at: row.committed_at?,
            commit_id: row.commit_id?,
        })
    })())
}

/// A query that costs nothing, for health checks.
///
/// # Errors
/// When the database does not answer.
pub fn ping(connection: &mut PgConnection) -> Result<(), StoreError> {
    // The table as well: an empty database answers, but is not ready.
    sql_query("SELECT 1 FROM stream_positions WHERE stream_id = 0 AND committed_at > $1")
        .bind::<Timestamptz, _>(Timestamp::EPOCH)
        .execute(connection)?;
    Ok(())
}
