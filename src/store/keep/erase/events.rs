//! Events: where they are, and their blocks without them.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text};

use super::Records;
use crate::event::Count;
use crate::offset::Offset;
use crate::store::columns::{Bigints, Integers};
use crate::store::{StoreError, StreamId};

/// Blocks that are rewritten by one statement: each may be three megabytes.
const AT_ONCE: usize = 16;

/// Of a block, the events that are looked for.
pub(super) struct Held {
    pub stream: StreamId,
    /// Where the block begins.
    pub block: Offset,
    pub events: Count,
    /// The offsets of the first of them and the last.
    pub first: Offset,
    pub last: Offset,
}

/// The next offset of each partition.
pub(super) fn positions(
    connection: &mut PgConnection,
) -> Result<BTreeMap<StreamId, Offset>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = BigInt)]
        next_offset: Offset,
    }
    let rows: Vec<Row> =
        sql_query("SELECT stream_id, next_offset FROM stream_positions").load(connection)?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (StreamId(row.stream_id), row.next_offset))
        .collect())
}

/// The partitions that own these campaigns.
pub(super) fn owners(
    connection: &mut PgConnection,
    names: &[String],
) -> Result<BTreeSet<StreamId>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
    }
    let rows: Vec<Row> =
        sql_query("SELECT DISTINCT stream_id FROM campaigns WHERE campaign_id = ANY($1)")
            .bind::<Array<Text>, _>(names)
            .load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| StreamId(row.stream_id))
        .collect())
}

/// How many of these campaigns there are.
pub(super) fn known(connection: &mut PgConnection, names: &[String]) -> Result<Count, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        known: Count,
    }
    let row: Row = sql_query("SELECT count(*) AS known FROM campaigns WHERE campaign_id = ANY($1)")
        .bind::<Array<Text>, _>(names)
        .get_result(connection)?;
    Ok(row.known)
}

/// The blocks that hold events of these campaigns, of those that begin at an offset of their partition or behind it.
pub(super) fn held(
    connection: &mut PgConnection,
    names: &[String],
    since: &BTreeMap<StreamId, Offset>,
) -> Result<Vec<Held>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = BigInt)]
        block: Offset,
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
    let streams: Vec<i32> = since.keys().map(|stream| stream.0).collect();
    let offsets: Vec<Offset> = since.values().copied().collect();
    // The names alone are read of most blocks, once each.
    let rows: Vec<Row> = sql_query(
        "SELECT b.stream_id, b.first_offset AS block, e.events, b.first_offset + e.first AS first, b.first_offset + e.last AS last
         FROM unnest($1, $2) AS s (stream_id, since)
         JOIN event_blocks AS b ON b.stream_id = s.stream_id AND b.first_offset >= s.since
         CROSS JOIN LATERAL (
             SELECT count(*) AS events, min(COALESCE(b.offset_delta[e.position], e.position - 1)) AS first,
                 max(COALESCE(b.offset_delta[e.position], e.position - 1)) AS last
             FROM unnest(b.campaign_id) WITH ORDINALITY AS e (campaign_id, position)
             WHERE e.campaign_id = ANY($3)) AS e
         WHERE e.events > 0 ORDER BY b.stream_id, b.first_offset",
    )
    .bind::<Array<Integer>, _>(Integers(&streams))
    .bind::<Array<BigInt>, _>(Bigints(&offsets))
    .bind::<Array<Text>, _>(names)
    .load(connection)?;
    let rows = rows.into_iter().map(|row| Held {
        stream: StreamId(row.stream_id),
        block: row.block,
        events: row.events,
        first: row.first,
        last: row.last,
    });
    Ok(rows.collect())
}

/// Removes the events of these campaigns from blocks of a partition. Returns how many there were.
pub(super) fn remove(
    connection: &mut PgConnection,
    stream: StreamId,
    blocks: &[Offset],
    names: &[String],
) -> Result<Count, StoreError> {
    let mut removed = Count::ZERO;
    for some in blocks.chunks(AT_ONCE) {
        sql_query(
            r#"DELETE FROM late_events AS l USING event_blocks AS b
             CROSS JOIN LATERAL unnest(b.event_id, b.campaign_id, b.event_time, b.offset_delta) WITH ORDINALITY
                 AS e (event_id, campaign_id, event_time, offset_delta, position)
             WHERE b.stream_id = $1 AND b.first_offset = ANY($2) AND e.campaign_id = ANY($3)
                 AND l.event_id = e.event_id AND l.event_time = e.event_time AND l.stream_id = b.stream_id
                 AND l."offset" = b.first_offset + COALESCE(e.offset_delta, e.position - 1)"#,
        )
        .bind::<Integer, _>(stream.0)
        .bind::<Array<BigInt>, _>(Bigints(some))
        .bind::<Array<Text>, _>(names)
        .execute(connection)?;
        removed += whole_blocks(connection, stream, some, names)?;
        removed += parts_of_blocks(connection, stream, some, names)?;
    }
    Ok(removed)
}

#[derive(QueryableByName)]
struct Removed {
    #[diesel(sql_type = BigInt)]
    events: Count,
}

fn whole_blocks(
    connection: &mut PgConnection,
    stream: StreamId,
    blocks: &[Offset],
    names: &[String],
) -> Result<Count, StoreError> {
    let rows: Vec<Removed> = sql_query(
        "DELETE FROM event_blocks AS b WHERE b.stream_id = $1 AND b.first_offset = ANY($2)
             AND NOT EXISTS (SELECT FROM unnest(b.campaign_id) AS e (campaign_id) WHERE e.campaign_id <> ALL($3))
         RETURNING b.event_count::bigint AS events",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<Array<BigInt>, _>(Bigints(blocks))
    .bind::<Array<Text>, _>(names)
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.events).sum())
}

