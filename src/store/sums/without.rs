//! Campaigns taken out of the sums: of each part that holds some, the chunks that do are written anew, and its entry in the
//! directory.
//!
//! A part is changed in its place, which nothing else does, so that one campaign among a million costs a few chunks.
//! Whoever does it holds the locks on rewriting the parts of the partition.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer, Text};

use super::chunk::{ChunkRow, chunk_columns};
use super::part::{self, Chunks, Part, PartId, PartRow, part_columns};
use crate::event::Count;
use crate::store::columns::Integers;
use crate::store::{StoreError, StreamId};

/// Takes campaigns out of the parts of a partition that `directory` lists. Returns how many sums are gone.
///
/// # Errors
/// As the database does.
pub fn without(
    connection: &mut PgConnection,
    directory: &str,
    stream: StreamId,
    campaigns: &HashSet<&str>,
) -> Result<Count, StoreError> {
    let mut names: Vec<&str> = campaigns.iter().copied().collect();
    names.sort_unstable();
    let (Some(first), Some(last)) = (names.first(), names.last()) else {
        return Ok(Count::ZERO);
    };
    let parts: Vec<PartRow> = sql_query(format!(
        "SELECT {} FROM {directory} WHERE stream_id = $1 AND first_campaign <= $2 AND last_campaign >= $3 ORDER BY part_id",
        part_columns!()
    ))
    .bind::<Integer, _>(stream.0)
    .bind::<Text, _>(*last)
    .bind::<Text, _>(*first)
    .load(connection)?;
    let mut removed = Count::ZERO;
    for part in parts.into_iter().filter_map(PartRow::part) {
        let cells = cut(connection, part.id, stream, &names, campaigns)?;
        if cells > Count::ZERO {
            removed += cells;
            enter_anew(connection, directory, part, cells)?;
        }
    }
    Ok(removed)
}

/// Writes the chunks of a part that hold one of these campaigns anew without them. Returns how many cells are gone.
fn cut(
    connection: &mut PgConnection,
    part: PartId,
    stream: StreamId,
    names: &[&str],
    campaigns: &HashSet<&str>,
) -> Result<Count, StoreError> {
    // As one campaign is looked for: by primary key the chunks that begin with it, or with the last one before it.
    let rows: Vec<ChunkRow> = sql_query(concat!(
        "WITH held AS (
             SELECT DISTINCT f.first_campaign FROM unnest($3) AS n (name)
             CROSS JOIN LATERAL (
                 SELECT first_campaign FROM sum_chunks
                 WHERE stream_id = $1 AND part_id = $2 AND first_campaign <= n.name
                 ORDER BY first_campaign DESC LIMIT 1) AS f)
         SELECT ",
        chunk_columns!(),
        " FROM held JOIN sum_chunks AS c ON c.stream_id = $1 AND c.part_id = $2 AND c.first_campaign = held.first_campaign
         ORDER BY c.chunk"
    ))
    .bind::<Integer, _>(stream.0)
    .bind::<BigInt, _>(part)
    .bind::<Array<Text>, _>(names)
    .load(connection)?;
    let (mut gone, mut numbers) = (Count::ZERO, Vec::new());
    let mut out = Chunks::default();
    for row in rows {
        let (number, keeps_facts) = (row.chunk, row.keeps_facts());
        let chunk = row.unpack()?;
        let held = chunk.groups().filter(|(name, _)| campaigns.contains(name));
        let cells: Count = held.map(|(_, cells)| Count::of(cells.len())).sum();
        if cells == Count::ZERO {
            continue;
        }
        gone += cells;
        numbers.push(number);
        let others = chunk.groups().filter(|(name, _)| !campaigns.contains(name));
        out.write((stream, part), number, keeps_facts, others);
    }
    // A chunk's number is its own within its part.
    sql_query("DELETE FROM sum_chunks WHERE stream_id = $1 AND part_id = $2 AND chunk = ANY($3)")
        .bind::<Integer, _>(stream.0)
        .bind::<BigInt, _>(part)
        .bind::<Array<Integer>, _>(Integers(&numbers))
        .execute(connection)?;
    out.flush(connection)?;
    Ok(gone)
}

/// Says in the directory what a part is without so many cells.
fn enter_anew(
    connection: &mut PgConnection,
    directory: &str,
    mut part: Part,
    gone: Count,
) -> Result<(), StoreError> {
    part.cells = part.cells.saturating_sub(gone);
    if part.cells <= Count::ZERO {
        sql_query(format!(
            "DELETE FROM {directory} WHERE stream_id = $1 AND part_id = $2"
        ))
        .bind::<Integer, _>(part.stream.0)
        .bind::<BigInt, _>(part.id)
        .execute(connection)?;
        return Ok(());
    }
    if part.keeps_facts() {
        part = read_again(connection, &part)?;
    } else {
        // From when to when it is, its window says well enough.
        #[derive(QueryableByName)]
        struct Ends {
            #[diesel(sql_type = Text)]
            first_campaign: String,
            #[diesel(sql_type = Text)]
            last_campaign: String,
        }
        let ends: Ends = sql_query(
            "SELECT min(first_campaign) AS first_campaign, max(last_campaign) AS last_campaign
             FROM sum_chunks WHERE stream_id = $1 AND part_id = $2",
        )
        .bind::<Integer, _>(part.stream.0)
        .bind::<BigInt, _>(part.id)
        .get_result(connection)?;
        part.first_campaign = ends.first_campaign;
        part.last_campaign = ends.last_campaign;
    }
    part::enter_anew(connection, directory, &part)
}

/// What a part is, of all its chunks: when the first and the last of its events happened may have been said of those that are gone.
fn read_again(connection: &mut PgConnection, part: &Part) -> Result<Part, StoreError> {
    let mut anew = Part::empty(part.stream, part.id, part.grain, part.reach, part.window);
    let mut after = (String::new(), -1);
    loop {
        let rows: Vec<ChunkRow> = sql_query(concat!(
            "SELECT ",
            chunk_columns!(),
            " FROM sum_chunks AS c WHERE c.stream_id = $1 AND c.part_id = $2 AND (c.first_campaign, c.chunk) > ($3, $4)
             ORDER BY c.first_campaign, c.chunk LIMIT 512"
        ))
        .bind::<Integer, _>(part.stream.0)
        .bind::<BigInt, _>(part.id)
        .bind::<Text, _>(&after.0)
        .bind::<Integer, _>(after.1)
        .load(connection)?;
        let Some(last) = rows.last() else {
            return Ok(anew);
        };
        after = (last.first_campaign.clone(), last.chunk);
        for row in rows {
            for (campaign, cells) in row.unpack()?.groups() {
                anew.take_in(campaign, cells);
            }
        }
    }
}
