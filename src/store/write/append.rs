//! The event store's only way in: a share's events become blocks.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use uuid::Uuid;

use super::batch::Filled;
use super::positions::Commit;
use crate::event::Count;
use crate::offset::Offset;
use crate::store::StoreError;
use crate::store::blocks::MAX_BLOCK_EVENTS;
use crate::store::columns::{
    Bigints, ConversionMillionths, Instants, Smallints, Texts, Timestamps, Uuids, WholeConversions,
};
use crate::store::events::Columns;
use crate::store::prepared::prepared;
use crate::time::Timestamp;

/// Appends a share's events as blocks. `late`: the rows that are older than the memory of recent ids.
///
/// # Errors
/// As the database does.
pub fn append(
    connection: &mut PgConnection,
    share: &Filled,
    events: &Columns,
    late: &[usize],
    commit: Commit,
) -> Result<(), StoreError> {
    let offsets = &events.offset;
    let late_offsets: Vec<Offset> = late.iter().map(|&row| offsets[row]).collect();
    let mut start = 0;
    while let Some(first) = offsets.get(start) {
        let most = &offsets[start..offsets.len().min(start + MAX_BLOCK_EVENTS)];
        // An offset is stored as its distance from the first, in 32 bits.
        let len = most.partition_point(|offset| offset.since(*first).get() <= i64::from(i32::MAX));
        append_block(
            connection,
            share,
            events,
            start..start + len,
            &late_offsets,
            commit,
        )?;
        start += len;
    }
    append_late(connection, share, events, late, &late_offsets)
}

fn append_block(
    connection: &mut PgConnection,
    share: &Filled,
    e: &Columns,
    rows: std::ops::Range<usize>,
    late: &[Offset],
    commit: Commit,
) -> Result<(), StoreError> {
    let offsets = &e.offset[rows.clone()];
    let times = &e.event_time[rows.clone()];
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Ok(());
    };
    let consecutive = last.next().since(first) == Count::of(offsets.len());
    let deltas: Vec<i32> = if consecutive {
        Vec::new()
    } else {
        offsets
            .iter()
            .map(|o| o.since(first).get() as i32)
            .collect()
    };
    let (mut min, mut max) = (Timestamp::MAX, Timestamp::MIN);
    let (mut span_min, mut span_max) = (Timestamp::MAX, Timestamp::MIN);
    let observed_at = e.observed_at.get(rows.clone()).unwrap_or_default();
    for (place, (&time, offset)) in times.iter().zip(offsets).enumerate() {
        (min, max) = (min.min(time), max.max(time));
        // Restatements are found in report_rows, and not by their times.
        let is_restatement = observed_at.get(place).is_some_and(Option::is_some);
        if !is_restatement && (late.is_empty() || late.binary_search(offset).is_err()) {
            (span_min, span_max) = (span_min.min(time), span_max.max(time));
        }
    }
    let span = (span_min <= span_max).then_some((span_min, span_max));
    prepared(
        "INSERT INTO event_blocks (stream_id, first_offset, last_offset, event_count, min_event_time, max_event_time,
             lookup_span, commit_id, committed_at, offset_delta, event_id, campaign_id, platform, event_time, impressions,
             clicks, conversions, cost_micros, revenue_micros, conversion_millionths, observed_at)
         VALUES ($1, $2, $3, $4, $5, $6,
             CASE WHEN $7 IS NULL THEN NULL ELSE tstzrange($8, $9, '[]') END,
             $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<BigInt, _>(first)
    .bind::<BigInt, _>(last)
    .bind::<Integer, _>(offsets.len() as i32)
    .bind::<Timestamptz, _>(min)
    .bind::<Timestamptz, _>(max)
    .bind::<Nullable<Timestamptz>, _>(span.map(|s| s.0))
    .bind::<Nullable<Timestamptz>, _>(span.map(|s| s.0))
    .bind::<Nullable<Timestamptz>, _>(span.map(|s| s.1))
    .bind::<BigInt, _>(commit.id)
    .bind::<Timestamptz, _>(commit.at)
    .bind::<Nullable<Array<Integer>>, _>((!consecutive).then_some(deltas))
    .bind::<Array<SqlUuid>, _>(Uuids(&e.event_id[rows.clone()]))
    .bind::<Array<Text>, _>(Texts { dictionary: &share.campaigns, index: &e.campaign[rows.clone()] })
    .bind::<Array<SmallInt>, _>(Smallints(&e.platform[rows.clone()]))
    .bind::<Array<Timestamptz>, _>(Timestamps(times))
    .bind::<Array<BigInt>, _>(Bigints(&e.impressions[rows.clone()]))
    .bind::<Array<BigInt>, _>(Bigints(&e.clicks[rows.clone()]))
    .bind::<Array<BigInt>, _>(WholeConversions(&e.conversions[rows.clone()]))
    .bind::<Array<BigInt>, _>(Bigints(&e.cost_micros[rows.clone()]))
    .bind::<Array<BigInt>, _>(Bigints(&e.revenue_micros[rows.clone()]))
    .bind::<Nullable<Array<Integer>>, _>(ConversionMillionths::of(&e.conversions[rows]))
    .bind::<Nullable<Array<Timestamptz>>, _>(
        observed_at.iter().any(Option::is_some).then_some(Instants(observed_at)),
    )
    .execute(connection)?;
    Ok(())
}

fn append_late(
    connection: &mut PgConnection,
    share: &Filled,
    e: &Columns,
    rows: &[usize],
    offsets: &[Offset],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = rows.iter().map(|&r| e.event_id[r]).collect();
    let times: Vec<Timestamp> = rows.iter().map(|&r| e.event_time[r]).collect();
    // The primary key is the last guard: an identity that slipped in twice aborts the batch, which
    // is then looked up once more.
    sql_query(
        r#"INSERT INTO late_events (event_id, event_time, stream_id, "offset")
         SELECT l.event_id, l.event_time, $1, l.position
         FROM unnest($2, $3, $4) AS l (event_id, event_time, position)"#,
    )
    .bind::<Integer, _>(share.stream.0)
    .bind::<Array<SqlUuid>, _>(Uuids(&ids))
    .bind::<Array<Timestamptz>, _>(Timestamps(&times))
    .bind::<Array<BigInt>, _>(Bigints(offsets))
    .execute(connection)
    .map_err(StoreError::of_late)?;
    Ok(())
}
