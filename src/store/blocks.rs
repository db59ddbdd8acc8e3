//! The event store as it is read: columns in, a block's events out.

use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use super::columns::{
    Bigints, IntegerColumn, Integers, LongColumn, OptionalTimestamps, SmallintColumn, TextColumn,
    TimestampColumn, UuidColumn,
};
use super::events::{Columns, Fingerprint, Fingerprinter};
use super::{CommitId, StoreError, StreamId, periods};
use crate::time::{Length, Timestamp};

use crate::event::{Conversions, Count, Money};
use crate::offset::Offset;

/// The most events a block holds: about 3 MB before compression.
pub const MAX_BLOCK_EVENTS: usize = 32_768;

/// How many events are read from the store at a time.
const READ_EVENTS: Count = Count::new(200_000);

/// Names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    pub stream: StreamId,
    pub first_offset: Offset,
    pub event_count: Count,
}

/// A block as read.
#[derive(Debug)]
pub struct Block {
    pub stream: StreamId,
    pub campaigns: Vec<String>,
    pub events: Columns,
    /// The transactions that it was made of: the offset up to which each counted, its number and when it began to write.
    commits: Vec<(Offset, CommitId, Timestamp)>,
}

impl Block {
    /// The transaction that counted a row, and when that began to write.
    pub fn commit(&self, row: usize) -> (CommitId, Timestamp) {
        let offset = self.events.offset.get(row).copied().unwrap_or(Offset::MAX);
        let place = self.commits.partition_point(|(end, _, _)| *end < offset);
        let commit = self.commits.get(place).or(self.commits.last());
        commit.map_or((CommitId::new(0), Timestamp::MIN), |(_, id, at)| (*id, *at))
    }

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
    first_offset: Offset,
    #[diesel(sql_type = Nullable<Array<Integer>>)]
    offset_delta: Option<IntegerColumn>,
    #[diesel(sql_type = Array<SqlUuid>)]
    event_id: UuidColumn,
    #[diesel(sql_type = Array<Text>)]
    campaign_id: TextColumn,
    #[diesel(sql_type = Array<SmallInt>)]
    platform: SmallintColumn,
    #[diesel(sql_type = Array<Timestamptz>)]
    event_time: TimestampColumn,
    #[diesel(sql_type = Array<BigInt>)]
    impressions: LongColumn<Count>,
    #[diesel(sql_type = Array<BigInt>)]
    clicks: LongColumn<Count>,
    #[diesel(sql_type = Array<BigInt>)]
    conversions: LongColumn,
    #[diesel(sql_type = Nullable<Array<Integer>>)]
    conversion_millionths: Option<IntegerColumn>,
    #[diesel(sql_type = Array<BigInt>)]
    cost_micros: LongColumn<Money>,
    #[diesel(sql_type = Array<BigInt>)]
    revenue_micros: LongColumn<Money>,
    #[diesel(sql_type = BigInt)]
    commit_id: CommitId,
    #[diesel(sql_type = Timestamptz)]
    committed_at: Timestamp,
    #[diesel(sql_type = Nullable<Array<BigInt>>)]
    merged_last_offset: Option<LongColumn<Offset>>,
    #[diesel(sql_type = Nullable<Array<BigInt>>)]
    merged_commit_id: Option<LongColumn<CommitId>>,
    #[diesel(sql_type = Nullable<Array<Timestamptz>>)]
    merged_committed_at: Option<TimestampColumn>,
    #[diesel(sql_type = Nullable<Array<Timestamptz>>)]
    observed_at: Option<OptionalTimestamps>,
}

/// Conversions of the whole ones and what there is beyond, if anything; none if these are not what is stored of any.
fn conversions(whole: Vec<i64>, beyond: Option<IntegerColumn>) -> Option<Vec<Conversions>> {
    match beyond {
        None => whole.into_iter().map(Conversions::whole).collect(),
        Some(IntegerColumn(beyond)) if beyond.len() == whole.len() => whole
            .into_iter()
            .zip(beyond)
            .map(|(whole, beyond)| Conversions::of_parts(whole, beyond.into()))
            .collect(),
        Some(_) => None,
    }
}

impl TryFrom<BlockRow> for Block {
    type Error = StoreError;

