//! The projections made anew from the event store, beside the live ones, which are then replaced in
//! one transaction. Processors and the API go on.
//!
//! ```text
//! metrics_*_rebuild are created ─▶ blocks up to the positions, chunk by chunk ─▶ again, what came since ─▶ …
//!                      ─▶ one transaction: hold the positions still; add the last blocks; rename; drop the old
//! ```
//!
//! Why nobody is hurt:
//!
//! - **Processors.** The first statement of each of their transactions writes to or locks a row of
//!   `stream_positions`. The swap takes that table in EXCLUSIVE mode: transactions in flight finish
//!   first, new ones wait at their first statement, when they hold nothing that the swap could wait
//!   for. They wait for the last few blocks to be added up, well below their `lock_timeout`.
//! - **Readers of one statement.** They wait for a few renames, and PostgreSQL then looks the names
//!   up again, also for prepared statements.
//! - **Readers with a snapshot of their own** (repeatable read) would see the new tables as they were
//!   at their snapshot: without rows. They lock the projections before they take it
//!   (`BEFORE_SNAPSHOT`), and so the swap waits for them. Not for long, since
//!   whoever comes next would queue behind the swap: it gives up quickly, lets everybody through,
//!   and tries again.
//! - **A rebuild that is killed** leaves tables that nobody reads, which the next one drops.
//!
//! Blocks are not merged while a rebuild runs: it would lose its place among them. Spans go with the
//! projections they were made of.
//!
//! A row that says what the live one said keeps its `commit_id` and `committed_at`, so a rebuild of
//! right projections changes nothing at all. A campaign for which something else comes out gets a
//! new `commit_id`, so that caches let go of what they hold.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer};

mod adding;
mod tables;

use crate::event::Count;
use crate::offset::Offset;
use crate::store::locks::Lock;
use crate::store::{Limits, StoreError, StreamId};
use adding::{Added, add_stream};
pub(super) use tables::tables;
use tables::{SUFFIX, create_tables, dependent_views, drop_leftovers, rename};

/// How long a rebuild waits for the session of a killed one to end.
const FOR_A_KILLED_ONE: Duration = Duration::from_secs(20);

/// So few events are left to the swap, unless the processors are faster than we are.
const SMALL_REST: Count = Count::new(50_000);

/// How many connections read blocks at a time.
const CONNECTIONS: usize = 2;

/// How often to try for a small rest before taking what there is.
const MOST_ROUNDS: u32 = 20;

/// How long the swap waits for the processors' transactions in flight, and for readers; others
/// queue behind it for as long.
const WAIT_FOR_PROCESSORS: Duration = Duration::from_secs(5);
const WAIT_FOR_READERS: Duration = Duration::from_millis(300);

/// How long readers may keep the swap from happening.
const PATIENCE: Duration = Duration::from_secs(600);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// What a rebuild did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Events added up.
    pub events: u64,
    /// Campaigns whose live totals or days were wrong.
    pub corrected_campaigns: u64,
    /// How long processors had to wait for the swap.
    pub held_up: Duration,
}

/// Makes the projections anew and puts them in the place of the live ones. `progress` is told how
/// many events are done, and how many there are.
///
/// # Errors
/// [`StoreError::Busy`] when another rebuild runs or readers are in the way for ten minutes, and as
/// the database does. The live projections are untouched then.
pub fn rebuild(
    database_url: &str,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rebuilt, StoreError> {
    let mut connection = crate::store::connect(database_url, Limits::MAINTENANCE)?;
    be_the_only_one(&mut connection)?;
    create_tables(&mut connection)?;
    let mut rebuild = Rebuild::default();
    let result = rebuild.run(database_url, &mut connection, progress);
    if result.is_err() {
        // At best; the next rebuild does it otherwise.
        let _ = drop_leftovers(&mut connection);
    }
    result
}

fn be_the_only_one(connection: &mut PgConnection) -> Result<(), StoreError> {
    if !Lock::Rebuild.take_within(connection, FOR_A_KILLED_ONE)? {
        return Err(StoreError::Busy("another rebuild is running"));
    }
    // Waits for a merge that is being done; further ones skip as long as we are here.
    Lock::Merge.take(connection)
}

/// Why there was no swap.
enum NotYet {
    /// Somebody was in the way.
    Busy,
    Failed(StoreError),
}

impl From<StoreError> for NotYet {
    fn from(error: StoreError) -> NotYet {
        NotYet::Failed(error)
    }
}

impl From<diesel::result::Error> for NotYet {
    fn from(error: diesel::result::Error) -> NotYet {
        NotYet::Failed(error.into())
    }
}

/// How far the new tables are.
#[derive(Clone, Default)]
struct Rebuild {
    /// The offset before which each partition's blocks are in them.
    done: HashMap<StreamId, Offset>,
    events: Count,
}

/// Where the partitions stand, at one instant.
struct Positions {
    streams: Vec<(StreamId, Offset)>,
    events: Count,
}

fn positions(connection: &mut PgConnection) -> Result<Positions, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        stream_id: i32,
        #[diesel(sql_type = BigInt)]
        next_offset: Offset,
        #[diesel(sql_type = BigInt)]
        events: Count,
    }
    let rows: Vec<Row> =
        sql_query("SELECT stream_id, next_offset, events FROM stream_positions ORDER BY stream_id")
            .load(connection)?;
    Ok(Positions {
        events: rows.iter().map(|row| row.events).sum(),
        streams: rows
            .iter()
            .map(|row| (StreamId(row.stream_id), row.next_offset))
            .collect(),
    })
}

