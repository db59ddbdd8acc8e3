//! How far each partition has been counted, and which of them a campaign's events come on.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::store::read::insights::sum_up;
use crate::store::{StoreError, StreamId};
use crate::time::Timestamp;

/// What is known of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// None: it has never been claimed.
    pub stream: Option<StreamId>,
    /// Kafka's timestamp of the last record that was counted.
    pub last_record_at: Option<Timestamp>,
    /// When its processor last reported; none: none ever has.
    pub seen_at: Option<Timestamp>,
    /// Whether everything that was in the log then has been counted.
    pub is_caught_up: bool,
}

/// What is known of every partition that has been claimed or reported.
///
/// # Errors
/// When the database does not answer.
pub fn partitions(connection: &mut PgConnection) -> Result<Vec<Partition>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Integer>)]
        stream_id: Option<i32>,
        #[diesel(sql_type = Nullable<BigInt>)]
        last_record_time: Option<i64>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        seen_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Bool)]
        is_caught_up: bool,
    }
    // Who waits, or has only begun, does not know where the log ends now.
    let rows: Vec<Row> = sql_query(
        "SELECT s.stream_id, s.last_record_time, r.seen_at,
             COALESCE(r.log_end IS NOT NULL AND (r.state = 'idle'
                 OR r.state IN ('counting', 'catching_up') AND s.next_offset >= r.log_end), false) AS is_caught_up
         FROM stream_positions AS s FULL JOIN partition_states AS r USING (cluster_id, topic, partition)",
    )
    .load(connection)?;
    let partitions = rows.into_iter().map(|row| Partition {
        stream: row.stream_id.map(StreamId),
        last_record_at: row.last_record_time.map(Timestamp::new),
        seen_at: row.seen_at.map(Timestamp::from),
        is_caught_up: row.is_caught_up,
    });
    Ok(partitions.collect())
}

/// What is known of a campaign, beside its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub first_event_time: Timestamp,
    pub last_event_time: Timestamp,
    /// When the last of its events was counted.
    pub counted_at: Timestamp,
    /// The partition that owns it.
    pub stream: StreamId,
    /// Whether it has been another's before.
    pub has_moved: bool,
}

/// What is known of these campaigns; one that has no events is left out.
///
/// # Errors
/// When the database does not answer.
pub fn lives(
    connection: &mut PgConnection,
    campaigns: &[&str],
) -> Result<HashMap<String, Life>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = Bool)]
        has_moved: bool,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT campaign_id, stream_id, lookup_before > '-infinity' AS has_moved FROM campaigns WHERE campaign_id = ANY($1)",
    )
    .bind::<Array<Text>, _>(campaigns)
    .load(connection)?;
    let mut summed = sum_up(connection, campaigns, &[None])?;
    let lives = rows.into_iter().filter_map(|row| {
        let facts = summed.remove(&row.campaign_id)?.facts;
        let life = Life {
            first_event_time: facts.first,
            last_event_time: facts.last,
            counted_at: facts.committed_at,
            stream: StreamId(row.stream_id),
            has_moved: row.has_moved,
        };
        Some((row.campaign_id, life))
    });
    Ok(lives.collect())
}

/// Campaigns that have events, in byte order, after this one; `on`: only those that are these partitions', or have
/// moved.
///
/// # Errors
/// When the database does not answer.
pub fn campaigns_after(
    connection: &mut PgConnection,
    after: &str,
    on: Option<&[StreamId]>,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
    }
    let on: Option<Vec<i32>> = on.map(|streams| streams.iter().map(|s| s.0).collect());
    let rows: Vec<Row> = sql_query(
        "SELECT campaign_id FROM campaigns
         WHERE campaign_id > $1 AND ($2 IS NULL OR stream_id = ANY($2) OR lookup_before > '-infinity')
         ORDER BY campaign_id LIMIT $3",
    )
    .bind::<Text, _>(after)
    .bind::<Nullable<Array<Integer>>, _>(on)
    .bind::<BigInt, _>(limit as i64)
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.campaign_id).collect())
}
