//! The event store: a share's events in, columns out.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use super::batch::{Columns, Fingerprint, Fingerprinter, Share};
use super::columns::{
    Bigints, IntegerColumn, Integers, LongColumn, SmallintColumn, Smallints, TextColumn, Texts,
    Timestamps, UuidColumn, Uuids, from_pg_micros, pg_timestamp,
};
use super::positions::Commit;
use super::prepared::prepared;
use super::{StoreError, StreamId};

/// The most events a block holds: about 3 MB before compression.
pub const MAX_BLOCK_EVENTS: usize = 32_768;

/// How many events are read from the store at a time.
const READ_EVENTS: i64 = 200_000;

/// Appends a share's events as blocks.
///
/// # Errors
/// As the database does.
pub fn append(
    connection: &mut PgConnection,
    share: &Share,
    commit: Commit,
) -> Result<(), StoreError> {
    let late: Vec<i64> = share
        .undecided
        .iter()
        .filter(|u| u.late)
        .filter_map(|u| share.events.offset.get(u.row).copied())
        .collect();
    let offsets = &share.events.offset;
    let mut start = 0;
    while let Some(first) = offsets.get(start) {
        let most = &offsets[start..offsets.len().min(start + MAX_BLOCK_EVENTS)];
        // An offset is stored as its distance from the first, in 32 bits.
        let len = most.partition_point(|offset| offset - first <= i64::from(i32::MAX));
        append_block(connection, share, start..start + len, &late, commit)?;
        start += len;
    }
    append_late(connection, share)
}

fn append_block(
    connection: &mut PgConnection,
    share: &Share,
    rows: std::ops::Range<usize>,
    late: &[i64],
    commit: Commit,
) -> Result<(), StoreError> {
    let e = &share.events;
    let offsets = &e.offset[rows.clone()];
    let times = &e.event_time[rows.clone()];
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Ok(());
    };
    let consecutive = last - first == offsets.len() as i64 - 1;
    let deltas: Vec<i32> = if consecutive {
        Vec::new()
    } else {
        offsets.iter().map(|o| (o - first) as i32).collect()
    };
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    let (mut span_min, mut span_max) = (i64::MAX, i64::MIN);
    for (&time, offset) in times.iter().zip(offsets) {
        (min, max) = (min.min(time), max.max(time));
        if late.is_empty() || late.binary_search(offset).is_err() {
            (span_min, span_max) = (span_min.min(time), span_max.max(time));
        }
    }
    let span = (span_min <= span_max).then_some((span_min, span_max));
    prepared(
        "INSERT INTO event_blocks (stream_id, first_offset, last_offset, event_count, min_event_time, max_event_time, \
             lookup_span, commit_id, committed_at, offset_delta, event_id, campaign_id, platform, event_time, impressions, \
             clicks, conversions, cost_micros, revenue_micros) \
         VALUES ($1, $2, $3, $4, $5, $6, \
             CASE WHEN $7 IS NULL THEN NULL ELSE tstzrange($8, $9, '[]') END, \
             $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)",
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<BigInt, _>(first)
    .bind::<BigInt, _>(last)
    .bind::<Integer, _>(offsets.len() as i32)
    .bind::<Timestamptz, _>(pg_timestamp(min))
    .bind::<Timestamptz, _>(pg_timestamp(max))
    .bind::<Nullable<Timestamptz>, _>(span.map(|s| pg_timestamp(s.0)))
    .bind::<Nullable<Timestamptz>, _>(span.map(|s| pg_timestamp(s.0)))
    .bind::<Nullable<Timestamptz>, _>(span.map(|s| pg_timestamp(s.1)))
    .bind::<BigInt, _>(commit.id)
    .bind::<Timestamptz, _>(commit.at)
    .bind::<Nullable<Array<Integer>>, _>((!consecutive).then_some(deltas))
    .bind::<Array<SqlUuid>, _>(Uuids(&e.event_id[rows.clone()]))
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &e.campaign[rows.clone()] })
    .bind::<Array<SmallInt>, _>(Smallints(&e.platform[rows.clone()]))
    .bind::<Array<Timestamptz>, _>(Timestamps(times))
    .bind::<Array<BigInt>, _>(Bigints(&e.impressions[rows.clone()]))
    .bind::<Array<BigInt>, _>(Bigints(&e.clicks[rows.clone()]))
    .bind::<Array<BigInt>, _>(Bigints(&e.conversions[rows.clone()]))
    .bind::<Array<BigInt>, _>(Bigints(&e.cost_micros[rows.clone()]))
    .bind::<Array<BigInt>, _>(Bigints(&e.revenue_micros[rows]))
    .execute(connection)?;
    Ok(())
}

