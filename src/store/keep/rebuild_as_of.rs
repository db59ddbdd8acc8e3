//! The projections as they were known at an instant, in tables of a schema of their own.
//!
//! In SQL and in one transaction: nobody sees half of it, and one that is killed leaves nothing. The
//! live projections are read by nobody here; only the tables' form is theirs.

use chrono::{DateTime, Timelike, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text, Timestamptz};

use crate::event::Count;
use crate::store::positions::Position;
use crate::store::read::as_of::{self, NotYet};
use crate::store::{Limits, StoreError};
use crate::time::{Timestamp, rfc3339_exact};

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltAsOf {
    /// Where the tables are, under the names of the live ones.
    pub schema: String,
    /// Events added up, and the campaigns they are of.
    pub events: Count,
    pub campaigns: Count,
    /// What they rest on: every event on these partitions before these offsets.
    pub positions: Vec<Position>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum AsOfError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The instant has not come.
    #[error("this instant has not come yet: by the database's clock it is {}", rfc3339_exact(*.0))]
    InTheFuture(DateTime<Utc>),
    /// A commit that had begun by then has not ended.
    #[error("a commit that began before this instant has not ended yet; try again")]
    InFlight,
    /// Events that were stored after it were dropped with those before.
    #[error(
        "what was known at this instant can no longer be told: the events that were counted up to {} were dropped (adflux retain), \
         and their sums are kept; ask for then or later",
        rfc3339_exact(*.0)
    )]
    Dropped(DateTime<Utc>),
    /// Only its primary can be written to.
    #[error("this server is a standby: run it on the primary")]
    Standby,
    /// PostgreSQL would shorten the name, perhaps to that of another schema.
    #[error("the name of a schema has 1 to {LONGEST_NAME} bytes; choose another one with --into")]
    NotAName,
    /// There is a schema of that name with something else in it.
    #[error(
        "schema {0} exists and was not made by adflux rebuild --as-of; choose another name with --into"
    )]
    NotOurs(String),
}

impl From<diesel::result::Error> for AsOfError {
    fn from(error: diesel::result::Error) -> AsOfError {
        AsOfError::Store(error.into())
    }
}

/// The name a schema has unless another is given: `as_of_20261123t020000`, with the microseconds
/// behind if there are any.
pub fn default_schema(instant: DateTime<Utc>) -> String {
    let micros = instant.nanosecond() / 1_000;
    let seconds = instant.format("as_of_%Y%m%dt%H%M%S");
    if micros == 0 {
        seconds.to_string()
    } else {
        format!("{seconds}_{micros:06}")
    }
}

/// As PostgreSQL is usually built.
const LONGEST_NAME: usize = 63;

/// What the schema's comment begins with: it is ours, and may be replaced.
const OURS: &str = "adflux rebuild --as-of";

/// Makes the four projections as they were known at `instant`, in `schema`; one that was made here
/// before is replaced.
///
/// # Errors
/// See [`AsOfError`]. Nothing is changed then.
pub fn rebuild_as_of(
    database_url: &str,
    instant: DateTime<Utc>,
    schema: &str,
) -> Result<RebuiltAsOf, AsOfError> {
    if !(1..=LONGEST_NAME).contains(&schema.len()) {
        return Err(AsOfError::NotAName);
    }
    let mut connection = crate::store::open(database_url, Limits::MAINTENANCE)?;
    let at = Timestamp::from(instant);
    match as_of::wait_for_writers(&mut connection, at)? {
        None => {}
        Some(NotYet::InTheFuture { now }) => return Err(AsOfError::InTheFuture(now)),
        Some(NotYet::InFlight) => return Err(AsOfError::InFlight),
        Some(NotYet::NotReplayed { .. }) => return Err(AsOfError::Standby),
    }
    connection
        .build_transaction()
        .repeatable_read()
        .run(|connection| {
            if let Some(stored_until) = as_of::dropped_after(connection, at)? {
                return Err(AsOfError::Dropped(stored_until));
            }
            create_schema(connection, schema, instant)?;
            let (events, campaigns) = fill(connection, at)?;
            Ok(RebuiltAsOf {
                schema: schema.to_owned(),
                events,
                campaigns,
                positions: as_of::positions(connection, None, at)?,
            })
        })
}

