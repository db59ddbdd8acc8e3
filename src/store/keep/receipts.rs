//! Receipts: what was sent through the API, where it landed, and what has become of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::event::Count;
use crate::offset::Offset;
use crate::store::columns::{Bigints, Integers};
use crate::store::{StoreError, StreamId};

/// Where each record of a request landed, in the order of the request.
#[derive(Debug, Default)]
pub struct Landed {
    pub partitions: Vec<i32>,
    pub offsets: Vec<Offset>,
    /// Which of the request each is: its line, or its place in an array, from 1.
    pub numbers: Vec<i64>,
}

/// What this connection's role lacks to keep receipts; none: nothing.
///
/// # Errors
/// When the database does not answer.
pub fn lacking(connection: &mut PgConnection) -> Result<Option<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        lacking: Option<String>,
    }
    let row: Row = sql_query(
        "SELECT string_agg(privilege || ' on receipts', ', ' ORDER BY privilege) AS lacking
         FROM unnest(ARRAY['SELECT', 'INSERT']) AS privilege
         WHERE has_table_privilege(to_regclass('receipts')::oid, privilege) IS NOT TRUE",
    )
    .get_result(connection)?;
    Ok(row.lacking)
}

/// Keeps a new receipt and gives it a name.
///
/// # Errors
/// When the database does not answer.
pub fn insert(
    connection: &mut PgConnection,
    kind: &str,
    cluster_id: &str,
    topic: &str,
    landed: &Landed,
) -> Result<Uuid, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        receipt_id: Uuid,
    }
    let counts_on = (1..).zip(&landed.numbers).all(|(n, number)| n == *number);
    let numbers = (!counts_on).then_some(Bigints(&landed.numbers));
    let row: Row = sql_query(
        "INSERT INTO receipts (kind, cluster_id, topic, partitions, offsets, numbers) VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING receipt_id",
    )
    .bind::<Text, _>(kind)
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .bind::<Array<Integer>, _>(Integers(&landed.partitions))
    .bind::<Array<BigInt>, _>(Bigints(&landed.offsets))
    .bind::<Nullable<Array<BigInt>>, _>(numbers)
    .get_result(connection)?;
    Ok(row.receipt_id)
}

/// Deletes the receipts of what was sent 30 days ago and before, and says how many there were.
///
/// # Errors
/// When the database does not answer.
pub fn forget(connection: &mut PgConnection) -> Result<usize, StoreError> {
    Ok(
        sql_query("DELETE FROM receipts WHERE created_at < clock_timestamp() - interval '30 days'")
            .execute(connection)?,
    )
}

/// What was sent, and where it landed.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub kind: String,
    pub created_at: DateTime<Utc>,
    pub cluster_id: String,
    pub topic: String,
    /// By partition; of each record its offset, and which of the request it was.
    pub sent: BTreeMap<i32, Vec<(Offset, i64)>>,
}

impl Receipt {
    /// How many records there are.
    pub fn records(&self) -> Count {
        Count::of(self.sent.values().map(Vec::len).sum())
    }
}

/// What has become of records; each is one of these.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Not read yet.
    pub waiting: Count,
    /// In the event store.
    pub counted: Count,
    /// Read, and nothing new: counted before; or of reports, the same as what was known, or older.
    pub duplicates: Count,
    /// Never read: a person gave them up, or counting began after them.
    pub skipped: Count,
    /// In the order of the request.
    pub dead: Vec<Dead>,
}

impl Outcomes {
    /// With what has become of others of the request.
    pub fn and(mut self, others: Outcomes) -> Outcomes {
        self.waiting += others.waiting;
        self.counted += others.counted;
        self.duplicates += others.duplicates;
        self.skipped += others.skipped;
        self.dead.extend(others.dead);
        self.dead.sort_unstable_by_key(|dead| dead.number);
        self
    }
}

/// A record that could not be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Which of the request it was.
    pub number: i64,
    pub partition: i32,
    pub offset: Offset,
    pub reason: String,
}

/// A receipt; none: there is no such one.
///
/// # Errors
/// When the database does not answer.
pub fn find(connection: &mut PgConnection, id: Uuid) -> Result<Option<Receipt>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Timestamptz)]
        created_at: DateTime<Utc>,
        #[diesel(sql_type = Text)]
        cluster_id: String,
        #[diesel(sql_type = Text)]
        topic: String,
        #[diesel(sql_type = Array<Integer>)]
        partitions: Vec<i32>,
        #[diesel(sql_type = Array<BigInt>)]
        offsets: Vec<i64>,
        #[diesel(sql_type = Nullable<Array<BigInt>>)]
        numbers: Option<Vec<i64>>,
    }
    let row: Option<Row> = sql_query(
        "SELECT kind, created_at, cluster_id, topic, partitions, offsets, numbers FROM receipts WHERE receipt_id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .get_result(connection)
    .optional()?;
    let Some(row) = row else {
        return Ok(None);
    };
    let numbers = row
        .numbers
        .unwrap_or_else(|| (1..).take(row.partitions.len()).collect());
    let mut sent: BTreeMap<i32, Vec<(Offset, i64)>> = BTreeMap::new();
    let places = row.partitions.into_iter().zip(row.offsets).zip(numbers);
    for ((partition, offset), number) in places {
        let of_partition = sent.entry(partition).or_default();
        of_partition.push((Offset::new(offset), number));
    }
    Ok(Some(Receipt {
        kind: row.kind,
        created_at: row.created_at,
        cluster_id: row.cluster_id,
        topic: row.topic,
        sent,
    }))
}