fn append_late(connection: &mut PgConnection, share: &Share) -> Result<(), StoreError> {
    let e = &share.events;
    let rows: Vec<usize> = share
        .undecided
        .iter()
        .filter(|u| u.late)
        .map(|u| u.row)
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = rows.iter().map(|&r| e.event_id[r]).collect();
    let times: Vec<i64> = rows.iter().map(|&r| e.event_time[r]).collect();
    let offsets: Vec<i64> = rows.iter().map(|&r| e.offset[r]).collect();
    // The primary key is the last guard: an identity that slipped in twice aborts the batch, which
    // is then looked up once more.
    sql_query(
        "INSERT INTO late_events (event_id, event_time, stream_id, \"offset\") \
         SELECT l.event_id, l.event_time, $1, l.position \
         FROM unnest($2, $3, $4) AS l (event_id, event_time, position)",
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<Array<SqlUuid>, _>(Uuids(&ids))
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .execute(connection)
    .map_err(StoreError::of_late)?;
    Ok(())
}

/// Names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    pub stream: StreamId,
    pub first_offset: i64,
    pub event_count: i64,
}

/// A block as read.
#[derive(Debug)]
pub struct Block {
    pub stream: StreamId,
    pub campaigns: Vec<String>,
    pub events: Columns,
}

impl Block {
    /// The fingerprint of a row.
    pub fn fingerprint(&self, row: usize, fingerprinter: &Fingerprinter) -> Fingerprint {
        let e = &self.events;
        let campaign = &self.campaigns[e.campaign[row] as usize];
        fingerprinter.of(campaign, e.platform[row], e.event_time[row], &e.counts(row))
    }
}

#[derive(QueryableByName)]
struct BlockRow {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    first_offset: i64,
    #[diesel(sql_type = Nullable<Array<Integer>>)]
    offset_delta: Option<IntegerColumn>,
    #[diesel(sql_type = Array<SqlUuid>)]
    event_id: UuidColumn,
    #[diesel(sql_type = Array<Text>)]
    campaign_id: TextColumn,
    #[diesel(sql_type = Array<SmallInt>)]
    platform: SmallintColumn,
    #[diesel(sql_type = Array<Timestamptz>)]
    event_time: LongColumn,
    #[diesel(sql_type = Array<BigInt>)]
    impressions: LongColumn,
    #[diesel(sql_type = Array<BigInt>)]
    clicks: LongColumn,
    #[diesel(sql_type = Array<BigInt>)]
    conversions: LongColumn,
    #[diesel(sql_type = Array<BigInt>)]
    cost_micros: LongColumn,
    #[diesel(sql_type = Array<BigInt>)]
    revenue_micros: LongColumn,
}

impl From<BlockRow> for Block {
    fn from(row: BlockRow) -> Block {
        let count = row.event_id.0.len() as i64;
        let offset = match row.offset_delta {
            Some(deltas) => deltas
                .0
                .iter()
                .map(|&d| row.first_offset + i64::from(d))
                .collect(),
            None => (row.first_offset..row.first_offset + count).collect(),
        };
        Block {
            stream: StreamId(row.stream_id),
            campaigns: row.campaign_id.dictionary,
            events: Columns {
                offset,
                event_id: row.event_id.0,
                campaign: row.campaign_id.index,
                platform: row.platform.0,
                event_time: row.event_time.0,
                impressions: row.impressions.0,
                clicks: row.clicks.0,
                conversions: row.conversions.0,
                cost_micros: row.cost_micros.0,
                revenue_micros: row.revenue_micros.0,
            },
        }
    }
}

#[derive(QueryableByName)]
pub(super) struct KeyRow {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    first_offset: i64,
    #[diesel(sql_type = BigInt)]
    event_count: i64,
}

impl From<KeyRow> for BlockKey {
    fn from(row: KeyRow) -> BlockKey {
        BlockKey {
            stream: StreamId(row.stream_id),
            first_offset: row.first_offset,
            event_count: row.event_count,
        }
    }
}