/// Makes the schema with its empty tables. For the rest of the transaction, their names mean those in it.
fn create_schema(
    connection: &mut PgConnection,
    schema: &str,
    instant: DateTime<Utc>,
) -> Result<(), AsOfError> {
    #[derive(QueryableByName)]
    struct Foreign {
        #[diesel(sql_type = BigInt)]
        schemas: Count,
    }
    let foreign: Foreign = sql_query(
        "SELECT count(*) AS schemas FROM pg_namespace WHERE nspname = $1
             AND NOT starts_with(COALESCE(obj_description(oid, 'pg_namespace'), ''), $2)",
    )
    .bind::<Text, _>(schema)
    .bind::<Text, _>(OURS)
    .get_result(connection)?;
    if foreign.schemas > Count::ZERO {
        return Err(AsOfError::NotOurs(schema.to_owned()));
    }
    let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
    connection.batch_execute(&format!(
        "SET LOCAL client_min_messages = warning; SET LOCAL work_mem = '32MB'; SET LOCAL hash_mem_multiplier = 1; SET LOCAL jit = off;
         DROP SCHEMA IF EXISTS {quoted} CASCADE; CREATE SCHEMA {quoted};
         COMMENT ON SCHEMA {quoted} IS '{OURS} {}'",
        rfc3339_exact(instant)
    ))?;
    let totals = ", min_event_time timestamptz NOT NULL, max_event_time timestamptz NOT NULL, commit_id bigint NOT NULL,
         committed_at timestamptz NOT NULL";
    for (table, start, more) in [
        ("metrics_by_minute", Some("minute"), ""),
        ("metrics_by_hour", Some("hour"), ""),
        ("metrics_by_day", Some("day"), ""),
        ("metrics_total", None, totals),
    ] {
        let key = start.map_or(String::new(), |start| format!("{start}, "));
        let start = start.map_or(String::new(), |start| {
            format!("{start} timestamptz NOT NULL, ")
        });
        connection.batch_execute(&format!(
            "CREATE TABLE {quoted}.{table} (campaign_id text COLLATE \"C\" NOT NULL, {start}platform smallint NOT NULL,
                 events bigint NOT NULL, impressions bigint NOT NULL, clicks bigint NOT NULL, conversions numeric NOT NULL,
                 cost_micros bigint NOT NULL, revenue_micros bigint NOT NULL{more},
                 PRIMARY KEY (campaign_id, {key}platform))"
        ))?;
    }
    sql_query(
        "SELECT set_config('search_path', $1 || ', ' || current_setting('search_path'), true)",
    )
    .bind::<Text, _>(&quoted)
    .execute(connection)?;
    Ok(())
}

