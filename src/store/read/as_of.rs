//! What was known at an instant, from the event store.
//!
//! The event store is only ever added to, and every block says when its transaction began to write
//! (`committed_at`; a merged block says it of each commit it was made of). What was known at an
//! instant is what the transactions wrote that had begun by then, each whole:
//!
//! - For one partition, and so for one campaign, these are its first so many commits: the order of
//!   `committed_at` is the order of the log, and the state is one that a reader could see.
//! - Between partitions the order in which transactions became visible may have been another one than
//!   the order in which they began. At that very instant a reader saw at most this much; what
//!   was being committed just then is included.
//! - **An answer is final.** A transaction that had begun by the instant may still be about to commit
//!   when somebody asks; it is waited for (`wait_for_writers`). So the same question has the same
//!   answer for ever. A standby does not see transactions in flight, and answers for instants that were over well before
//!   what it has replayed.
//!
//! **Reports** have an instant of their own, whenever they are imported: what was known of a day is what its platform had said when
//! it was asked by then (`report_changes`). So a folder of old exports tells of the past what the platform said then; and the one
//! thing that changes an answer is that an older export is imported.
//!
//! **What was dropped** ([`periods`]) is part of what was known once its period was closed: its sums are added to what the blocks
//! say. In the middle of its period nobody knows any more.
//!
//! Duplicates and dead letters leave no trace in the blocks, so a position here is the offset after
//! the last *event* counted by then. The answer is exactly the sum of the events before it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, SmallInt, Text, Timestamptz};

mod retired;

use super::descriptions;
use super::insights::converted::{Awaiting, Converted};
use super::insights::{CampaignSums, Freshness, Window};
use crate::event::{Conversions, Count, Counts, Money, Platform};
use crate::pause::within;
use crate::rates::conversion::Conversion;
use crate::store::columns::Timestamps;
use crate::store::positions::Position;
use crate::store::{CommitId, StoreError, clock, periods, platform};
use crate::time::Timestamp;
use crate::totals::Totals;

/// How long transactions in flight are waited for: most take milliseconds, and PostgreSQL ends one
/// that idles for 10 s.
const WAIT_FOR_WRITERS: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// No transaction of a processor lasts longer: a dozen statements, each within the minute of [`Limits::PROCESSOR`](crate::store::Limits::PROCESSOR).
const LONGEST_COMMIT: Duration = Duration::from_secs(15 * 60);

/// What was known of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Where a conversion was asked for, with what is said of it.
    Sums(CampaignSums, Converted),
    /// No event of it had been counted.
    NothingYet,
    NotYet(NotYet),
    /// No longer: the events that were stored up to this later instant were dropped.
    Dropped {
        stored_until: DateTime<Utc>,
    },
    /// The event store is too large for a question of its own.
    TooLong,
}

/// Why an instant cannot be answered for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// It has not come; by the database's clock it is `now`.
    InTheFuture { now: DateTime<Utc> },
    /// A transaction that had begun by then has not ended.
    InFlight,
    /// On this standby, one that had begun by then may yet appear; none that had begun by `until` can.
    NotReplayed { until: DateTime<Utc> },
}

/// The sums of a campaign over a window, or over all time, as they were known at `instant`. With a conversion, over its pieces,
/// whose money is converted. Reads every block of the campaign's partition, but no longer than `until`.
///
/// # Errors
/// When the database does not answer.
pub fn campaign(
    connection: &mut PgConnection,
    campaign_id: &str,
    window: Option<Window>,
    conversion: Option<&Conversion>,
    instant: Timestamp,
    until: Instant,
) -> Result<Known, StoreError> {
    if let Some(why) = wait_for_writers(connection, instant)? {
        return Ok(Known::NotYet(why));
    }
    // One more, since zero would be no bound at all.
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    let left = left.saturating_add(1);
    let read = connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            sql_query(
                "SELECT set_config('statement_timeout', $1, true), set_config('jit', 'off', true)",
            )
            .bind::<Text, _>(left.to_string())
            .execute(connection)?;
            if let Some(stored_until) = dropped_after(connection, instant)? {
                return Ok(Known::Dropped { stored_until });
            }
            let known = read(connection, campaign_id, window, conversion, instant)?;
            Ok(known.map_or(Known::NothingYet, |(sums, converted)| {
                Known::Sums(sums, converted)
            }))
        });
    match read {
        // The server says so in its own language.
        Err(StoreError::Query(_)) if Instant::now() >= until => Ok(Known::TooLong),
        known => known,
    }
}