    fn try_from(row: BlockRow) -> Result<Block, StoreError> {
        let Some(conversions) = conversions(row.conversions.0, row.conversion_millionths) else {
            return Err(StoreError::Query(DieselError::DeserializationError(
                format!(
                    "the conversions of the block at offset {} of stream {} cannot be read",
                    row.first_offset, row.stream_id
                )
                .into(),
            )));
        };
        let mut commits = Vec::new();
        if let (Some(ends), Some(ids), Some(times)) = (
            row.merged_last_offset,
            row.merged_commit_id,
            row.merged_committed_at,
        ) {
            let named = ids.0.into_iter().zip(times.0);
            commits.extend(
                ends.0
                    .into_iter()
                    .zip(named)
                    .map(|(end, (id, at))| (end, id, at)),
            );
        } else {
            commits.push((Offset::MAX, row.commit_id, row.committed_at));
        }
        let count = Count::of(row.event_id.0.len());
        let offset = match row.offset_delta {
            Some(deltas) => deltas
                .0
                .iter()
                .map(|&d| row.first_offset.plus(Count::new(d.into())))
                .collect(),
            None => (row.first_offset.get()..row.first_offset.plus(count).get())
                .map(Offset::new)
                .collect(),
        };
        Ok(Block {
            stream: StreamId(row.stream_id),
            campaigns: row.campaign_id.dictionary,
            commits,
            events: Columns {
                offset,
                event_id: row.event_id.0,
                campaign: row.campaign_id.index,
                platform: row.platform.0,
                event_time: row.event_time.0,
                impressions: row.impressions.0,
                clicks: row.clicks.0,
                conversions,
                cost_micros: row.cost_micros.0,
                revenue_micros: row.revenue_micros.0,
                observed_at: row.observed_at.map(|column| column.0).unwrap_or_default(),
            },
        })
    }
}

#[derive(QueryableByName)]
pub(super) struct KeyRow {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    first_offset: Offset,
    #[diesel(sql_type = BigInt)]
    event_count: Count,
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
    from: Offset,
    below: Offset,
    limit: u32,
) -> Result<Vec<BlockKey>, StoreError> {
    // By primary key, in its order.
    let rows: Vec<KeyRow> = sql_query(
        "SELECT stream_id, first_offset, event_count::bigint AS event_count FROM event_blocks
         WHERE stream_id = $1 AND first_offset >= $2 AND first_offset < $3 ORDER BY first_offset LIMIT $4",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(from)
    .bind::<BigInt, _>(below)
    .bind::<BigInt, _>(i64::from(limit))
    .load(connection)?;
    Ok(rows.into_iter().map(BlockKey::from).collect())
}

/// The first of these blocks, as many as it takes to have so many events, and those after them.
pub(super) fn split_after_events(keys: &[BlockKey], events: Count) -> (&[BlockKey], &[BlockKey]) {
    let mut before = Count::ZERO;
    let taken = keys.iter().take_while(|key| {
        let is_taken = before < events;
        before += key.event_count;
        is_taken
    });
    keys.split_at(taken.count())
}

/// The blocks `b` at places, each by primary key: the last block that begins at the offset or before it.
const FROM_PLACES: &str = "FROM (SELECT DISTINCT held.stream_id, held.first_offset
           FROM unnest($1, $2) AS k (stream_id, first_offset)
           CROSS JOIN LATERAL (SELECT stream_id, first_offset FROM event_blocks
               WHERE stream_id = k.stream_id AND first_offset <= k.first_offset
               ORDER BY first_offset DESC LIMIT 1) AS held) AS h
     JOIN event_blocks AS b ON b.stream_id = h.stream_id AND b.first_offset = h.first_offset";

fn places(keys: &[BlockKey]) -> (Vec<i32>, Vec<Offset>) {
    keys.iter()
        .map(|key| (key.stream.0, key.first_offset))
        .unzip()
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
        let (streams, offsets) = places(now);
        let rows: Vec<BlockRow> = sql_query(format!(
            "SELECT b.stream_id, b.first_offset, b.offset_delta, b.event_id, b.campaign_id, b.platform, b.event_time,
                 b.impressions, b.clicks, b.conversions, b.conversion_millionths, b.cost_micros, b.revenue_micros, b.commit_id,
                 b.committed_at, b.merged_last_offset, b.merged_commit_id, b.merged_committed_at, b.observed_at {FROM_PLACES}"
        ))
        .bind::<Array<Integer>, _>(Integers(&streams))
        .bind::<Array<BigInt>, _>(Bigints(&offsets))
        .load(connection)?;
        for row in rows {
            each(&Block::try_from(row)?)?;
        }
    }
    Ok(())
}

