//! Older small blocks are merged into larger ones, without changing what they say.
//!
//! At a low rate a block holds a few events, and its row costs more than they do. Once an hour of
//! commits is over, the consecutive small blocks of each partition are put together. A merged block
//! holds the same events in the same order, can be looked up by the same times, and lists the
//! commits it was made of (`merged_*`), so nothing is lost.
//!
//! An hour at a time, so that no block is rewritten each time a few events are added to its
//! neighbourhood; and within a period, so that each can be dropped alone.
//!
//! Why nobody is hurt:
//!
//! - **Readers of the view, verify and rebuild** read in one statement or one snapshot, or hold the lock
//!   that keeps merges out.
//! - **Look-ups and refills** read the keys of blocks first and the blocks afterwards. A key names the
//!   place of an event rather than a row: [`crate::store::blocks::for_each`] reads whatever block covers it by
//!   then. At any instant exactly one does, since the old rows go and the new one comes in one
//!   transaction. Late events are found by their offset in the same way.
//! - **Processors** only ever add blocks after the last one.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Timestamptz};

use crate::event::Count;
use crate::offset::Offset;
use crate::store::blocks::MAX_BLOCK_EVENTS;
use crate::store::locks::Lock;
use crate::store::{StoreError, StreamId};
use crate::time::{Length, Timestamp};

// A block is small below a quarter of the largest. The statement in [`pairs`] says the number, as the index
// `event_blocks_small_idx` does, which is of no use to it otherwise.
const _: () = assert!(MAX_BLOCK_EVENTS / 4 == 8_192);

/// Blocks, and events, of one step.
const STEP_BLOCKS: i64 = 2_000;
const STEP_EVENTS: Count = Count::new(200_000);

/// A merged block covers at most this much time, or look-ups of unrelated events would read it.
const MAX_SPAN: Length = Length::DAY;

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Blocks that are gone.
    pub blocks: u64,
    /// Blocks they were merged into.
    pub into: u64,
    /// Whether there is more to do. Not known, and `false`, when somebody else was at it.
    pub more: bool,
}

/// Merges some small blocks that were committed in whole hours (UTC) that ended at least
/// `older_than` ago. Does nothing while somebody else merges or rebuilds.
///
/// Costs one pass over the index of small blocks, so once a minute is often enough; while
/// [`Merged::more`], at once again.
///
/// # Errors
/// When the database does not answer. Nothing is changed then.
pub fn merge_some(
    connection: &mut PgConnection,
    older_than: Duration,
) -> Result<Merged, StoreError> {
    connection.transaction(|connection| {
        if !Lock::Merge.try_take_in_transaction(connection)? {
            return Ok(Merged::default());
        }
        let pairs = pairs(connection, older_than)?;
        let (runs, rest) = runs(&pairs);
        let mut merged = Merged {
            more: rest || pairs.len() as i64 == STEP_BLOCKS,
            ..Merged::default()
        };
        for run in runs {
            merge(connection, &run)?;
            merged.blocks += run.blocks.as_u64();
            merged.into += 1;
        }
        Ok(merged)
    })
}

/// A small block as far as merging is concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Small {
    stream: StreamId,
    first_offset: Offset,
    last_offset: Offset,
    events: Count,
    /// The times of its events that are looked up by time, if any are.
    span: Option<(Timestamp, Timestamp)>,
}

/// Two neighbours that may be merged.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair(Small, Small);

/// Neighbours that become one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    whole: Small,
    /// Where its last block begins.
    last_begins: Offset,
    blocks: Count,
}

/// What merging these two would make; none if it would be too large in some way. The statement in
/// [`pairs`] asks for the same: what it lets through and this does not would come up for ever.
fn joined(a: &Small, b: &Small) -> Option<Small> {
    let span = match (a.span, b.span) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (span, None) | (None, span) => span,
    };
    let whole = Small {
        last_offset: b.last_offset,
        events: a.events.saturating_add(b.events),
        span,
        ..*a
    };
    let fits = whole.events <= Count::of(MAX_BLOCK_EVENTS)
        && whole.last_offset.since(whole.first_offset).get() <= i64::from(i32::MAX)
        && span.is_none_or(|(from, to)| to - from <= MAX_SPAN);
    fits.then_some(whole)
}