/// Up to when the events were stored that were dropped, if that is after the instant: what was known then is not known any more.
pub(in crate::store) fn dropped_after(
    connection: &mut PgConnection,
    instant: Timestamp,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let dropped = periods::dropped(connection)?.map(|dropped| dropped.stored_until);
    Ok(dropped.filter(|until| instant < (*until).into()))
}

/// Waits for every transaction that had begun to write by `instant` to end, and holds none up.
///
/// A transaction locks the table of positions before it takes its `committed_at`, and is visible
/// before it lets go. So of those that hold the lock when the clock is past the instant, all others
/// have ended or begin later.
pub(in crate::store) fn wait_for_writers(
    connection: &mut PgConnection,
    instant: Timestamp,
) -> Result<Option<NotYet>, StoreError> {
    #[derive(QueryableByName)]
    struct Writer {
        #[diesel(sql_type = Text)]
        transaction: String,
    }
    // Before the locks are looked at.
    let now = clock(connection)?;
    if instant > now.into() {
        return Ok(Some(NotYet::InTheFuture { now }));
    }
    if let Some(until) = replayed_until(connection)? {
        let is_replayed = instant <= until.into();
        return Ok((!is_replayed).then_some(NotYet::NotReplayed { until }));
    }
    let mut writing = |of: Option<&[String]>| -> Result<Vec<String>, StoreError> {
        let rows: Vec<Writer> = sql_query(
            "SELECT virtualtransaction AS transaction FROM pg_locks
             WHERE locktype = 'relation' AND relation = 'stream_positions'::regclass
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND mode = 'RowExclusiveLock' AND granted AND ($1 IS NULL OR virtualtransaction = ANY($1))",
        )
        .bind::<Nullable<Array<Text>>, _>(of)
        .load(connection)?;
        Ok(rows.into_iter().map(|row| row.transaction).collect())
    };
    let mut awaited = writing(None)?;
    let ended = within(WAIT_FOR_WRITERS, BETWEEN_LOOKS, || {
        if !awaited.is_empty() {
            awaited = writing(Some(&awaited))?;
        }
        Ok::<_, StoreError>(awaited.is_empty().then_some(()))
    })?;
    Ok(ended.is_none().then_some(NotYet::InFlight))
}

/// On a standby, an instant by which no transaction that is not yet seen can have begun to write.
fn replayed_until(connection: &mut PgConnection) -> Result<Option<DateTime<Utc>>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        until: Option<DateTime<Utc>>,
    }
    // Transactions of one partition follow each other: once one is seen, all that began before it are. Where a
    // partition is quiet, it is said by the last commit of any kind, and how long one may take. GREATEST
    // passes over null.
    let row: Row = sql_query(
        "SELECT CASE WHEN pg_is_in_recovery() THEN GREATEST(timestamptz 'epoch',
             (SELECT min(COALESCE(committed_at, timestamptz 'epoch')) FROM stream_positions) - interval '1 microsecond',
             pg_last_xact_replay_timestamp() - make_interval(secs => $1)) END AS until",
    )
    .bind::<Double, _>(LONGEST_COMMIT.as_secs_f64())
    .get_result(connection)?;
    Ok(row.until)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SmallInt)]
    platform: i16,
    /// Behind how many cuts.
    #[diesel(sql_type = Integer)]
    piece: i32,
    #[diesel(sql_type = BigInt)]
    events: Count,
    #[diesel(sql_type = BigInt)]
    impressions: Count,
    #[diesel(sql_type = BigInt)]
    clicks: Count,
    #[diesel(sql_type = BigInt)]
    conversions: Conversions,
    #[diesel(sql_type = BigInt)]
    cost_micros: Money,
    #[diesel(sql_type = BigInt)]
    revenue_micros: Money,
    #[diesel(sql_type = Timestamptz)]
    min_event_time: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    max_event_time: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    commit_id: CommitId,
    #[diesel(sql_type = Timestamptz)]
    committed_at: DateTime<Utc>,
}

impl Row {
    fn totals(&self) -> Totals {
        Totals {
            events: self.events,
            counts: Counts {
                impressions: self.impressions,
                clicks: self.clicks,
                conversions: self.conversions,
                cost_micros: self.cost_micros,
                revenue_micros: self.revenue_micros,
            },
        }
    }
}