/// The keys of a partition's blocks that begin at `from` or after it and before `below`, in order,
/// and at most `limit` of them.
pub(super) fn keys_between(
    connection: &mut PgConnection,
    stream: StreamId,
    from: i64,
    below: i64,
    limit: i64,
) -> Result<Vec<BlockKey>, StoreError> {
    let rows: Vec<KeyRow> = sql_query(
        "SELECT stream_id, first_offset, event_count::bigint AS event_count FROM event_blocks \
         WHERE stream_id = $1 AND first_offset >= $2 AND first_offset < $3 ORDER BY first_offset LIMIT $4",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(from)
    .bind::<BigInt, _>(below)
    .bind::<BigInt, _>(limit)
    .load(connection)?;
    Ok(rows.into_iter().map(BlockKey::from).collect())
}

/// The first of these blocks, as many as it takes to have so many events, and those after them.
pub(super) fn split_after_events(keys: &[BlockKey], events: i64) -> (&[BlockKey], &[BlockKey]) {
    let mut before = 0;
    let taken = keys.iter().take_while(|key| {
        let is_taken = before < events;
        before += key.event_count;
        is_taken
    });
    keys.split_at(taken.count())
}

/// Reads the blocks that hold the events at the places `keys` name, some at a time, so that memory
/// stays bounded.
///
/// A block that was merged with its neighbours since its key was read is found in the larger one:
/// it is looked for by where it begins, and at any instant exactly one block covers that offset. So
/// nothing is missed, but `each` may be given events besides those that were asked for, and some
/// of them twice.
///
/// # Errors
/// When the database does not answer.
pub fn for_each(
    connection: &mut PgConnection,
    keys: &[BlockKey],
    mut each: impl FnMut(&Block) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut rest = keys;
    while !rest.is_empty() {
        let (now, later) = split_after_events(rest, READ_EVENTS);
        rest = later;
        let streams: Vec<i32> = now.iter().map(|k| k.stream.0).collect();
        let offsets: Vec<i64> = now.iter().map(|k| k.first_offset).collect();
        let rows: Vec<BlockRow> = sql_query(
            "SELECT b.stream_id, b.first_offset, b.offset_delta, b.event_id, b.campaign_id, b.platform, b.event_time, \
                 b.impressions, b.clicks, b.conversions, b.cost_micros, b.revenue_micros \
             FROM (SELECT DISTINCT held.stream_id, held.first_offset \
                   FROM unnest($1, $2) AS k (stream_id, first_offset) \
                   CROSS JOIN LATERAL (SELECT stream_id, first_offset FROM event_blocks \
                       WHERE stream_id = k.stream_id AND first_offset <= k.first_offset \
                       ORDER BY first_offset DESC LIMIT 1) AS held) AS h \
             JOIN event_blocks AS b ON b.stream_id = h.stream_id AND b.first_offset = h.first_offset",
        )
        .bind::<Array<Integer>, _>(Integers(&streams))
        .bind::<Array<BigInt>, _>(Bigints(&offsets))
        .load(connection)?;
        for row in rows {
            each(&Block::from(row))?;
        }
    }
    Ok(())
}

/// The newest events of a partition, and the time from which on they are all there: every stored
/// event of the partition whose `event_time` is at or after it was given to `each`. About
/// `capacity` events, in whole blocks; a few more, and some twice, where blocks are being merged.
///
/// # Errors
/// When the database does not answer.
pub fn recent(
    connection: &mut PgConnection,
    stream: StreamId,
    capacity: usize,
    each: impl FnMut(&Block) -> Result<(), StoreError>,
) -> Result<i64, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(embed)]
        key: KeyRow,
        #[diesel(sql_type = Timestamptz)]
        max_event_time: diesel::data_types::PgTimestamp,
        #[diesel(sql_type = BigInt)]
        newer_events: i64,
    }
    // One block more than fits: its latest time is where the memory begins.
    let rows: Vec<Row> = sql_query(
        "SELECT stream_id, first_offset, event_count, max_event_time, newer_events FROM ( \
             SELECT stream_id, first_offset, event_count::bigint AS event_count, max_event_time, \
                 sum(event_count) OVER (ORDER BY max_event_time DESC, first_offset DESC)::bigint - event_count AS newer_events \
             FROM (SELECT stream_id, first_offset, event_count, max_event_time FROM event_blocks \
                   WHERE stream_id = $1 ORDER BY max_event_time DESC, first_offset DESC LIMIT 100000) AS newest \
         ) AS counted WHERE newer_events <= $2 ORDER BY max_event_time DESC, first_offset DESC",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(capacity as i64)
    .load(connection)?;
    let total: i64 = rows
        .last()
        .map_or(0, |r| r.newer_events + r.key.event_count);
    let complete = total <= capacity as i64 && rows.len() < 100_000;
    let (horizon, take) = match rows.last() {
        Some(oldest) if !complete => (from_pg_micros(oldest.max_event_time.0) + 1, rows.len() - 1),
        _ => (i64::MIN, rows.len()),
    };
    let keys: Vec<BlockKey> = rows.into_iter().take(take).map(|r| r.key.into()).collect();
    for_each(connection, &keys, each)?;
    Ok(horizon)
}