/// Adds up what was known at `$1`: of the blocks what had been counted, of what was dropped all increments, and what had been
/// reported. Returns how many events and campaigns that is.
fn fill(connection: &mut PgConnection, instant: Timestamp) -> Result<(Count, Count), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        events: Count,
        #[diesel(sql_type = BigInt)]
        campaigns: Count,
    }
    sql_query(
        "INSERT INTO metrics_by_minute (campaign_id, minute, platform, events, impressions, clicks, conversions,
             cost_micros, revenue_micros)
         SELECT k.campaign_id, date_bin('1 minute', k.event_time, timestamptz 'epoch'), k.platform,
             sum(k.events)::bigint AS events, sum(k.impressions)::bigint AS impressions,
             sum(k.clicks)::bigint AS clicks,
             trim_scale(sum(k.conversions) + COALESCE(sum(k.conversion_millionths), 0) * 0.000001) AS conversions,
             sum(k.cost_micros)::bigint AS cost_micros, sum(k.revenue_micros)::bigint AS revenue_micros
         FROM (
         SELECT u.campaign_id, u.event_time, u.platform, 1 AS events, u.impressions, u.clicks, u.conversions, u.conversion_millionths,
             u.cost_micros, u.revenue_micros
         FROM event_blocks AS b
         CROSS JOIN LATERAL (SELECT CASE WHEN b.committed_at <= $1 THEN b.last_offset ELSE (
                 SELECT max(m.last_offset) FROM unnest(b.merged_last_offset, b.merged_committed_at)
                     AS m (last_offset, committed_at) WHERE m.committed_at <= $1) END AS known_until
             OFFSET 0) AS k
         CROSS JOIN LATERAL unnest(b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks, b.conversions,
                     b.conversion_millionths, b.cost_micros, b.revenue_micros, b.offset_delta, b.observed_at) WITH ORDINALITY
                 AS u (campaign_id, platform, event_time, impressions, clicks, conversions, conversion_millionths,
                     cost_micros, revenue_micros, offset_delta, observed_at, place)
         WHERE k.known_until IS NOT NULL AND b.first_offset + COALESCE(u.offset_delta, u.place - 1) <= k.known_until
             AND u.observed_at IS NULL
         UNION ALL
         SELECT c.campaign_id, c.event_time, c.platform, 1, c.impressions, c.clicks, 0, c.conversion_micros, c.cost_micros,
             c.revenue_micros
         FROM report_changes AS c WHERE c.observed_at <= $1
         UNION ALL
         SELECT c.campaign_id, c.start, c.platform, c.events, c.impressions, c.clicks, c.conversions, 0, c.cost_micros,
             c.revenue_micros
         FROM retired_cells AS c
         UNION ALL
         SELECT r.campaign_id, r.event_time, r.platform, -r.events, -r.impressions, -r.clicks, 0, -r.conversion_micros,
             -r.cost_micros, -r.revenue_micros
         FROM retired_restatements AS r JOIN event_periods AS p USING (period) WHERE p.dropped_at IS NOT NULL) AS k
         GROUP BY 1, 2, 3 HAVING sum(k.events) > 0",
    )
    .bind::<Timestamptz, _>(instant)
    .execute(connection)?;
    sql_query(
        "INSERT INTO metrics_by_hour (campaign_id, hour, platform, events, impressions, clicks, conversions,
             cost_micros, revenue_micros)
         SELECT f.campaign_id, date_bin('1 hour', f.minute, timestamptz 'epoch'), f.platform,
             sum(f.events)::bigint AS events, sum(f.impressions)::bigint AS impressions,
             sum(f.clicks)::bigint AS clicks, trim_scale(sum(f.conversions)) AS conversions,
             sum(f.cost_micros)::bigint AS cost_micros, sum(f.revenue_micros)::bigint AS revenue_micros
         FROM metrics_by_minute AS f GROUP BY 1, 2, 3",
    )
    .execute(connection)?;
    sql_query(
        "INSERT INTO metrics_by_day (campaign_id, day, platform, events, impressions, clicks, conversions,
             cost_micros, revenue_micros)
         SELECT f.campaign_id, date_bin('1 day', f.hour, timestamptz 'epoch'), f.platform,
             sum(f.events)::bigint AS events, sum(f.impressions)::bigint AS impressions,
             sum(f.clicks)::bigint AS clicks, trim_scale(sum(f.conversions)) AS conversions,
             sum(f.cost_micros)::bigint AS cost_micros, sum(f.revenue_micros)::bigint AS revenue_micros
         FROM metrics_by_hour AS f GROUP BY 1, 2, 3",
    )
    .execute(connection)?;
    // Within a block, the last event of a campaign tells the last commit.
    sql_query(
        "INSERT INTO metrics_total (campaign_id, platform, events, impressions, clicks, conversions,
             cost_micros, revenue_micros,
             min_event_time, max_event_time, commit_id, committed_at)
         SELECT k.campaign_id, k.platform,
             sum(k.events)::bigint AS events, sum(k.impressions)::bigint AS impressions,
             sum(k.clicks)::bigint AS clicks, trim_scale(sum(k.conversions)) AS conversions,
             sum(k.cost_micros)::bigint AS cost_micros, sum(k.revenue_micros)::bigint AS revenue_micros,
             min(k.min_event_time), max(k.max_event_time), max(k.commit_id), max(k.committed_at)
         FROM (
         SELECT e.campaign_id, e.platform, e.events, e.impressions, e.clicks, e.conversions, e.cost_micros, e.revenue_micros,
             e.min_event_time, e.max_event_time,
             COALESCE(b.merged_commit_id[width_bucket(e.last_offset - 1, b.merged_last_offset) + 1], b.commit_id) AS commit_id,
             COALESCE(b.merged_committed_at[width_bucket(e.last_offset - 1, b.merged_last_offset) + 1], b.committed_at) AS committed_at
         FROM event_blocks AS b
         CROSS JOIN LATERAL (SELECT CASE WHEN b.committed_at <= $1 THEN b.last_offset ELSE (
                 SELECT max(m.last_offset) FROM unnest(b.merged_last_offset, b.merged_committed_at)
                     AS m (last_offset, committed_at) WHERE m.committed_at <= $1) END AS known_until
             OFFSET 0) AS k
         CROSS JOIN LATERAL (
             SELECT u.campaign_id, u.platform,
                 count(*)::bigint AS events, sum(u.impressions)::bigint AS impressions,
                 sum(u.clicks)::bigint AS clicks,
                 trim_scale(sum(u.conversions) + COALESCE(sum(u.conversion_millionths), 0) * 0.000001) AS conversions,
                 sum(u.cost_micros)::bigint AS cost_micros, sum(u.revenue_micros)::bigint AS revenue_micros,
                 min(u.event_time) AS min_event_time, max(u.event_time) AS max_event_time,
                 max(b.first_offset + COALESCE(u.offset_delta, u.place - 1)) AS last_offset
             FROM unnest(b.campaign_id, b.platform, b.event_time, b.impressions, b.clicks, b.conversions,
                         b.conversion_millionths, b.cost_micros, b.revenue_micros, b.offset_delta, b.observed_at) WITH ORDINALITY
                     AS u (campaign_id, platform, event_time, impressions, clicks, conversions, conversion_millionths,
                         cost_micros, revenue_micros, offset_delta, observed_at, place)
             WHERE b.first_offset + COALESCE(u.offset_delta, u.place - 1) <= k.known_until AND u.observed_at IS NULL
             GROUP BY 1, 2) AS e
         WHERE k.known_until IS NOT NULL
         UNION ALL
         SELECT c.campaign_id, c.platform, 1, c.impressions, c.clicks, c.conversion_micros * 0.000001, c.cost_micros,
             c.revenue_micros, c.event_time, c.event_time, 0, c.counted_at
         FROM report_changes AS c WHERE c.observed_at <= $1
         UNION ALL
         SELECT c.campaign_id, c.platform, c.events, c.impressions, c.clicks, c.conversions, c.cost_micros, c.revenue_micros,
             c.first_event_time, c.last_event_time, c.commit_id, c.committed_at
         FROM retired_cells AS c
         UNION ALL
         SELECT r.campaign_id, r.platform, -r.events, -r.impressions, -r.clicks, -r.conversion_micros * 0.000001, -r.cost_micros,
             -r.revenue_micros, r.event_time, r.event_time, 0, timestamptz 'epoch'
         FROM retired_restatements AS r JOIN event_periods AS p USING (period) WHERE p.dropped_at IS NOT NULL) AS k
         GROUP BY 1, 2 HAVING sum(k.events) > 0",
    )
    .bind::<Timestamptz, _>(instant)
    .execute(connection)?;
    let made: Row = sql_query(
        "SELECT COALESCE(sum(events), 0)::bigint AS events, count(DISTINCT campaign_id) AS campaigns FROM metrics_total",
    )
    .get_result(connection)?;
    connection.batch_execute(
        "ANALYZE metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total",
    )?;
    Ok((made.events, made.campaigns))
}
