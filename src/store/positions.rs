//! Where each partition stands.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text};

use super::prepared::prepared;
use super::{Epoch, StoreError};
use crate::event::Count;
use crate::offset::Offset;

/// The next offset to read of every partition of a topic that has a position, by partition.
///
/// # Errors
/// When the database does not answer.
pub fn next_offsets(
    connection: &mut PgConnection,
    cluster_id: &str,
    topic: &str,
) -> Result<Vec<(i32, Offset)>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        partition: i32,
        #[diesel(sql_type = BigInt)]
        next_offset: Offset,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT partition, next_offset FROM stream_positions
         WHERE cluster_id = $1 AND topic = $2 ORDER BY partition",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|r| (r.partition, r.next_offset))
        .collect())
}

/// How many versions of rows that were replaced take room still, as PostgreSQL estimates.
///
/// # Errors
/// When the database does not answer.
pub fn dead_versions(connection: &mut PgConnection) -> Result<Count, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        dead: Count,
    }
    let row: Row = prepared("SELECT pg_stat_get_dead_tuples('stream_positions'::regclass) AS dead")
        .get_result(connection)?;
    Ok(row.dead)
}

/// A position, and in which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Stored {
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub epoch: Epoch,
    #[diesel(sql_type = BigInt)]
    pub next_offset: Offset,
}

/// Where every partition of a topic stands that has a position, with its epoch.
///
/// # Errors
/// When the database does not answer.
pub fn stored(
    connection: &mut PgConnection,
    cluster_id: &str,
    topic: &str,
) -> Result<Vec<Stored>, StoreError> {
    Ok(sql_query(
        "SELECT partition, epoch, next_offset FROM stream_positions
         WHERE cluster_id = $1 AND topic = $2 ORDER BY partition",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .load(connection)?)
}

/// How far one partition has come.
#[derive(Debug, QueryableByName)]
pub struct Summary {
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub next_offset: Offset,
    #[diesel(sql_type = BigInt)]
    pub events: Count,
}

/// How far every partition has come, of whatever topic.
///
/// # Errors
/// When the database does not answer.
pub fn summary(connection: &mut PgConnection) -> Result<Vec<Summary>, StoreError> {
    Ok(sql_query("SELECT topic, partition, next_offset, events FROM stream_positions ORDER BY topic, partition")
        .load(connection)?)
}

/// Offsets of a partition that were given up.
#[derive(Debug, QueryableByName)]
pub struct Skipped {
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    /// How many, in all.
    #[diesel(sql_type = BigInt)]
    pub offsets: Count,
    /// Why the last of them were.
    #[diesel(sql_type = Text)]
    pub reason: String,
}

/// What was given up of every partition of which something was.
///
/// # Errors
/// When the database does not answer.
pub fn skipped(connection: &mut PgConnection) -> Result<Vec<Skipped>, StoreError> {
    Ok(sql_query(
        "SELECT s.topic, s.partition, sum(k.next_offset - k.first_offset)::bigint AS offsets,
             (array_agg(k.reason ORDER BY k.first_offset DESC))[1] AS reason
         FROM skipped_offsets AS k JOIN stream_positions AS s USING (stream_id)
         GROUP BY s.stream_id, s.topic, s.partition ORDER BY s.topic, s.partition",
    )
    .load(connection)?)
}

/// How far a partition had been counted: the next offset that was to be read.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Position {
    #[diesel(sql_type = Text)]
    pub topic: String,
    #[diesel(sql_type = Integer)]
    pub partition: i32,
    #[diesel(sql_type = BigInt)]
    pub next_offset: Offset,
}

/// Where every partition stands.
pub(super) fn all(connection: &mut PgConnection) -> Result<Vec<Position>, StoreError> {
    Ok(sql_query(
        "SELECT topic, partition, next_offset FROM stream_positions ORDER BY topic, partition, stream_id",
    )
    .load(connection)?)
}

/// Those of two databases together.
pub(super) fn both(mut own: Vec<Position>, others: Vec<Position>) -> Vec<Position> {
    own.extend(others);
    own.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    own
}

/// Positions as three arrays, selected in one statement with what rests on them, so that both are of one snapshot.
#[derive(Debug, QueryableByName)]
pub(super) struct PositionColumns {
    #[diesel(sql_type = Array<Text>)]
    topics: Vec<String>,
    #[diesel(sql_type = Array<Integer>)]
    partitions: Vec<i32>,
    #[diesel(sql_type = Array<BigInt>)]
    next_offsets: Vec<Offset>,
}

impl From<PositionColumns> for Vec<Position> {
    fn from(columns: PositionColumns) -> Vec<Position> {
        let numbers = columns.partitions.into_iter().zip(columns.next_offsets);
        let rows = columns.topics.into_iter().zip(numbers);
        rows.map(|(topic, (partition, next_offset))| Position {
            topic,
            partition,
            next_offset,
        })
        .collect()
    }
}