fn read(
    connection: &mut PgConnection,
    campaign_id: &str,
    window: Option<Window>,
    conversion: Option<&Conversion>,
    instant: Timestamp,
) -> Result<Option<(CampaignSums, Converted)>, StoreError> {
    // None: all time, in one piece.
    let cuts = match (conversion, window) {
        (Some(conversion), _) => conversion.cuts.clone(),
        (None, Some(window)) => vec![window.since(), window.until()],
        (None, None) => Vec::new(),
    };
    // The commits of a partition ascend with its offsets: the last event tells the last commit. Its place among the
    // commits that a merged block lists is found by halving (width_bucket). OFFSET 0 keeps known_until from being worked
    // out anew for each event.
    let rows: Vec<Row> = sql_query(
        r#"SELECT e.platform, e.piece, sum(e.events)::bigint AS events, COALESCE(sum(e.impressions), 0)::bigint AS impressions,
             COALESCE(sum(e.clicks), 0)::bigint AS clicks,
             (COALESCE(sum(e.conversions), 0) * 1000000 + COALESCE(sum(e.conversion_millionths), 0))::bigint AS conversions,
             COALESCE(sum(e.cost_micros), 0)::bigint AS cost_micros,
             COALESCE(sum(e.revenue_micros), 0)::bigint AS revenue_micros,
             min(e.min_event_time) AS min_event_time, max(e.max_event_time) AS max_event_time,
             max(COALESCE(b.merged_commit_id[width_bucket(e.last_offset - 1, b.merged_last_offset) + 1],
                 b.commit_id)) AS commit_id,
             max(COALESCE(b.merged_committed_at[width_bucket(e.last_offset - 1, b.merged_last_offset) + 1],
                 b.committed_at)) AS committed_at
         FROM campaigns AS c
         JOIN stream_positions AS s ON (s.stream_id = c.stream_id OR c.lookup_before > '-infinity')
         JOIN event_blocks AS b ON b.stream_id = s.stream_id
         CROSS JOIN LATERAL (SELECT CASE WHEN b.committed_at <= $1 THEN b.last_offset ELSE (
                 SELECT max(m.last_offset) FROM unnest(b.merged_last_offset, b.merged_committed_at)
                     AS m (last_offset, committed_at) WHERE m.committed_at <= $1) END AS known_until
             OFFSET 0) AS k
         CROSS JOIN LATERAL (
             SELECT u.platform, p.piece, count(*) FILTER (WHERE asked) AS events,
                 sum(u.impressions) FILTER (WHERE asked) AS impressions, sum(u.clicks) FILTER (WHERE asked) AS clicks,
                 sum(u.conversions) FILTER (WHERE asked) AS conversions,
                 sum(u.conversion_millionths) FILTER (WHERE asked) AS conversion_millionths,
                 sum(u.cost_micros) FILTER (WHERE asked) AS cost_micros,
                 sum(u.revenue_micros) FILTER (WHERE asked) AS revenue_micros,
                 min(u.event_time) AS min_event_time, max(u.event_time) AS max_event_time, max(p."offset") AS last_offset
             FROM unnest(b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks, b.conversions,
                     b.conversion_millionths, b.cost_micros, b.revenue_micros, b.offset_delta, b.observed_at) WITH ORDINALITY
                 AS u (campaign_id, platform, event_time, impressions, clicks, conversions, conversion_millionths,
                     cost_micros, revenue_micros, offset_delta, observed_at, place)
             CROSS JOIN LATERAL (SELECT b.first_offset + COALESCE(u.offset_delta, u.place - 1) AS "offset",
                 width_bucket(u.event_time, $3) AS piece,
                 u.observed_at IS NULL AND (cardinality($3) = 0
                     OR (u.event_time >= $3[1] AND u.event_time < $3[cardinality($3)])) AS asked) AS p
             WHERE u.campaign_id = $2 AND p."offset" <= k.known_until
             GROUP BY u.platform, p.piece) AS e
         WHERE c.campaign_id = $2 AND k.known_until IS NOT NULL AND $2 = ANY (b.campaign_id)
         GROUP BY e.platform, e.piece"#,
    )
    .bind::<Timestamptz, _>(instant)
    .bind::<Text, _>(campaign_id)
    .bind::<Array<Timestamptz>, _>(Timestamps(&cuts))
    .load(connection)?;
    let reported: Vec<Row> = sql_query(
        "SELECT c.platform, a.piece, count(*) FILTER (WHERE a.asked) AS events,
             COALESCE(sum(c.impressions) FILTER (WHERE a.asked), 0)::bigint AS impressions,
             COALESCE(sum(c.clicks) FILTER (WHERE a.asked), 0)::bigint AS clicks,
             COALESCE(sum(c.conversion_micros) FILTER (WHERE a.asked), 0)::bigint AS conversions,
             COALESCE(sum(c.cost_micros) FILTER (WHERE a.asked), 0)::bigint AS cost_micros,
             COALESCE(sum(c.revenue_micros) FILTER (WHERE a.asked), 0)::bigint AS revenue_micros,
             min(c.event_time) AS min_event_time, max(c.event_time) AS max_event_time,
             0::bigint AS commit_id, max(c.counted_at) AS committed_at
         FROM report_changes AS c
         CROSS JOIN LATERAL (SELECT width_bucket(c.event_time, $3) AS piece,
             cardinality($3) = 0 OR (c.event_time >= $3[1] AND c.event_time < $3[cardinality($3)]) AS asked) AS a
         WHERE c.campaign_id = $2 AND c.observed_at <= $1
         GROUP BY c.platform, a.piece",
    )
    .bind::<Timestamptz, _>(instant)
    .bind::<Text, _>(campaign_id)
    .bind::<Array<Timestamptz>, _>(Timestamps(&cuts))
    .load(connection)?;
    let retired = retired::rows(connection, campaign_id, &cuts)?;
    let rows = || rows.iter().chain(&reported).chain(&retired);
    let Some(freshness) = rows()
        .map(|row| Freshness {
            first_event_time: row.min_event_time,
            last_event_time: row.max_event_time,
            counted_at: row.committed_at,
            commit_id: row.commit_id,
        })
        .reduce(Freshness::and)
    else {
        return Ok(None);
    };
    let descriptions = descriptions::of_some(connection, &[campaign_id])?;
    let mut awaiting = Awaiting::new(conversion);
    let mut purse = awaiting.of(campaign_id, || descriptions.currency(campaign_id));
    let mut platforms: BTreeMap<Platform, Totals> = BTreeMap::new();
    for row in rows() {
        if row.events != Count::ZERO {
            let platform = platform(row.platform)?;
            let mut totals = row.totals();
            if let Some(purse) = &mut purse {
                let piece = u32::try_from(row.piece.saturating_sub(1)).unwrap_or_default();
                purse.take(platform.index(), piece, &mut totals.counts, 1);
            }
            let sum = platforms.entry(platform).or_default();
            *sum = sum.checked_add(totals)?;
        }
    }
    // What was dropped of one may have been restatements alone.
    platforms.retain(|_, totals| totals.events > Count::ZERO);
    let converted = awaiting.convert(&descriptions, |_, _, index, _, amounts| {
        let sum = platforms.iter_mut().find(|(of, _)| of.index() == index);
        if let Some((_, sum)) = sum {
            *sum = sum.saturating_add(amounts.totals());
        }
    })?;
    let sums = CampaignSums {
        campaign_id: campaign_id.to_owned(),
        platforms: platforms.into_iter().collect(),
        freshness,
        description: None,
        positions: positions(connection, Some(campaign_id), instant)?,
    };
    Ok(Some((sums, converted)))
}

