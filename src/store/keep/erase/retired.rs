//! Of events that were dropped (`adflux retain`), what stays: their sums by minute, and what of them were restatements. Nothing
//! changes it while it is erased from: whoever drops waits for the same lock as a rebuild.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text};

use crate::event::Count;
use crate::offset::Offset;
use crate::store::sums::without::without;
use crate::store::{StoreError, StreamId};

/// Of the events of a partition that were dropped with a period, those that are looked for.
pub(super) struct Held {
    pub stream: StreamId,
    period: i32,
    pub events: Count,
    /// Between which offsets they were.
    pub first: Offset,
    pub last: Offset,
}

/// What there is of these campaigns. Reads all that stays.
pub(super) fn held(
    connection: &mut PgConnection,
    names: &[String],
) -> Result<Vec<Held>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = Integer)]
        period: i32,
        #[diesel(sql_type = BigInt)]
        events: Count,
        #[diesel(sql_type = BigInt)]
        first: Offset,
        #[diesel(sql_type = BigInt)]
        last: Offset,
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = sql_query(
        "SELECT r.stream_id, r.period, c.events, s.start_offset AS first, GREATEST(r.next_offset - 1, s.start_offset) AS last
         FROM (SELECT stream_id, period, sum(events)::bigint AS events
               FROM retired_cells JOIN retired_parts USING (stream_id, part_id)
               WHERE campaign_id = ANY($1) GROUP BY 1, 2) AS c
         JOIN retired_streams AS r USING (stream_id, period) JOIN stream_positions AS s USING (stream_id)
         ORDER BY r.stream_id, r.period",
    )
    .bind::<Array<Text>, _>(names)
    .load(connection)?;
    let rows = rows.into_iter().map(|row| Held {
        stream: StreamId(row.stream_id),
        period: row.period,
        events: row.events,
        first: row.first,
        last: row.last,
    });
    Ok(rows.collect())
}

/// Removes it, and says of how many events less the rest is.
pub(super) fn remove(
    connection: &mut PgConnection,
    names: &HashSet<&str>,
    held: &[Held],
) -> Result<(), StoreError> {
    let streams: HashSet<StreamId> = held.iter().map(|held| held.stream).collect();
    for stream in streams {
        without(connection, "retired_parts", stream, names)?;
    }
    for Held {
        stream,
        period,
        events,
        ..
    } in held
    {
        sql_query(
            "WITH of_partition AS (
                 UPDATE retired_streams SET events = events - $3 WHERE stream_id = $1 AND period = $2)
             UPDATE event_periods SET events = events - $3 WHERE period = $2",
        )
        .bind::<Integer, _>(stream.0)
        .bind::<Integer, _>(period)
        .bind::<BigInt, _>(*events)
        .execute(connection)?;
    }
    let names: Vec<&str> = names.iter().copied().collect();
    sql_query("DELETE FROM retired_restatements WHERE campaign_id = ANY($1)")
        .bind::<Array<Text>, _>(names)
        .execute(connection)?;
    Ok(())
}
