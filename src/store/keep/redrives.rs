//! Dead letters that are sent back to the topic: what is written before and after.
//!
//! A letter is marked as taken up *before* it is sent, and with its new place once Kafka has it. So
//! at every instant, whatever was killed, a letter whose event may also be in the event store says
//! so; and one that was taken up without having arrived is sent again. That cannot count an event
//! twice: its identity is what it was.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};

use crate::offset::Offset;
use crate::store::columns::{Bigints, Integers};
use crate::store::locks::Lock;
use crate::store::read::dead_letters::Key;
use crate::store::{StoreError, clock};

/// How long a redrive waits for the session of a killed one to end.
const FOR_A_KILLED_ONE: Duration = Duration::from_secs(10);

/// Makes this session the one that redrives, and returns the database's time.
///
/// # Errors
/// [`StoreError::Busy`] if another redrive is running, and as the database does.
pub fn be_the_only_one(connection: &mut PgConnection) -> Result<DateTime<Utc>, StoreError> {
    if Lock::Redrive.take_within(connection, FOR_A_KILLED_ONE)? {
        clock(connection)
    } else {
        Err(StoreError::Busy("another `adflux dlq redrive` is running"))
    }
}

/// Marks letters as taken up.
///
/// # Errors
/// When the database does not answer. Nothing may be sent then.
pub fn start(connection: &mut PgConnection, letters: &[Key]) -> Result<(), StoreError> {
    let (streams, offsets): (Vec<i32>, Vec<Offset>) = letters.iter().copied().unzip();
    sql_query(
        r#"UPDATE dead_letters AS d SET redrive_started_at = clock_timestamp()
         FROM unnest($1, $2) AS l (stream_id, position)
         WHERE d.stream_id = l.stream_id AND d."offset" = l.position"#,
    )
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .execute(connection)?;
    Ok(())
}

/// A letter, and the partition and offset where it is on the topic again.
pub type Redriven = (Key, (i32, Offset));

/// Marks letters as redriven.
///
/// # Errors
/// When the database does not answer. The next redrive sends them again then.
pub fn finish(connection: &mut PgConnection, redriven: &[Redriven]) -> Result<(), StoreError> {
    let streams: Vec<i32> = redriven.iter().map(|((stream, _), _)| *stream).collect();
    let offsets: Vec<Offset> = redriven.iter().map(|((_, offset), _)| *offset).collect();
    let to_partitions: Vec<i32> = redriven.iter().map(|(_, (to, _))| *to).collect();
    let to_offsets: Vec<Offset> = redriven.iter().map(|(_, (_, to))| *to).collect();
    sql_query(
        r#"UPDATE dead_letters AS d SET redriven_at = clock_timestamp(), redriven_partition = l.to_partition,
             redriven_offset = l.to_position
         FROM unnest($1, $2, $3, $4) AS l (stream_id, position, to_partition, to_position)
         WHERE d.stream_id = l.stream_id AND d."offset" = l.position"#,
    )
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .bind::<Array<Integer>, _>(Integers(&to_partitions))
    .bind::<Array<BigInt>, _>(Bigints(&to_offsets))
    .execute(connection)?;
    Ok(())
}

/// What became of a record that was sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No processor has come so far yet.
    Waiting,
    /// It is in the event store, or its event was there already.
    Counted,
    /// It is a dead letter once more, for this reason.
    DeadAgain(String),
}

/// What became of the record at this place; `None` where the topic has no such partition here.
///
/// # Errors
/// When the database does not answer.
pub fn fate(
    connection: &mut PgConnection,
    topic: &str,
    (partition, offset): (i32, Offset),
) -> Result<Option<Fate>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        read: bool,
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
    }
    // The topic of another cluster has offsets of its own: the one that was read last is meant.
    let row: Option<Row> = sql_query(
        r#"SELECT s.next_offset > $3 AS read, d.reason FROM stream_positions AS s
         LEFT JOIN dead_letters AS d ON d.stream_id = s.stream_id AND d."offset" = $3
         WHERE s.topic = $1 AND s.partition = $2 ORDER BY s.committed_at DESC NULLS LAST LIMIT 1"#,
    )
    .bind::<Text, _>(topic)
    .bind::<Integer, _>(partition)
    .bind::<BigInt, _>(offset)
    .get_result(connection)
    .optional()?;
    Ok(row.map(|row| match row {
        Row { read: false, .. } => Fate::Waiting,
        Row { reason: None, .. } => Fate::Counted,
        Row {
            reason: Some(reason),
            ..
        } => Fate::DeadAgain(reason),
    }))
}