/// How far each partition that had an event by then had been counted: those that may hold the
/// campaign's events, or all of them.
pub(in crate::store) fn positions(
    connection: &mut PgConnection,
    campaign_id: Option<&str>,
    instant: Timestamp,
) -> Result<Vec<Position>, StoreError> {
    // From the last block back to the first of which something was known, by primary key; where there is none, behind what was
    // dropped.
    Ok(sql_query(
        "SELECT s.topic, s.partition, k.next_offset
         FROM stream_positions AS s
         CROSS JOIN LATERAL (SELECT COALESCE((
             SELECT k.known_until + 1 FROM event_blocks AS b
             CROSS JOIN LATERAL (SELECT CASE WHEN b.committed_at <= $1 THEN b.last_offset ELSE (
                     SELECT max(m.last_offset) FROM unnest(b.merged_last_offset, b.merged_committed_at)
                         AS m (last_offset, committed_at) WHERE m.committed_at <= $1) END AS known_until) AS k
             WHERE b.stream_id = s.stream_id AND k.known_until IS NOT NULL
             ORDER BY b.first_offset DESC LIMIT 1),
             (SELECT max(r.next_offset) FROM retired_streams AS r WHERE r.stream_id = s.stream_id)) AS next_offset) AS k
         WHERE k.next_offset IS NOT NULL AND ($2 IS NULL OR EXISTS (SELECT FROM campaigns AS c WHERE c.campaign_id = $2
             AND (s.stream_id = c.stream_id OR c.lookup_before > '-infinity')))
         ORDER BY s.topic, s.partition",
    )
    .bind::<Timestamptz, _>(instant)
    .bind::<Nullable<Text>, _>(campaign_id)
    .load(connection)?)
}
