//! What `adflux export` reads: a range of the event store or of the sums, some at a time.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, SmallInt, Text, Timestamptz};

use crate::event::{Count, Money};
use crate::offset::Offset;
use crate::store::blocks::{BlockKey, KeyRow};
use crate::store::sums::{BEFORE_SNAPSHOT, Grain};
use crate::store::{StoreError, StreamId};
use crate::time::Timestamp;

/// Blocks whose keys are read at a time.
const KEYS: i64 = 500;
/// Sums that are read at a time.
const SUMS: i64 = 20_000;

/// A span of time: `since` included, `until` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Range {
    /// Whether a time is in it.
    pub fn holds(self, time: Timestamp) -> bool {
        (self.since..self.until).contains(&time)
    }
}

/// Runs something that reads everything as of one instant. A rebuild waits until it is done.
///
/// # Errors
/// As `read`, or when the database does not answer.
pub fn in_snapshot<T>(
    connection: &mut PgConnection,
    read: impl FnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            connection
                .batch_execute(BEFORE_SNAPSHOT)
                .map_err(StoreError::from)?;
            read(connection)
        })
}

/// Topic and partition of every stream.
///
/// # Errors
/// When the database does not answer.
pub fn streams(
    connection: &mut PgConnection,
) -> Result<HashMap<StreamId, (String, i32)>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = Text)]
        topic: String,
        #[diesel(sql_type = Integer)]
        partition: i32,
    }
    let rows: Vec<Row> =
        sql_query("SELECT stream_id, topic, partition FROM stream_positions").load(connection)?;
    let place = |row: Row| (StreamId(row.stream_id), (row.topic, row.partition));
    Ok(rows.into_iter().map(place).collect())
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: Count,
}

/// How many events the blocks hold that have some in the range.
///
/// # Errors
/// When the database does not answer.
pub fn events_in_blocks(connection: &mut PgConnection, range: Range) -> Result<Count, StoreError> {
    let counted: Counted = sql_query(
        "SELECT COALESCE(sum(event_count), 0)::bigint AS count FROM event_blocks
         WHERE max_event_time >= $1 AND min_event_time < $2",
    )
    .bind::<Timestamptz, _>(range.since)
    .bind::<Timestamptz, _>(range.until)
    .get_result(connection)?;
    Ok(counted.count)
}

/// The next blocks that have events in the range, in the order of their partitions.
///
/// # Errors
/// When the database does not answer.
pub fn block_keys(
    connection: &mut PgConnection,
    range: Range,
    after: Option<(StreamId, Offset)>,
) -> Result<Vec<BlockKey>, StoreError> {
    let (stream, offset) = after.map_or((i32::MIN, Offset::BEFORE_ALL), |(stream, offset)| {
        (stream.0, offset)
    });
    // By primary key; blocks outside the range are passed over.
    let rows: Vec<KeyRow> = sql_query(
        "SELECT stream_id, first_offset, event_count::bigint AS event_count FROM event_blocks
         WHERE (stream_id, first_offset) > ($1, $2) AND max_event_time >= $3 AND min_event_time < $4
         ORDER BY stream_id, first_offset LIMIT $5",
    )
    .bind::<Integer, _>(stream)
    .bind::<BigInt, _>(offset)
    .bind::<Timestamptz, _>(range.since)
    .bind::<Timestamptz, _>(range.until)
    .bind::<BigInt, _>(KEYS)
    .load(connection)?;
    Ok(rows.into_iter().map(BlockKey::from).collect())
}

/// The sums of a campaign on a platform in an interval.
#[derive(Clone, Debug, QueryableByName)]
pub struct SumsRow {
    #[diesel(sql_type = Text)]
    pub campaign_id: String,
    #[diesel(sql_type = Timestamptz)]
    pub since: DateTime<Utc>,
    #[diesel(sql_type = SmallInt)]
    pub platform: i16,
    #[diesel(sql_type = BigInt)]
    pub events: Count,
    #[diesel(sql_type = BigInt)]
    pub impressions: Count,
    #[diesel(sql_type = BigInt)]
    pub clicks: Count,
    #[diesel(sql_type = BigInt)]
    pub conversions: Count,
    #[diesel(sql_type = BigInt)]
    pub cost_micros: Money,
    #[diesel(sql_type = BigInt)]
    pub revenue_micros: Money,
}

/// Names a [`SumsRow`].
pub type SumsKey = (String, DateTime<Utc>, i16);

impl SumsRow {
    /// Its key.
    pub fn key(&self) -> SumsKey {
        (self.campaign_id.clone(), self.since, self.platform)
    }
}

/// How many sums begin in the range.
///
/// # Errors
/// When the database does not answer.
pub fn count_sums(
    connection: &mut PgConnection,
    grain: Grain,
    range: Range,
) -> Result<Count, StoreError> {
    let counted: Counted =
        sql_query(grain.sql(
            "SELECT count(*) AS count FROM metrics_by_minute WHERE minute >= $1 AND minute < $2",
        ))
        .bind::<Timestamptz, _>(range.since)
        .bind::<Timestamptz, _>(range.until)
        .get_result(connection)?;
    Ok(counted.count)
}

/// The next sums that begin in the range, by campaign, time and platform.
///
/// # Errors
/// When the database does not answer.
pub fn sums(
    connection: &mut PgConnection,
    grain: Grain,
    range: Range,
    after: Option<&SumsKey>,
) -> Result<Vec<SumsRow>, StoreError> {
    // No campaign has an empty id, so this is before all of them.
    let first = (String::new(), DateTime::UNIX_EPOCH, -1);
    let (campaign, since, platform) = after.unwrap_or(&first);
    // On from the key of the last row, by primary key.
    Ok(sql_query(grain.sql(
        "SELECT campaign_id, minute AS since, platform, events, impressions, clicks, conversions, cost_micros,
             revenue_micros
         FROM metrics_by_minute
         WHERE (campaign_id, minute, platform) > ($1, $2, $3) AND minute >= $4 AND minute < $5
         ORDER BY campaign_id, minute, platform LIMIT $6",
    ))
    .bind::<Text, _>(campaign)
    .bind::<Timestamptz, _>(since)
    .bind::<SmallInt, _>(platform)
    .bind::<Timestamptz, _>(range.since)
    .bind::<Timestamptz, _>(range.until)
    .bind::<BigInt, _>(SUMS)
    .load(connection)?)
}