/// Those of the blocks at these places that hold an event which `is_wanted` by its id and time. Of each only those are read: a
/// third of what it is. As with [`for_each`], a block may be another one by now, and is then named by where that begins.
///
/// # Errors
/// When the database does not answer.
pub fn holding(
    connection: &mut PgConnection,
    keys: &[BlockKey],
    is_wanted: impl Fn(Uuid, Timestamp) -> bool,
) -> Result<Vec<BlockKey>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(embed)]
        key: KeyRow,
        #[diesel(sql_type = Array<SqlUuid>)]
        event_id: UuidColumn,
        #[diesel(sql_type = Array<Timestamptz>)]
        event_time: TimestampColumn,
    }
    let mut found = Vec::new();
    let mut rest = keys;
    while !rest.is_empty() {
        let (now, later) = split_after_events(rest, READ_EVENTS);
        rest = later;
        let (streams, offsets) = places(now);
        let rows: Vec<Row> = sql_query(format!(
            "SELECT b.stream_id, b.first_offset, b.event_count::bigint AS event_count, b.event_id, b.event_time {FROM_PLACES}"
        ))
        .bind::<Array<Integer>, _>(Integers(&streams))
        .bind::<Array<BigInt>, _>(Bigints(&offsets))
        .load(connection)?;
        let holds = |row: &Row| {
            let mut identities = row.event_id.0.iter().zip(&row.event_time.0);
            identities.any(|(id, time)| is_wanted(*id, *time))
        };
        let held = rows.into_iter().filter(holds);
        found.extend(held.map(|row| BlockKey::from(row.key)));
    }
    Ok(found)
}

/// The newest events of a partition, and the time from which on they are all there: every event
/// of the partition that was ever stored and whose `event_time` is at or after it was given to `each`. About
/// `capacity` events, in whole blocks; a few more, and some twice, where blocks are being merged.
///
/// # Errors
/// When the database does not answer.
pub fn recent(
    connection: &mut PgConnection,
    stream: StreamId,
    capacity: usize,
    each: impl FnMut(&Block) -> Result<(), StoreError>,
) -> Result<Timestamp, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(embed)]
        key: KeyRow,
        #[diesel(sql_type = Timestamptz)]
        max_event_time: Timestamp,
        #[diesel(sql_type = BigInt)]
        newer_events: Count,
    }
    // One block more than fits: its latest time is where the memory begins. event_blocks_max_event_time_idx, backwards.
    let rows: Vec<Row> = sql_query(
        "SELECT stream_id, first_offset, event_count, max_event_time, newer_events FROM (
             SELECT stream_id, first_offset, event_count::bigint AS event_count, max_event_time,
                 sum(event_count) OVER (ORDER BY max_event_time DESC, first_offset DESC)::bigint - event_count AS newer_events
             FROM (SELECT stream_id, first_offset, event_count, max_event_time FROM event_blocks
                   WHERE stream_id = $1 ORDER BY max_event_time DESC, first_offset DESC LIMIT 100000) AS newest
         ) AS counted WHERE newer_events <= $2 ORDER BY max_event_time DESC, first_offset DESC",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(capacity as i64)
    .load(connection)?;
    let total = rows.last().map_or(Count::ZERO, |r| {
        r.newer_events.saturating_add(r.key.event_count)
    });
    let complete = total <= Count::of(capacity) && rows.len() < 100_000;
    let (horizon, take) = match rows.last() {
        Some(oldest) if !complete => (oldest.max_event_time + Length::MICROSECOND, rows.len() - 1),
        _ => (Timestamp::MIN, rows.len()),
    };
    let keys: Vec<BlockKey> = rows.into_iter().take(take).map(|r| r.key.into()).collect();
    for_each(connection, &keys, each)?;
    // Last: what is dropped meanwhile is not there.
    let dropped = periods::latest_dropped(connection)?;
    Ok(dropped.map_or(horizon, |latest| horizon.max(latest + Length::MICROSECOND)))
}