/// The runs that the pairs (in order) form, as many as a step takes; and whether some were left.
fn runs(pairs: &[Pair]) -> (Vec<Run>, bool) {
    let mut runs: Vec<Run> = Vec::new();
    let mut events = Count::ZERO;
    let alone = |block: Small| Run {
        whole: block,
        last_begins: block.first_offset,
        blocks: Count::new(1),
    };
    let mut current: Option<Run> = None;
    for &Pair(a, b) in pairs {
        let run = match current.take() {
            Some(run) if run.whole.stream == a.stream && run.last_begins == a.first_offset => run,
            finished => {
                runs.extend(finished);
                alone(a)
            }
        };
        current = Some(match joined(&run.whole, &b) {
            Some(whole) => Run {
                whole,
                last_begins: b.first_offset,
                blocks: run.blocks.saturating_add(Count::new(1)),
            },
            None => {
                runs.push(run);
                alone(b)
            }
        });
    }
    runs.extend(current);
    runs.retain(|run| run.blocks > Count::new(1));
    let fitting = runs
        .iter()
        .take_while(|run| {
            let fits = events < STEP_EVENTS;
            events += run.whole.events;
            fits
        })
        .count();
    let rest = fitting < runs.len();
    runs.truncate(fitting);
    (runs, rest)
}

/// Neighbours in the event store that are both small, of one finished hour and one period, and fit together.
fn pairs(connection: &mut PgConnection, older_than: Duration) -> Result<Vec<Pair>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = BigInt)]
        a_first: Offset,
        #[diesel(sql_type = BigInt)]
        a_last: Offset,
        #[diesel(sql_type = BigInt)]
        a_events: Count,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        a_from: Option<Timestamp>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        a_to: Option<Timestamp>,
        #[diesel(sql_type = BigInt)]
        b_first: Offset,
        #[diesel(sql_type = BigInt)]
        b_last: Offset,
        #[diesel(sql_type = BigInt)]
        b_events: Count,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        b_from: Option<Timestamp>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        b_to: Option<Timestamp>,
    }
    // event_blocks_small_idx alone, and for each pair a look at whether a larger block stands between.
    let rows: Vec<Row> = sql_query(
        "SELECT stream_id, a_first, a_last, a_events, lower(a_span) AS a_from, upper(a_span) AS a_to,
             b_first, b_last, b_events, lower(b_span) AS b_from, upper(b_span) AS b_to
         FROM (SELECT stream_id, first_offset AS b_first, last_offset AS b_last, event_count::bigint AS b_events,
                   lookup_span AS b_span, date_trunc('hour', committed_at, 'UTC') AS b_hour,
                   lag(first_offset) OVER before AS a_first, lag(last_offset) OVER before AS a_last,
                   lag(event_count::bigint) OVER before AS a_events, lag(lookup_span) OVER before AS a_span,
                   lag(date_trunc('hour', committed_at, 'UTC')) OVER before AS a_hour
               FROM event_blocks
               WHERE event_count < 8192
                   AND committed_at < date_trunc('hour', clock_timestamp() - make_interval(secs => $1), 'UTC')
               WINDOW before AS (PARTITION BY stream_id, period ORDER BY first_offset)) AS p
         WHERE a_hour = b_hour AND a_events + b_events <= $2 AND b_last - a_first <= $3
             AND (a_span IS NULL OR b_span IS NULL
                  OR GREATEST(upper(a_span), upper(b_span)) - LEAST(lower(a_span), lower(b_span))
                     <= make_interval(secs => $4))
             AND NOT EXISTS (SELECT FROM event_blocks AS m WHERE m.stream_id = p.stream_id
                 AND m.first_offset > p.a_first AND m.first_offset < p.b_first)
         ORDER BY stream_id, b_first LIMIT $5",
    )
    .bind::<Double, _>(older_than.as_secs_f64())
    .bind::<BigInt, _>(MAX_BLOCK_EVENTS as i64)
    .bind::<BigInt, _>(i64::from(i32::MAX))
    .bind::<Double, _>((MAX_SPAN / Length::SECOND) as f64)
    .bind::<BigInt, _>(STEP_BLOCKS)
    .load(connection)?;
    let pairs = rows.into_iter().map(|row| {
        Pair(
            Small {
                stream: StreamId(row.stream_id),
                first_offset: row.a_first,
                last_offset: row.a_last,
                events: row.a_events,
                span: row.a_from.zip(row.a_to),
            },
            Small {
                stream: StreamId(row.stream_id),
                first_offset: row.b_first,
                last_offset: row.b_last,
                events: row.b_events,
                span: row.b_from.zip(row.b_to),
            },
        )
    });
    Ok(pairs.collect())
}

