//! How far the dead letters of each partition have been published.
//!
//! One offset a partition is enough to miss none: the letters of a partition are stored in the
//! order of their offsets, in the transactions that move its position on, so whatever is stored
//! later lies beyond all that can be seen now.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text};

use crate::event::Count;
use crate::offset::Offset;
use crate::store::columns::{Bigints, Integers};
use crate::store::read::dead_letters::{self, PAGE_BYTES, PAGE_LETTERS};
use crate::store::{StoreError, StreamId, locks};

/// Makes this session the one that publishes the letters of a topic of a cluster, for as long as it
/// lasts; `false` if another one is. To be asked until it is `true`, and not again.
///
/// # Errors
/// When the database does not answer.
pub fn be_the_publisher(
    connection: &mut PgConnection,
    cluster_id: &str,
    topic: &str,
) -> Result<bool, StoreError> {
    locks::try_take_publishing(connection, cluster_id, topic)
}

/// The letters of a topic of a cluster that are to be published next, partition by partition in the
/// order of their offsets: a bounded number and, but for one letter, a bounded size.
///
/// # Errors
/// When the database does not answer.
pub fn next(
    connection: &mut PgConnection,
    cluster_id: &str,
    topic: &str,
) -> Result<Vec<dead_letters::Row>, StoreError> {
    // Of each partition the letters after those published, by primary key; then of all as many as there is room for.
    Ok(sql_query(
        r#"SELECT d.stream_id, s.cluster_id, s.topic, s.partition, d."offset", d.reason, d.created_at, d.record_time,
             d.key, d.payload, d.headers::text AS headers, d.redrive_started_at, d.redriven_at, d.redriven_partition,
             d.redriven_offset
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         JOIN (SELECT stream_id, "offset", sum(bytes) OVER (ORDER BY stream_id, "offset") - bytes AS bytes_before
               FROM (SELECT o.stream_id, l."offset", l.bytes
                     FROM stream_positions AS o LEFT JOIN dead_letter_publications AS p USING (stream_id)
                     CROSS JOIN LATERAL (
                         SELECT d."offset", COALESCE(octet_length(d.key), 0) + COALESCE(octet_length(d.payload), 0)
                             + octet_length(d.headers::text) AS bytes
                         FROM dead_letters AS d
                         WHERE d.stream_id = o.stream_id AND d."offset" >= COALESCE(p.next_offset, 0)
                         ORDER BY d."offset" LIMIT $3) AS l
                     WHERE o.cluster_id = $1 AND o.topic = $2
                         AND o.dead_letters > COALESCE(p.letters, 0)) AS sizes) AS chosen
             USING (stream_id, "offset")
         WHERE chosen.bytes_before < $4 ORDER BY d.stream_id, d."offset" LIMIT $3"#,
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .bind::<BigInt, _>(PAGE_LETTERS)
    .bind::<BigInt, _>(PAGE_BYTES)
    .load(connection)?)
}

/// How far the letters of one partition have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub stream: StreamId,
    /// All letters before it are published.
    pub next_offset: Offset,
    /// How many these were when they were read.
    pub letters: Count,
}

/// Notes what was published; one [`Advance`] a partition.
///
/// # Errors
/// When the database does not answer. The letters are published again then.
pub fn advance(connection: &mut PgConnection, advances: &[Advance]) -> Result<(), StoreError> {
    let streams: Vec<i32> = advances.iter().map(|a| a.stream.0).collect();
    let offsets: Vec<Offset> = advances.iter().map(|a| a.next_offset).collect();
    // Counted here: some may have been erased since they were read.
    sql_query(
        r#"INSERT INTO dead_letter_publications AS p (stream_id, next_offset, letters)
         SELECT a.stream_id, a.next_offset, l.letters FROM unnest($1, $2) AS a (stream_id, next_offset)
         LEFT JOIN dead_letter_publications AS k ON k.stream_id = a.stream_id
         CROSS JOIN LATERAL (SELECT count(*) AS letters FROM dead_letters AS d
             WHERE d.stream_id = a.stream_id AND d."offset" >= COALESCE(k.next_offset, 0) AND d."offset" < a.next_offset) AS l
         WHERE l.letters > 0
         ON CONFLICT (stream_id) DO UPDATE SET next_offset = EXCLUDED.next_offset,
             letters = p.letters + EXCLUDED.letters, published_at = EXCLUDED.published_at
         WHERE p.next_offset < EXCLUDED.next_offset"#,
    )
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .execute(connection)?;
    Ok(())
}

/// How many letters of a topic of a cluster have not been published yet.
///
/// # Errors
/// When the database does not answer.
pub fn waiting(
    connection: &mut PgConnection,
    cluster_id: &str,
    topic: &str,
) -> Result<Count, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        waiting: Count,
    }
    let row: Row = sql_query(
        "SELECT COALESCE(sum(s.dead_letters - COALESCE(p.letters, 0)), 0)::bigint AS waiting
         FROM stream_positions AS s LEFT JOIN dead_letter_publications AS p USING (stream_id)
         WHERE s.cluster_id = $1 AND s.topic = $2",
    )
    .bind::<Text, _>(cluster_id)
    .bind::<Text, _>(topic)
    .get_result(connection)?;
    Ok(row.waiting)
}