/// What has become of a receipt's records.
///
/// Positions are read before what they stand for, so what is before a position has its outcome, also while more is counted.
///
/// # Errors
/// When the database does not answer.
pub fn outcomes(connection: &mut PgConnection, receipt: &Receipt) -> Result<Outcomes, StoreError> {
    let streams = streams(connection, &receipt.cluster_id, &receipt.topic)?;
    let mut outcomes = Outcomes::default();
    for (&partition, records) in &receipt.sent {
        let mut records = records.clone();
        let Some(stream) = streams.get(&partition) else {
            outcomes.waiting += Count::of(records.len());
            continue;
        };
        records.sort_unstable();
        let read = records.partition_point(|(offset, _)| *offset < stream.next_offset);
        outcomes.waiting += Count::of(records.len() - read);
        records.truncate(read);
        let found = found(connection, stream, &records)?;
        for (offset, number) in records {
            if let Some(reason) = found.dead.get(&offset) {
                outcomes.dead.push(Dead {
                    number,
                    partition,
                    offset,
                    reason: reason.clone(),
                });
            } else if found.has_event(offset) {
                outcomes.counted += Count::new(1);
            } else if offset < stream.start_offset || found.is_skipped(offset) {
                outcomes.skipped += Count::new(1);
            } else {
                outcomes.duplicates += Count::new(1);
            }
        }
    }
    outcomes.dead.sort_unstable_by_key(|dead| dead.number);
    Ok(outcomes)
}

/// How far a partition is counted.
#[derive(QueryableByName)]
struct Stream {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    start_offset: Offset,
    #[diesel(sql_type = BigInt)]
    next_offset: Offset,
}

fn streams(
    connection: &mut PgConnection,
    cluster_id: &str,
    topic: &str,
) -> Result<BTreeMap<i32, Stream>, StoreError> {
    let rows: Vec<Stream> = sql_query(
        "SELECT stream_id, partition, start_offset, next_offset FROM stream_positions WHERE cluster_id = $1 AND topic = $2",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .load(connection)?;
    Ok(rows.into_iter().map(|row| (row.partition, row)).collect())
}

/// What is stored of a span of a partition.
struct Found {
    /// By their first offset. Blocks of a partition do not overlap.
    blocks: Vec<Block>,
    dead: BTreeMap<Offset, String>,
    /// From the first offset to before the second.
    skipped: Vec<(Offset, Offset)>,
}

#[derive(QueryableByName)]
struct Block {
    #[diesel(sql_type = BigInt)]
    first_offset: Offset,
    #[diesel(sql_type = BigInt)]
    last_offset: Offset,
    /// Each event's offset beyond the first, ascending; none: they are consecutive.
    #[diesel(sql_type = Nullable<Array<Integer>>)]
    offset_delta: Option<Vec<i32>>,
}

impl Found {
    fn has_event(&self, offset: Offset) -> bool {
        let next = self.blocks.partition_point(|b| b.first_offset <= offset);
        let block = next.checked_sub(1).and_then(|last| self.blocks.get(last));
        block.is_some_and(|block| {
            let delta = offset.get() - block.first_offset.get();
            offset <= block.last_offset
                && block.offset_delta.as_ref().is_none_or(|deltas| {
                    i32::try_from(delta).is_ok_and(|delta| deltas.binary_search(&delta).is_ok())
                })
        })
    }

    fn is_skipped(&self, offset: Offset) -> bool {
        let mut skipped = self.skipped.iter();
        skipped.any(|(first, next)| (*first..*next).contains(&offset))
    }
}

/// `records`: sorted, all of them read.
fn found(
    connection: &mut PgConnection,
    stream: &Stream,
    records: &[(Offset, i64)],
) -> Result<Found, StoreError> {
    let mut found = Found {
        blocks: Vec::new(),
        dead: BTreeMap::new(),
        skipped: Vec::new(),
    };
    let (Some((first, _)), Some((last, _))) = (records.first(), records.last()) else {
        return Ok(found);
    };
    let stream = StreamId(stream.stream_id);
    // By primary key, from the last block that begins at or before the first record.
    found.blocks = sql_query(
        "SELECT first_offset, last_offset, offset_delta FROM event_blocks
         WHERE stream_id = $1 AND first_offset <= $3
             AND first_offset >= COALESCE((SELECT max(first_offset) FROM event_blocks WHERE stream_id = $1 AND first_offset <= $2), $2)
         ORDER BY first_offset",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(*first)
    .bind::<BigInt, _>(*last)
    .load(connection)?;
    #[derive(QueryableByName)]
    struct Letter {
        #[diesel(sql_type = BigInt)]
        offset: Offset,
        #[diesel(sql_type = Text)]
        reason: String,
    }
    let offsets: Vec<Offset> = records.iter().map(|(offset, _)| *offset).collect();
    let letters: Vec<Letter> = sql_query(
        r#"SELECT "offset", reason FROM dead_letters WHERE stream_id = $1 AND "offset" BETWEEN $2 AND $3 AND "offset" = ANY($4)"#,
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(*first)
    .bind::<BigInt, _>(*last)
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .load(connection)?;
    found.dead = letters.into_iter().map(|l| (l.offset, l.reason)).collect();
    #[derive(QueryableByName)]
    struct Skipped {
        #[diesel(sql_type = BigInt)]
        first_offset: Offset,
        #[diesel(sql_type = BigInt)]
        next_offset: Offset,
    }
    let skipped: Vec<Skipped> = sql_query(
        "SELECT first_offset, next_offset FROM skipped_offsets WHERE stream_id = $1 AND first_offset <= $3 AND next_offset > $2",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(*first)
    .bind::<BigInt, _>(*last)
    .load(connection)?;
    found.skipped = skipped
        .into_iter()
        .map(|s| (s.first_offset, s.next_offset))
        .collect();
    Ok(found)
}