impl Rebuild {
    fn run(
        &mut self,
        database_url: &str,
        connection: &mut PgConnection,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rebuilt, StoreError> {
        let mut rounds = 0;
        let mut busy_since = None;
        loop {
            let target = positions(connection)?;
            if target.events.saturating_sub(self.events) > SMALL_REST && rounds < MOST_ROUNDS {
                rounds += 1;
                self.catch_up_together(database_url, &target, progress)?;
                continue;
            }
            for table in tables() {
                connection.batch_execute(&format!("ANALYZE {table}{SUFFIX}"))?;
            }
            // For most rows this is the last word, so the swap has little left to do.
            keep_versions(connection)?;

            let before = self.clone();
            match self.swap(connection, progress) {
                Ok(rebuilt) => return Ok(rebuilt),
                Err(NotYet::Failed(error)) => return Err(error),
                Err(NotYet::Busy) => {
                    *self = before;
                    let since = *busy_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(StoreError::Busy(
                            "the projections were in use by other sessions for ten minutes on end; the live ones are as \
                             they were (pg_locks says who: end long reads and run the rebuild again)",
                        ));
                    }
                    sleep(BETWEEN_TRIES);
                    rounds = 0;
                }
            }
        }
    }

    /// Adds what is stored before the target's positions and not yet in the new tables.
    fn catch_up(
        &mut self,
        connection: &mut PgConnection,
        target: &Positions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        for &(stream, next_offset) in &target.streams {
            let from = self.done.get(&stream).copied().unwrap_or_default();
            add_stream(connection, stream, from..next_offset, &mut |added| {
                self.note(added, target, progress);
            })?;
        }
        Ok(())
    }

    /// The same over several connections, each with a partition at a time.
    fn catch_up_together(
        &mut self,
        database_url: &str,
        target: &Positions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        let next = Mutex::new(target.streams.iter());
        let done = &self.done.clone();
        let work = |added: Sender<Added>| -> Result<(), StoreError> {
            let mut connection = crate::store::connect(database_url, Limits::MAINTENANCE)?;
            loop {
                let stream = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(&(stream, next_offset)) = stream else {
                    return Ok(());
                };
                let from = done.get(&stream).copied().unwrap_or_default();
                add_stream(&mut connection, stream, from..next_offset, &mut |one| {
                    // Heard for as long as anybody sends.
                    let _ = added.send(one);
                })?;
            }
        };
        std::thread::scope(|scope| {
            let (sender, added) = channel();
            let workers: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    let (work, sender) = (&work, sender.clone());
                    scope.spawn(move || work(sender))
                })
                .collect();
            drop(sender);
            for one in added {
                self.note(one, target, progress);
            }
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(panicked) => std::panic::resume_unwind(panicked),
                })
        })
    }

    fn note(&mut self, added: Added, target: &Positions, progress: &mut dyn FnMut(u64, u64)) {
        self.done.insert(added.stream, added.until);
        self.events += added.events;
        let in_all = target.events.max(self.events);
        progress(self.events.as_u64(), in_all.as_u64());
    }

    fn swap(
        &mut self,
        connection: &mut PgConnection,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rebuilt, NotYet> {
        let mut locked_at = Instant::now();
        let corrected_campaigns = connection.transaction(|connection| {
            if !try_lock(
                connection,
                "stream_positions",
                "EXCLUSIVE",
                WAIT_FOR_PROCESSORS,
            )? {
                return Err(NotYet::Busy);
            }
            locked_at = Instant::now();
            let target = positions(connection)?;
            self.catch_up(connection, &target, progress)?;
            let corrected = keep_versions(connection)?;
            // Views before tables, in the order in which their readers lock them.
            let mut names = dependent_views(connection)?
                .into_iter()
                .map(|view| view.name)
                .collect::<Vec<_>>();
            names.extend(tables().map(str::to_owned));
            if !try_lock(
                connection,
                &names.join(", "),
                "ACCESS EXCLUSIVE",
                WAIT_FOR_READERS,
            )? {
                return Err(NotYet::Busy);
            }
            rename(connection)?;
            // The versions of their days do not tell what a rebuild corrects. Nobody makes any now, since
            // that reads the projections.
            connection.batch_execute("DELETE FROM spans")?;
            Ok(corrected)
        })?;
        Ok(Rebuilt {
            events: self.events.as_u64(),
            corrected_campaigns,
            held_up: locked_at.elapsed(),
        })
    }
}