fn merge(connection: &mut PgConnection, run: &Run) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        blocks: Count,
        #[diesel(sql_type = BigInt)]
        events: Count,
    }
    let row: Row = sql_query(
        "WITH gone AS (
             DELETE FROM event_blocks WHERE stream_id = $1 AND first_offset BETWEEN $2 AND $3
             RETURNING period, first_offset, last_offset, event_count, min_event_time, max_event_time, lookup_span, commit_id,
                 committed_at, offset_delta, event_id, campaign_id, platform, event_time, impressions, clicks,
                 conversions, conversion_millionths, cost_micros, revenue_micros, observed_at, merged_last_offset,
                 merged_commit_id, merged_committed_at),
         whole AS (
             SELECT max(period) AS period, count(*) AS blocks, sum(event_count) AS events, min(first_offset) AS first_offset,
                 max(last_offset) AS last_offset, min(min_event_time) AS min_event_time,
                 max(max_event_time) AS max_event_time,
                 CASE WHEN count(lookup_span) > 0
                     THEN tstzrange(min(lower(lookup_span)), max(upper(lookup_span)), '[]') END AS lookup_span,
                 max(commit_id) AS commit_id, max(committed_at) AS committed_at,
                 bool_or(conversion_millionths IS NOT NULL) AS has_fractions,
                 bool_or(observed_at IS NOT NULL) AS has_restatements
             FROM gone),
         event AS (
             SELECT array_agg((g.first_offset + COALESCE(e.offset_delta, e.position - 1) - $2)::integer
                     ORDER BY g.first_offset, e.position) AS offset_delta,
                 array_agg(e.event_id ORDER BY g.first_offset, e.position) AS event_id,
                 array_agg(e.campaign_id ORDER BY g.first_offset, e.position) AS campaign_id,
                 array_agg(e.platform ORDER BY g.first_offset, e.position) AS platform,
                 array_agg(e.event_time ORDER BY g.first_offset, e.position) AS event_time,
                 array_agg(e.impressions ORDER BY g.first_offset, e.position) AS impressions,
                 array_agg(e.clicks ORDER BY g.first_offset, e.position) AS clicks,
                 array_agg(e.conversions ORDER BY g.first_offset, e.position) AS conversions,
                 array_agg(COALESCE(e.conversion_millionths, 0) ORDER BY g.first_offset, e.position)
                     FILTER (WHERE w.has_fractions) AS conversion_millionths,
                 array_agg(e.cost_micros ORDER BY g.first_offset, e.position) AS cost_micros,
                 array_agg(e.revenue_micros ORDER BY g.first_offset, e.position) AS revenue_micros,
                 array_agg(e.observed_at ORDER BY g.first_offset, e.position)
                     FILTER (WHERE w.has_restatements) AS observed_at
             FROM gone AS g CROSS JOIN whole AS w
             CROSS JOIN LATERAL unnest(g.event_id, g.campaign_id, g.platform, g.event_time, g.impressions, g.clicks,
                     g.conversions, g.conversion_millionths, g.cost_micros, g.revenue_micros, g.offset_delta, g.observed_at)
                 WITH ORDINALITY AS e (event_id, campaign_id, platform, event_time, impressions, clicks, conversions,
                     conversion_millionths, cost_micros, revenue_micros, offset_delta, observed_at, position)),
         made_of AS (
             SELECT array_agg(c.last_offset ORDER BY c.last_offset) AS last_offset,
                 array_agg(c.commit_id ORDER BY c.last_offset) AS commit_id,
                 array_agg(c.committed_at ORDER BY c.last_offset) AS committed_at
             FROM gone AS g
             CROSS JOIN LATERAL unnest(COALESCE(g.merged_last_offset, ARRAY[g.last_offset]),
                     COALESCE(g.merged_commit_id, ARRAY[g.commit_id]),
                     COALESCE(g.merged_committed_at, ARRAY[g.committed_at])) AS c (last_offset, commit_id, committed_at)),
         merged AS (
             INSERT INTO event_blocks (period, stream_id, first_offset, last_offset, event_count, min_event_time, max_event_time,
                 lookup_span, commit_id, committed_at, offset_delta, event_id, campaign_id, platform, event_time,
                 impressions, clicks, conversions, conversion_millionths, cost_micros, revenue_micros, observed_at,
                 merged_last_offset, merged_commit_id, merged_committed_at)
             SELECT w.period, $1, w.first_offset, w.last_offset, w.events, w.min_event_time, w.max_event_time, w.lookup_span,
                 w.commit_id, w.committed_at,
                 CASE WHEN w.last_offset - w.first_offset = w.events - 1 THEN NULL ELSE e.offset_delta END,
                 e.event_id, e.campaign_id, e.platform, e.event_time, e.impressions, e.clicks, e.conversions,
                 e.conversion_millionths, e.cost_micros, e.revenue_micros, e.observed_at, m.last_offset, m.commit_id, m.committed_at
             FROM whole AS w CROSS JOIN event AS e CROSS JOIN made_of AS m
             RETURNING event_count)
         SELECT w.blocks, m.event_count::bigint AS events FROM whole AS w CROSS JOIN merged AS m",
    )
    .bind::<Integer, _>(run.whole.stream.0)
    .bind::<BigInt, _>(run.whole.first_offset)
    .bind::<BigInt, _>(run.last_begins)
    .get_result(connection)?;
    if (row.blocks, row.events) == (run.blocks, run.whole.events) {
        Ok(())
    } else {
        Err(StoreError::Busy(
            "the blocks to be merged are not the ones that were looked at; nothing was merged",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(first_offset: i64, events: i64, from: i64) -> Small {
        let from = Timestamp::EPOCH + Length::HOUR.times(from);
        Small {
            stream: StreamId(1),
            first_offset: Offset::new(first_offset),
            last_offset: Offset::new(first_offset + events - 1),
            events: Count::new(events),
            span: Some((from, from + Length::MICROSECOND)),
        }
    }

    fn pairs_of(blocks: &[Small]) -> Vec<Pair> {
        blocks.windows(2).map(|two| Pair(two[0], two[1])).collect()
    }

    #[test]
    fn neighbours_form_runs_until_a_block_is_full() {
        let blocks: Vec<Small> = (0..10).map(|i| small(i * 8_000, 8_000, i)).collect();
        let (runs, rest) = runs(&pairs_of(&blocks));
        let lengths: Vec<i64> = runs.iter().map(|run| run.blocks.get()).collect();
        assert_eq!((lengths, rest), (vec![4, 4, 2], false));
        assert_eq!(runs[1].whole.first_offset.get(), 32_000);
        assert_eq!(runs[1].last_begins.get(), 56_000);
    }

    #[test]
    fn a_run_does_not_jump_over_what_is_in_between() {
        let (a, b, c, d) = (
            small(0, 5, 0),
            small(5, 5, 0),
            small(100, 5, 0),
            small(105, 5, 0),
        );
        let (runs, _) = runs(&[Pair(a, b), Pair(c, d)]);
        let places: Vec<_> = runs
            .iter()
            .map(|r| (r.whole.first_offset.get(), r.last_begins.get()))
            .collect();
        assert_eq!(places, [(0, 5), (100, 105)]);
    }

    #[test]
    fn a_merged_block_covers_a_day_at_most() {
        let blocks = [
            small(0, 5, 0),
            small(5, 5, 12),
            small(10, 5, 24),
            small(15, 5, 24),
        ];
        let (runs, _) = runs(&pairs_of(&blocks));
        let places: Vec<_> = runs
            .iter()
            .map(|r| (r.whole.first_offset.get(), r.blocks.get()))
            .collect();
        assert_eq!(places, [(0, 2), (10, 2)]);
    }

    #[test]
    fn a_step_is_bounded() {
        let blocks: Vec<Small> = (0..100).map(|i| small(i * 8_000, 8_000, i)).collect();
        let (runs, rest) = runs(&pairs_of(&blocks));
        assert!(rest);
        let events: Count = runs.iter().map(|run| run.whole.events).sum();
        assert!(events < STEP_EVENTS.saturating_add(Count::of(MAX_BLOCK_EVENTS)));
    }
}
