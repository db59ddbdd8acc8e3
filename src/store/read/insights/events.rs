//! The events behind a campaign's numbers, newest first.
//!
//! The event store is in the order of each partition's log and is not indexed by campaign, so it is
//! read backwards, some blocks at a time, until a page is full. A campaign is on one partition,
//! unless it was moved: then the others follow.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use super::Window;
use crate::event::{Conversions, Count, Money, Platform};
use crate::offset::Offset;
use crate::store::columns::Bigints;
use crate::store::{StoreError, StreamId};

/// Blocks looked at with one statement, and for one page.
const BLOCKS: i64 = 8;
const MOST_BLOCKS: usize = 256;

/// Where a page begins: at this partition, before this offset; then the partitions that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub stream: StreamId,
    pub before: Offset,
}

/// Which events are asked for.
#[derive(Clone, Debug)]
pub struct Page {
    pub campaign_id: String,
    pub window: Option<Window>,
    /// None named: all.
    pub platforms: Vec<Platform>,
    /// None: the newest.
    pub from: Option<Cursor>,
    pub limit: usize,
}

/// An event as it is stored, and where.
#[derive(Clone, Debug, QueryableByName)]
pub struct Stored {
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    #[diesel(sql_type = Text)]
    pub platform: String,
    #[diesel(sql_type = Timestamptz)]
    pub event_time: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    pub impressions: Count,
    #[diesel(sql_type = BigInt)]
    pub clicks: Count,
    #[diesel(sql_type = BigInt)]
    pub conversions: Conversions,
    #[diesel(sql_type = BigInt)]
    pub cost_micros: Money,
    #[diesel(sql_type = BigInt)]
    pub revenue_micros: Money,
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub offset: Offset,
    /// When its block was stored; of a merged one, the last of its blocks.
    #[diesel(sql_type = Timestamptz)]
    pub counted_at: DateTime<Utc>,
    /// Of a restatement, when the platform was asked.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub observed_at: Option<DateTime<Utc>>,
}

/// A page of events.
#[derive(Debug)]
pub struct Events {
    pub events: Vec<Stored>,
    /// Where the next one begins; none when there is nothing more. A page may be short and still
    /// have a next one: looking further back was left to it.
    pub next: Option<Cursor>,
}

#[derive(QueryableByName)]
struct Block {
    #[diesel(sql_type = BigInt)]
    first_offset: Offset,
}

/// Reads a page; none if the campaign has no events at all.
///
/// # Errors
/// When the database does not answer.
pub fn read(connection: &mut PgConnection, page: &Page) -> Result<Option<Events>, StoreError> {
    let streams = streams_of(connection, &page.campaign_id)?;
    if streams.is_empty() {
        return Ok(None);
    }
    let started = page.from.map_or(0, |from| {
        streams
            .iter()
            .position(|s| *s == from.stream)
            .unwrap_or(streams.len())
    });
    let mut events = Vec::new();
    let mut looked_at = 0;
    for (n, &stream) in streams.iter().enumerate().skip(started) {
        let mut before = match page.from {
            Some(from) if from.stream == stream => from.before,
            _ => Offset::MAX,
        };
        loop {
            let blocks = blocks_before(connection, page, stream, before)?;
            let Some(oldest) = blocks.last().map(|b| b.first_offset) else {
                break;
            };
            let room = page.limit.saturating_sub(events.len());
            let found = of_blocks(connection, page, stream, &blocks, before, room)?;
            let full = found.len() == room;
            before = match found.last() {
                Some(last) if full => last.offset,
                _ => oldest,
            };
            events.extend(found);
            looked_at += blocks.len();
            if full || looked_at >= MOST_BLOCKS {
                return Ok(Some(Events {
                    events,
                    next: Some(Cursor { stream, before }),
                }));
            }
        }
        if n + 1 == streams.len() {
            break;
        }
    }
    Ok(Some(Events { events, next: None }))
}