/// Gives rows of the new totals the version of the live row where nothing of the campaign changed,
/// and a new version where something did. Returns how many campaigns did.
///
/// Minutes and hours are not compared, for there may be hundreds of millions: an error within a day
/// whose sums are right is corrected, but does not make caches let go.
fn keep_versions(connection: &mut PgConnection) -> Result<u64, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        corrected: Count,
    }
    let row: Row = sql_query(
        "WITH corrected AS MATERIALIZED (
             SELECT campaign_id FROM metrics_total AS live
             FULL JOIN metrics_total_rebuild AS made USING (campaign_id, platform)
             WHERE (live.events, live.impressions, live.clicks, live.conversions, live.cost_micros, live.revenue_micros,
                     live.min_event_time, live.max_event_time)
                 IS DISTINCT FROM (made.events, made.impressions, made.clicks, made.conversions, made.cost_micros,
                     made.revenue_micros, made.min_event_time, made.max_event_time)
             UNION
             SELECT campaign_id FROM metrics_by_day AS live
             FULL JOIN metrics_by_day_rebuild AS made USING (campaign_id, day, platform)
             WHERE (live.events, live.impressions, live.clicks, live.conversions, live.cost_micros, live.revenue_micros)
                 IS DISTINCT FROM (made.events, made.impressions, made.clicks, made.conversions, made.cost_micros,
                     made.revenue_micros)),
         this AS MATERIALIZED (SELECT nextval('commit_ids') AS commit_id, clock_timestamp() AS committed_at),
         versioned AS (
             UPDATE metrics_total_rebuild AS t SET commit_id = v.commit_id, committed_at = v.committed_at
             FROM (SELECT made.campaign_id, made.platform,
                       CASE WHEN c.campaign_id IS NULL THEN live.commit_id ELSE this.commit_id END AS commit_id,
                       CASE WHEN c.campaign_id IS NULL THEN live.committed_at ELSE this.committed_at END AS committed_at
                   FROM metrics_total_rebuild AS made
                   CROSS JOIN this
                   LEFT JOIN metrics_total AS live USING (campaign_id, platform)
                   LEFT JOIN corrected AS c USING (campaign_id)) AS v
             WHERE t.campaign_id = v.campaign_id AND t.platform = v.platform
                 AND (t.commit_id, t.committed_at) IS DISTINCT FROM (v.commit_id, v.committed_at))
         SELECT count(*) AS corrected FROM corrected",
    )
    .get_result(connection)?;
    Ok(row.corrected.as_u64())
}

/// Locks tables, or gives up after `patience`; `false` then, and the transaction goes on. The
/// server says so in its own language, so the answer is asked for rather than read from the error.
fn try_lock(
    connection: &mut PgConnection,
    names: &str,
    mode: &str,
    patience: Duration,
) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        locked: bool,
    }
    connection.batch_execute(&format!(
        "SET LOCAL lock_timeout = {};
         DO $$ BEGIN
             LOCK TABLE {names} IN {mode} MODE;
             PERFORM set_config('adflux.locked', 'yes', true);
         EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
             PERFORM set_config('adflux.locked', 'no', true);
         END $$",
        patience.as_millis()
    ))?;
    let row: Row = sql_query("SELECT current_setting('adflux.locked') = 'yes' AS locked")
        .get_result(connection)?;
    Ok(row.locked)
}