/// A block without some of its events has the offsets that it had, and what others need to know of it: where it is, and its commits.
fn parts_of_blocks(
    connection: &mut PgConnection,
    stream: StreamId,
    blocks: &[Offset],
    names: &[String],
) -> Result<Count, StoreError> {
    let rows: Vec<Removed> = sql_query(
        "WITH rest AS (
             SELECT b.stream_id, b.first_offset, b.event_count AS before, e.*
             FROM event_blocks AS b CROSS JOIN LATERAL (
                 SELECT count(*)::integer AS event_count, min(e.event_time) AS min_event_time, max(e.event_time) AS max_event_time,
                     min(e.event_time) FILTER (WHERE e.observed_at IS NULL AND b.lookup_span @> e.event_time) AS span_from,
                     max(e.event_time) FILTER (WHERE e.observed_at IS NULL AND b.lookup_span @> e.event_time) AS span_to,
                     array_agg(COALESCE(e.offset_delta, e.position - 1)::integer ORDER BY e.position) AS offset_delta,
                     array_agg(e.event_id ORDER BY e.position) AS event_id,
                     array_agg(e.campaign_id ORDER BY e.position) AS campaign_id,
                     array_agg(e.platform ORDER BY e.position) AS platform,
                     array_agg(e.event_time ORDER BY e.position) AS event_time,
                     array_agg(e.impressions ORDER BY e.position) AS impressions,
                     array_agg(e.clicks ORDER BY e.position) AS clicks,
                     array_agg(e.conversions ORDER BY e.position) AS conversions,
                     array_agg(e.conversion_millionths ORDER BY e.position) AS conversion_millionths,
                     array_agg(e.cost_micros ORDER BY e.position) AS cost_micros,
                     array_agg(e.revenue_micros ORDER BY e.position) AS revenue_micros,
                     array_agg(e.observed_at ORDER BY e.position) AS observed_at,
                     bool_or(e.conversion_millionths > 0) AS has_fractions,
                     bool_or(e.observed_at IS NOT NULL) AS has_restatements
                 FROM unnest(b.event_id, b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks, b.conversions,
                         b.conversion_millionths, b.cost_micros, b.revenue_micros, b.offset_delta, b.observed_at)
                     WITH ORDINALITY AS e (event_id, campaign_id, platform, event_time, impressions, clicks, conversions,
                         conversion_millionths, cost_micros, revenue_micros, offset_delta, observed_at, position)
                 WHERE e.campaign_id <> ALL($3)) AS e
             WHERE b.stream_id = $1 AND b.first_offset = ANY($2))
         UPDATE event_blocks AS b
         SET event_count = r.event_count, min_event_time = r.min_event_time, max_event_time = r.max_event_time,
             lookup_span = CASE WHEN r.span_from IS NOT NULL THEN tstzrange(r.span_from, r.span_to, '[]') END,
             offset_delta = r.offset_delta, event_id = r.event_id, campaign_id = r.campaign_id, platform = r.platform,
             event_time = r.event_time, impressions = r.impressions, clicks = r.clicks, conversions = r.conversions,
             conversion_millionths = CASE WHEN r.has_fractions THEN r.conversion_millionths END,
             cost_micros = r.cost_micros, revenue_micros = r.revenue_micros,
             observed_at = CASE WHEN r.has_restatements THEN r.observed_at END
         FROM rest AS r WHERE b.stream_id = r.stream_id AND b.first_offset = r.first_offset
         RETURNING (r.before - b.event_count)::bigint AS events",
    )
    .bind::<Integer, _>(stream.0)
    .bind::<Array<BigInt>, _>(Bigints(blocks))
    .bind::<Array<Text>, _>(names)
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.events).sum())
}

/// Takes the campaigns from whoever owns them.
pub(super) fn disown(connection: &mut PgConnection, names: &[String]) -> Result<(), StoreError> {
    sql_query("DELETE FROM campaigns WHERE campaign_id = ANY($1)")
        .bind::<Array<Text>, _>(names)
        .execute(connection)?;
    Ok(())
}

/// Removes the campaigns from the tables that parts have replaced, where these are not dropped yet.
pub(super) fn forget_replaced(
    connection: &mut PgConnection,
    names: &[String],
) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        is_there: bool,
    }
    for table in [
        "replaced_metrics_by_minute",
        "replaced_metrics_by_hour",
        "replaced_metrics_by_day",
        "replaced_metrics_total",
    ] {
        let row: Row = sql_query("SELECT to_regclass($1) IS NOT NULL AS is_there")
            .bind::<Text, _>(table)
            .get_result(connection)?;
        if row.is_there {
            sql_query(format!("DELETE FROM {table} WHERE campaign_id = ANY($1)"))
                .bind::<Array<Text>, _>(names)
                .execute(connection)?;
        }
    }
    Ok(())
}

/// A partition, and no records of it yet.
pub(super) fn partition(
    connection: &mut PgConnection,
    stream: StreamId,
) -> Result<Records, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        cluster_id: String,
        #[diesel(sql_type = Text)]
        topic: String,
        #[diesel(sql_type = Integer)]
        partition: i32,
    }
    let row: Row =
        sql_query("SELECT cluster_id, topic, partition FROM stream_positions WHERE stream_id = $1")
            .bind::<Integer, _>(stream.0)
            .get_result(connection)?;
    Ok(Records {
        cluster_id: row.cluster_id,
        topic: row.topic,
        partition: row.partition,
        events: Count::ZERO,
        dead_letters: Count::ZERO,
        first_offset: Offset::MAX,
        last_offset: Offset::default(),
    })
}
