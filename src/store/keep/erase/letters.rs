//! Dead letters: those that name what is to be forgotten.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Timestamptz};

use super::{EraseError, Judge, Subject};
use crate::event::Count;
use crate::offset::Offset;
use crate::store::columns::{Bigints, Integers};
use crate::store::read::dead_letters::Row as Letter;
use crate::store::{StoreError, StreamId};
use crate::time::Timestamp;

/// Letters that are read at a time, each of at most a record's size.
const PAGE: i64 = 200;

/// A letter that goes.
pub(super) struct Found {
    pub stream: StreamId,
    pub offset: Offset,
}

/// The letters, from an offset of each partition on.
pub(super) fn find(
    connection: &mut PgConnection,
    subject: &Subject,
    names: &[String],
    since: &BTreeMap<StreamId, Offset>,
    judge: &mut Judge<'_>,
) -> Result<Vec<Found>, EraseError> {
    // Ids of an account's campaigns begin with the same text.
    let (mut needles, mut before) = (Vec::new(), None);
    match subject {
        Subject::Campaign(id) => needles.push(id.as_bytes().to_vec()),
        Subject::Account { prefix, .. } => {
            needles.push(prefix.as_bytes().to_vec());
            let others = names.iter().filter(|name| !name.starts_with(prefix));
            needles.extend(others.map(|name| name.as_bytes().to_vec()));
        }
        Subject::DeadLettersBefore(instant) => before = Some(*instant),
    }
    let mut found = Vec::new();
    for (stream, since) in since {
        let mut from = *since;
        loop {
            let page = page(connection, *stream, from, &needles, before)?;
            let Some(last) = page.last() else { break };
            from = last.offset.next();
            for letter in &page {
                if before.is_some() || judge(letter).map_err(EraseError::Letter)? {
                    found.push(Found {
                        stream: *stream,
                        offset: letter.offset,
                    });
                }
            }
        }
    }
    Ok(found)
}

fn page(
    connection: &mut PgConnection,
    stream: StreamId,
    from: Offset,
    needles: &[Vec<u8>],
    before: Option<Timestamp>,
) -> Result<Vec<Letter>, StoreError> {
    // Values of headers are stored in hexadecimal.
    Ok(sql_query(
        r#"SELECT d.stream_id, s.cluster_id, s.topic, s.partition, d."offset", d.reason, d.created_at, d.record_time,
             d.key, CASE WHEN $5 IS NULL THEN d.payload END AS payload, d.headers::text AS headers, d.redrive_started_at,
             d.redriven_at, d.redriven_partition, d.redriven_offset
         FROM dead_letters AS d JOIN stream_positions AS s USING (stream_id)
         WHERE d.stream_id = $1 AND d."offset" >= $2 AND ($5 IS NULL OR d.created_at < $5)
             AND ($5 IS NOT NULL OR EXISTS (SELECT FROM unnest($3) AS n (needle)
                 WHERE position(n.needle IN COALESCE(d.key, '')) > 0 OR position(n.needle IN COALESCE(d.payload, '')) > 0
                     OR strpos(d.headers::text, encode(n.needle, 'hex')) > 0
                     OR position(n.needle IN convert_to(d.headers::text, 'UTF8')) > 0))
         ORDER BY d."offset" LIMIT $4"#,
    )
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(from)
    .bind::<Array<Binary>, _>(needles)
    .bind::<BigInt, _>(PAGE)
    .bind::<Nullable<Timestamptz>, _>(before)
    .load(connection)?)
}

/// Removes letters, and from what was published of them. Returns how many there were of each partition.
pub(super) fn remove(
    connection: &mut PgConnection,
    letters: &[Found],
) -> Result<BTreeMap<StreamId, Count>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = Bool)]
        is_published: bool,
        #[diesel(sql_type = BigInt)]
        letters: Count,
    }
    if letters.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Whoever publishes counts letters when it is free again.
    connection.batch_execute("LOCK TABLE dead_letter_publications IN EXCLUSIVE MODE")?;
    let streams: Vec<i32> = letters.iter().map(|letter| letter.stream.0).collect();
    let offsets: Vec<Offset> = letters.iter().map(|letter| letter.offset).collect();
    let rows: Vec<Row> = sql_query(
        r#"WITH gone AS (
             DELETE FROM dead_letters AS d USING unnest($1, $2) AS l (stream_id, position)
             WHERE d.stream_id = l.stream_id AND d."offset" = l.position RETURNING d.stream_id, d."offset")
         SELECT g.stream_id, g."offset" < COALESCE(p.next_offset, 0) AS is_published, count(*) AS letters
         FROM gone AS g LEFT JOIN dead_letter_publications AS p USING (stream_id) GROUP BY 1, 2"#,
    )
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .load(connection)?;
    let mut removed: BTreeMap<StreamId, Count> = BTreeMap::new();
    for row in rows {
        *removed.entry(StreamId(row.stream_id)).or_default() += row.letters;
        if !row.is_published {
            continue;
        }
        // Of a partition without a row all letters are published that are there: none before that offset.
        sql_query("DELETE FROM dead_letter_publications WHERE stream_id = $1 AND letters <= $2")
            .bind::<Integer, _>(row.stream_id)
            .bind::<BigInt, _>(row.letters)
            .execute(connection)?;
        sql_query(
            "UPDATE dead_letter_publications SET letters = letters - $2 WHERE stream_id = $1",
        )
        .bind::<Integer, _>(row.stream_id)
        .bind::<BigInt, _>(row.letters)
        .execute(connection)?;
    }
    Ok(removed)
}