/// The partition that owns the campaign and, if it was moved, the others.
fn streams_of(connection: &mut PgConnection, campaign: &str) -> Result<Vec<StreamId>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT s.stream_id FROM campaigns AS c JOIN stream_positions AS s
             ON s.stream_id = c.stream_id OR c.lookup_before > '-infinity'
         WHERE c.campaign_id = $1 ORDER BY s.stream_id <> c.stream_id, s.stream_id",
    )
    .bind::<Text, _>(campaign)
    .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| StreamId(row.stream_id))
        .collect())
}

/// The newest blocks that begin before an offset and may hold events of the window.
fn blocks_before(
    connection: &mut PgConnection,
    page: &Page,
    stream: StreamId,
    before: Offset,
) -> Result<Vec<Block>, StoreError> {
    // The primary key, backwards.
    Ok(sql_query(
        "SELECT first_offset FROM event_blocks
         WHERE stream_id = $1 AND first_offset < $2
             AND ($3 IS NULL OR max_event_time >= $3) AND ($4 IS NULL OR min_event_time < $4)
         ORDER BY first_offset DESC LIMIT $5",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(before)
    .bind::<Nullable<Timestamptz>, _>(page.window.map(Window::since))
    .bind::<Nullable<Timestamptz>, _>(page.window.map(Window::until))
    .bind::<BigInt, _>(BLOCKS)
    .load(connection)?)
}

/// The newest events that are asked for in these blocks, before an offset.
fn of_blocks(
    connection: &mut PgConnection,
    page: &Page,
    stream: StreamId,
    blocks: &[Block],
    before: Offset,
    limit: usize,
) -> Result<Vec<Stored>, StoreError> {
    let first_offsets: Vec<Offset> = blocks.iter().map(|b| b.first_offset).collect();
    let platforms: Vec<i16> = page.platforms.iter().map(|p| p.index().into()).collect();
    Ok(sql_query(
        r#"SELECT e.event_id, platform_name(e.platform) AS platform, e.event_time, e.impressions, e.clicks,
             e.conversions, e.cost_micros, e.revenue_micros, s.topic, s.partition, e."offset", e.committed_at AS counted_at,
             e.observed_at
         FROM (SELECT b.stream_id, b.committed_at, u.event_id, u.campaign_id, u.platform, u.event_time, u.impressions,
                   u.clicks, u.conversions * 1000000 + COALESCE(u.conversion_millionths, 0) AS conversions, u.cost_micros,
                   u.revenue_micros, u.observed_at,
                   b.first_offset + COALESCE(u.offset_delta, u.position - 1) AS "offset"
               FROM event_blocks AS b
               CROSS JOIN LATERAL unnest(b.event_id, b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks,
                       b.conversions, b.conversion_millionths, b.cost_micros, b.revenue_micros, b.offset_delta, b.observed_at)
                   WITH ORDINALITY
                   AS u (event_id, campaign_id, platform, event_time, impressions, clicks, conversions,
                         conversion_millionths, cost_micros, revenue_micros, offset_delta, observed_at, position)
               WHERE b.stream_id = $1 AND b.first_offset = ANY($2) AND u.campaign_id = $3) AS e
         JOIN stream_positions AS s USING (stream_id)
         WHERE e."offset" < $4 AND ($5 OR e.platform = ANY($6))
             AND ($7 IS NULL OR e.event_time >= $7) AND ($8 IS NULL OR e.event_time < $8)
         ORDER BY e."offset" DESC LIMIT $9"#,
    )
    .bind::<Integer, _>(stream.0)
    .bind::<Array<BigInt>, _>(Bigints(&first_offsets))
    .bind::<Text, _>(&page.campaign_id)
    .bind::<BigInt, _>(before)
    .bind::<Bool, _>(platforms.is_empty())
    .bind::<Array<SmallInt>, _>(platforms)
    .bind::<Nullable<Timestamptz>, _>(page.window.map(Window::since))
    .bind::<Nullable<Timestamptz>, _>(page.window.map(Window::until))
    .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
    .load(connection)?)
}
