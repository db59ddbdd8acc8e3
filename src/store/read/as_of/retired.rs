//! What events that were dropped add to an answer about an instant after they were stored.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Text, Timestamptz};

use super::Row;
use crate::store::StoreError;
use crate::store::columns::Timestamps;
use crate::store::read::insights::Freshness;
use crate::store::sums::chunk::{Cell, ChunkRow, chunk_columns};
use crate::time::Timestamp;
use crate::totals::Totals;

/// Of each platform and piece, the sums of the increments of a campaign that were dropped. Their sums are those of all events; what
/// was restated among them is taken away again, since reports have an instant of their own.
pub(super) fn rows(
    connection: &mut PgConnection,
    campaign_id: &str,
    cuts: &[Timestamp],
) -> Result<Vec<Row>, StoreError> {
    let columns = chunk_columns!();
    let chunks: Vec<ChunkRow> = sql_query(format!(
        "SELECT {columns} FROM retired_parts AS p JOIN sum_chunks AS c USING (stream_id, part_id)
         WHERE p.first_campaign <= $1 AND p.last_campaign >= $1 AND c.first_campaign <= $1 AND c.last_campaign >= $1"
    ))
    .bind::<Text, _>(campaign_id)
    .load(connection)?;
    let mut pieces: BTreeMap<(u8, usize), (Totals, Freshness)> = BTreeMap::new();
    for chunk in chunks {
        for cell in chunk.unpack()?.of(campaign_id) {
            let piece = cuts.partition_point(|cut| *cut <= cell.start);
            let (totals, freshness) = (asked_of(cell, piece, cuts), Freshness::from(cell.facts));
            match pieces.entry((cell.platform, piece)) {
                Entry::Vacant(entry) => drop(entry.insert((totals, freshness))),
                Entry::Occupied(mut entry) => {
                    let (sum, newest) = entry.get_mut();
                    *sum = sum.checked_add(totals)?;
                    *newest = newest.and(freshness);
                }
            }
        }
    }
    let mut rows: Vec<Row> = sql_query(
        "SELECT r.platform, a.piece, -COALESCE(sum(r.events) FILTER (WHERE a.asked), 0)::bigint AS events,
             -COALESCE(sum(r.impressions) FILTER (WHERE a.asked), 0)::bigint AS impressions,
             -COALESCE(sum(r.clicks) FILTER (WHERE a.asked), 0)::bigint AS clicks,
             -COALESCE(sum(r.conversion_micros) FILTER (WHERE a.asked), 0)::bigint AS conversions,
             -COALESCE(sum(r.cost_micros) FILTER (WHERE a.asked), 0)::bigint AS cost_micros,
             -COALESCE(sum(r.revenue_micros) FILTER (WHERE a.asked), 0)::bigint AS revenue_micros,
             min(r.event_time) AS min_event_time, max(r.event_time) AS max_event_time, 0::bigint AS commit_id,
             timestamptz 'epoch' AS committed_at
         FROM retired_restatements AS r JOIN event_periods AS p USING (period)
         CROSS JOIN LATERAL (SELECT width_bucket(r.event_time, $2) AS piece,
             cardinality($2) = 0 OR (r.event_time >= $2[1] AND r.event_time < $2[cardinality($2)]) AS asked) AS a
         WHERE r.campaign_id = $1 AND p.dropped_at IS NOT NULL
         GROUP BY r.platform, a.piece",
    )
    .bind::<Text, _>(campaign_id)
    .bind::<Array<Timestamptz>, _>(Timestamps(cuts))
    .load(connection)?;
    rows.extend(
        pieces
            .into_iter()
            .map(|((platform, piece), (totals, freshness))| {
                let counts = totals.counts;
                Row {
                    platform: platform.into(),
                    piece: i32::try_from(piece).unwrap_or(i32::MAX),
                    events: totals.events,
                    impressions: counts.impressions,
                    clicks: counts.clicks,
                    conversions: counts.conversions,
                    cost_micros: counts.cost_micros,
                    revenue_micros: counts.revenue_micros,
                    min_event_time: freshness.first_event_time,
                    max_event_time: freshness.last_event_time,
                    commit_id: freshness.commit_id,
                    committed_at: freshness.counted_at,
                }
            }),
    );
    Ok(rows)
}

/// A cell's sums, if they are asked for: what is not is part of how fresh an answer is.
fn asked_of(cell: &Cell, piece: usize, cuts: &[Timestamp]) -> Totals {
    if cuts.is_empty() || (1..cuts.len()).contains(&piece) {
        cell.totals
    } else {
        Totals::default()
    }
}
