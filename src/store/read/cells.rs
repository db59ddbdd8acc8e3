//! Cells, as a plan asks for them: the one way in which sums are read.

use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, SmallInt, Text, Timestamptz};

use crate::event::Count;
use crate::offset::Offset;
use crate::store::columns::{Integers, Shorts, Timestamps};
use crate::store::positions::Position;
use crate::store::prepared::prepared;
use crate::store::sums::chunk::{Cell, ChunkRow, Facts, chunk_columns};
use crate::store::sums::plan::{Asked, Plan, Range};
use crate::store::{StoreError, StreamId};
use crate::time::Timestamp;

/// Whose cells.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    All,
    Campaign(&'a str),
    /// From the one up to and with the other, in byte order.
    Between(&'a str, &'a str),
}

/// A partition that cells are of.
#[derive(Clone, Debug)]
pub struct Source {
    pub stream: StreamId,
    /// Up to where they are all.
    pub position: Position,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Integer)]
    range: i32,
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = Text)]
    topic: String,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    next_offset: Offset,
    #[diesel(embed)]
    chunk: ChunkRow,
}

/// Calls `each` with the cells of each campaign that the plan's ranges may want, some at a time and in no order. One
/// statement, which is a snapshot by itself.
///
/// # Errors
/// When the database does not answer, or as `each` does.
pub fn for_each(
    connection: &mut PgConnection,
    of: Of<'_>,
    plan: &Plan,
    mut each: impl FnMut(&Source, &str, &Range, &[Cell]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let Asked {
        range,
        grain,
        reach,
        first_window,
        last_window,
        since,
        until,
    } = plan.asked();
    let rows = |text, connection, (first, last): (&str, &str)| {
        prepared(text)
            .bind::<Array<Integer>, _>(Integers(&range))
            .bind::<Array<SmallInt>, _>(Shorts(&grain))
            .bind::<Array<SmallInt>, _>(Shorts(&reach))
            .bind::<Array<Timestamptz>, _>(Timestamps(&first_window))
            .bind::<Array<Timestamptz>, _>(Timestamps(&last_window))
            .bind::<Array<Timestamptz>, _>(Timestamps(&since))
            .bind::<Array<Timestamptz>, _>(Timestamps(&until))
            .bind::<Text, _>(first.to_owned())
            .bind::<Text, _>(last.to_owned())
            .load_iter::<Row, PgRowByRowLoadingMode>(connection)
    };
    let bounds = match of {
        Of::All => ("", LAST_CAMPAIGN),
        Of::Campaign(id) => (id, id),
        Of::Between(first, last) => (first, last),
    };
    let text = match of {
        Of::Campaign(_) => OF_CAMPAIGN,
        Of::All | Of::Between(..) => OF_MANY,
    };
    for row in rows(text, connection, bounds)? {
        let row = row?;
        let source = Source {
            stream: StreamId(row.stream_id),
            position: Position {
                topic: row.topic,
                partition: row.partition,
                next_offset: row.next_offset,
            },
        };
        let range = usize::try_from(row.range)
            .ok()
            .and_then(|n| plan.ranges.get(n));
        let Some(range) = range else { continue };
        let chunk = row.chunk.unpack()?;
        match of {
            Of::Campaign(id) => each(&source, id, range, chunk.of(id))?,
            Of::All | Of::Between(..) => {
                for (campaign, cells) in chunk.groups() {
                    if (bounds.0..=bounds.1).contains(&campaign) {
                        each(&source, campaign, range, cells)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Behind every campaign's id, whose characters are ASCII.
pub(super) const LAST_CAMPAIGN: &str = "\u{7f}";

/// From sum_parts_window_idx the few parts that a range may want, of the partitions that may have events of the campaign; and
/// of each, by primary key, the chunks that begin with the campaign or with the last one before it.
const OF_CAMPAIGN: &str = concat!(
    "WITH w AS MATERIALIZED (
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7) AS w (range, grain, reach, first_window, last_window, since, until)),
     asked AS (SELECT $8 COLLATE \"C\" AS campaign_id, $9 AS and_itself),
     stream AS MATERIALIZED (
         SELECT s.stream_id, s.topic, s.partition, s.next_offset
         FROM asked AS a JOIN campaigns AS k ON k.campaign_id = a.campaign_id
         JOIN stream_positions AS s ON s.events > 0 AND (s.stream_id = k.stream_id OR k.lookup_before > '-infinity'))
     SELECT w.range, s.stream_id, s.topic, s.partition, s.next_offset, ",
    chunk_columns!(),
    "
     FROM asked AS a CROSS JOIN stream AS s CROSS JOIN w
     LEFT JOIN sum_fresh_from AS m ON m.stream_id = s.stream_id AND m.grain = w.grain AND w.reach = 0
     JOIN sum_parts AS p ON p.stream_id = s.stream_id AND p.grain = w.grain AND p.reach = w.reach
         AND (p.window_start, p.part_id) >= (w.first_window, COALESCE(m.part_id, 0)) AND p.window_start <= w.last_window
         AND p.since < w.until AND p.until >= w.since
         AND p.first_campaign <= a.campaign_id AND p.last_campaign >= a.campaign_id
     CROSS JOIN LATERAL (
         SELECT f.first_campaign FROM sum_chunks AS f
         WHERE f.stream_id = p.stream_id AND f.part_id = p.part_id AND f.first_campaign <= a.campaign_id
         ORDER BY f.first_campaign DESC LIMIT 1) AS f
     JOIN sum_chunks AS c ON c.stream_id = p.stream_id AND c.part_id = p.part_id AND c.first_campaign = f.first_campaign
         AND c.last_campaign >= a.campaign_id"
);

/// The same of many campaigns: of each part a stretch of its chunks, by primary key. OFFSET 0 keeps it so: of parts that come and
/// go, statistics say little, and PostgreSQL would sometimes rather read all chunks there are, dead ones included.
const OF_MANY: &str = concat!(
    "WITH w AS MATERIALIZED (
         SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7) AS w (range, grain, reach, first_window, last_window, since, until)),
     asked AS (SELECT $8 COLLATE \"C\" AS first, $9 COLLATE \"C\" AS last)
     SELECT w.range, s.stream_id, s.topic, s.partition, s.next_offset, ",
    chunk_columns!(),
    "
     FROM asked AS a CROSS JOIN w CROSS JOIN stream_positions AS s
     LEFT JOIN sum_fresh_from AS m ON m.stream_id = s.stream_id AND m.grain = w.grain AND w.reach = 0
     JOIN sum_parts AS p ON p.stream_id = s.stream_id AND p.grain = w.grain AND p.reach = w.reach
         AND (p.window_start, p.part_id) >= (w.first_window, COALESCE(m.part_id, 0)) AND p.window_start <= w.last_window
         AND p.since < w.until AND p.until >= w.since
         AND p.first_campaign <= a.last AND p.last_campaign >= a.first
     CROSS JOIN LATERAL (
         SELECT * FROM sum_chunks AS c WHERE c.stream_id = p.stream_id AND c.part_id = p.part_id
             AND c.first_campaign <= a.last AND c.last_campaign >= a.first
         OFFSET 0) AS c"
);

/// When the first and the last of all events happened, and the last commit; none if there are no events.
///
/// # Errors
/// When the database does not answer.
pub fn facts_of_all(connection: &mut PgConnection) -> Result<Option<Facts>, StoreError> {
    use diesel::sql_types::Nullable;
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        first: Option<Timestamp>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        last: Option<Timestamp>,
        #[diesel(sql_type = Nullable<BigInt>)]
        commit_id: Option<crate::store::CommitId>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        committed_at: Option<Timestamp>,
    }
    let row: Row = prepared(
        "SELECT min(first_event_time) AS first, max(last_event_time) AS last, max(commit_id) AS commit_id,
             max(committed_at) AS committed_at FROM sum_parts_latest",
    )
    .get_result(connection)?;
    Ok((|| {
        Some(Facts {
            first: row.first?,
            last: row.last?,
            commit_id: row.commit_id?,
            committed_at: row.committed_at?,
        })
    })())
}

/// About how many cells a plan reads of all campaigns, for a progress bar.
///
/// # Errors
/// When the database does not answer.
pub fn count(connection: &mut PgConnection, plan: &Plan) -> Result<Count, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        cells: Count,
    }
    let asked = plan.asked();
    let row: Row = prepared(
        "SELECT COALESCE(sum(p.cells), 0)::bigint AS cells
         FROM unnest($1, $2, $3, $4, $5, $6) AS w (grain, reach, first_window, last_window, since, until)
         JOIN sum_parts AS p ON p.grain = w.grain AND p.reach = w.reach
             AND p.window_start BETWEEN w.first_window AND w.last_window AND p.since < w.until AND p.until >= w.since",
    )
    .bind::<Array<SmallInt>, _>(Shorts(&asked.grain))
    .bind::<Array<SmallInt>, _>(Shorts(&asked.reach))
    .bind::<Array<Timestamptz>, _>(Timestamps(&asked.first_window))
    .bind::<Array<Timestamptz>, _>(Timestamps(&asked.last_window))
    .bind::<Array<Timestamptz>, _>(Timestamps(&asked.since))
    .bind::<Array<Timestamptz>, _>(Timestamps(&asked.until))
    .get_result(connection)?;
    Ok(row.cells)
}
