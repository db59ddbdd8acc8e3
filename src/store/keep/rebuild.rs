//! The sums made anew from the event store, beside the live ones, which are then replaced in
//! one transaction. Processors and the API go on.
//!
//! ```text
//! blocks up to the positions become parts, listed in sum_parts_made ─▶ again, what came since ─▶ …
//!            ─▶ one transaction: hold the positions still; add the last blocks; the list becomes the directory
//! ```
//!
//! Why nobody is hurt:
//!
//! - **Processors.** The first statement of each of their transactions writes to or locks a row of
//!   `stream_positions`. The swap takes that table in EXCLUSIVE mode: transactions in flight finish
//!   first, new ones wait at their first statement, when they hold nothing that the swap could wait
//!   for. They wait for the last few blocks to be added up, well below their `lock_timeout`.
//! - **Readers** see the directory before or after, and the chunks of both are there until the swap is committed.
//! - **Who carries and merges parts** is waited for, and waits for the swap.
//! - **A rebuild that is killed** leaves parts in `sum_parts_made`, which the next one removes.
//!
//! A migration makes the sums in the same way (`first`) while an earlier version counts into the tables that parts replace,
//! and answers from them. It may have a long way to go, so one that was cut off goes on where it was.
//!
//! Blocks are not merged while a rebuild runs, nor dropped: it would lose its place among them. What was dropped before is in it by
//! copies of its sums.
//!
//! Sums that come out as they were have the commits that they had, so a rebuild of right sums changes nothing at all. Where
//! something else comes out, the store's generation is raised, so that caches let go of what they hold.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use std::hash::BuildHasher as _;

use diesel::connection::SimpleConnection;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, SmallInt, Text, Timestamptz};
use foldhash::fast::FixedState;

mod adding;

use crate::event::Count;
use crate::offset::Offset;
use crate::store::locks::{self, Lock};
use crate::store::sums::Grain;
use crate::store::sums::chunk::{ChunkRow, chunk_columns};
use crate::store::{Limits, StoreError, StreamId, identity};
use crate::time::Timestamp;
use adding::Added;
pub(super) use adding::add_stream;

/// Where the parts of a rebuild are listed.
const MADE: &str = "sum_parts_made";

/// How long a rebuild waits for the session of a killed one to end.
const FOR_A_KILLED_ONE: Duration = Duration::from_secs(20);

/// So few events are left to the swap, unless the processors are faster than we are.
const SMALL_REST: Count = Count::new(50_000);

/// How many connections read blocks at a time.
const CONNECTIONS: usize = 2;

/// How often to try for a small rest before taking what there is.
const MOST_ROUNDS: u32 = 20;

/// How long the swap waits for the processors' transactions in flight; others queue behind it for as long.
const WAIT_FOR_PROCESSORS: Duration = Duration::from_secs(5);

/// How long others may keep the swap from happening.
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
    let mut connection = crate::store::open(database_url, Limits::MAINTENANCE)?;
    if !Lock::Rebuild.take_within(&mut connection, FOR_A_KILLED_ONE)? {
        return Err(StoreError::Busy("another rebuild is running"));
    }
    keep_merges_out(&mut connection)?;
    forget(&mut connection)?;
    let mut rebuild = Rebuild {
        events: copy_retired(&mut connection)?,
        ..Rebuild::default()
    };
    let result = rebuild.run(database_url, &mut connection, Before::Parts, progress);
    // At best; the next rebuild does it otherwise.
    let _ = forget(&mut connection);
    result
}

/// Makes the projections for the first time, beside the tables that they replace: `switch` runs in the transaction that enters
/// them. `None` if another session is at it. Goes on where an earlier one was cut off.
///
/// # Errors
/// As [`rebuild`]. The tables before are untouched then.
pub(super) fn first(
    database_url: &str,
    progress: &mut dyn FnMut(u64, u64),
    switch: &mut dyn FnMut(&mut PgConnection) -> Result<(), StoreError>,
) -> Result<Option<Rebuilt>, StoreError> {
    let mut connection = crate::store::connect(database_url, Limits::MAINTENANCE)?;
    if !Lock::Rebuild.try_take(&mut connection)? {
        return Ok(None);
    }
    keep_merges_out(&mut connection)?;
    let mut rebuild = Rebuild::cut_off(&mut connection)?;
    let rebuilt = rebuild.run(
        database_url,
        &mut connection,
        Before::Tables(switch),
        progress,
    )?;
    forget(&mut connection)?;
    Ok(Some(rebuilt))
}

/// What is replaced.
enum Before<'a> {
    /// Parts.
    Parts,
    /// The tables of an earlier version, and what makes it so.
    Tables(&'a mut dyn FnMut(&mut PgConnection) -> Result<(), StoreError>),
}

pub(super) const FORGET_MADE: &str = "DELETE FROM sum_parts_made; DELETE FROM sum_parts_made_until";

/// Removes what was made and did not become the directory. Whoever asks for it keeps others from running.
pub(super) fn forget(connection: &mut PgConnection) -> Result<(), StoreError> {
    connection.batch_execute(FORGET_MADE)?;
    remove_leftovers(connection, &["sum_parts", MADE, "retired_parts"])
}

/// Removes the chunks that none of these directories names.
fn remove_leftovers(connection: &mut PgConnection, directories: &[&str]) -> Result<(), StoreError> {
    // In one snapshot a chunk is there with the entry of its part, or without it for good.
    let unnamed = directories.iter().map(|directory| {
        format!(
            "NOT EXISTS (SELECT FROM {directory} AS p WHERE p.stream_id = c.stream_id AND p.part_id = c.part_id)"
        )
    });
    let unnamed: Vec<String> = unnamed.collect();
    Ok(connection.batch_execute(&format!(
        "DELETE FROM sum_chunks AS c WHERE {}",
        unnamed.join(" AND ")
    ))?)
}

/// Copies the sums of what was dropped into the new parts, which are merged with others later. Returns of how many events.
fn copy_retired(connection: &mut PgConnection) -> Result<Count, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        events: Count,
    }
    let columns = chunk_columns!();
    let row: Row = sql_query(format!(
        "WITH part AS MATERIALIZED (
             SELECT r.*, nextval('commit_ids') AS copy_id FROM retired_parts AS r ORDER BY r.stream_id, r.part_id),
         chunk AS (
             INSERT INTO sum_chunks (stream_id, part_id, last_campaign, newest_commit_id, {})
             SELECT p.stream_id, p.copy_id, c.last_campaign, c.newest_commit_id, {columns}
             FROM part AS p JOIN sum_chunks AS c USING (stream_id, part_id)),
         directory AS (
             INSERT INTO {MADE} (stream_id, part_id, grain, reach, window_start, since, until, first_campaign, last_campaign,
                 cells, first_event_time, last_event_time, commit_id, committed_at)
             SELECT stream_id, copy_id, grain, reach, window_start, since, until, first_campaign, last_campaign, cells,
                 first_event_time, last_event_time, commit_id, committed_at
             FROM part)
         SELECT COALESCE(sum(events), 0)::bigint AS events FROM retired_streams",
        columns.replace("c.", "")
    ))
    .get_result(connection)?;
    Ok(row.events)
}

/// Waits for a merge of blocks that is being done; further ones skip as long as we are here.
fn keep_merges_out(connection: &mut PgConnection) -> Result<(), StoreError> {
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

/// Before which offset of a partition so many events are.
#[derive(QueryableByName)]
struct Until {
    #[diesel(sql_type = Integer)]
    stream_id: i32,
    #[diesel(sql_type = BigInt)]
    next_offset: Offset,
    #[diesel(sql_type = BigInt)]
    events: Count,
}

/// Where the partitions stand, at one instant.
struct Positions {
    streams: Vec<(StreamId, Offset)>,
    events: Count,
}

fn positions(connection: &mut PgConnection) -> Result<Positions, StoreError> {
    let rows: Vec<Until> =
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
    /// What is there of one that was cut off. Where blocks were merged since across the place where it was, that partition is
    /// begun anew: then more events are in the blocks before that place.
    fn cut_off(connection: &mut PgConnection) -> Result<Rebuild, StoreError> {
        connection.batch_execute(
            "WITH moved AS (
                 DELETE FROM sum_parts_made_until AS u
                 WHERE u.events <> (
                     SELECT COALESCE(sum(b.event_count), 0) FROM event_blocks AS b
                     WHERE b.stream_id = u.stream_id AND b.first_offset < u.next_offset)
                 RETURNING stream_id)
             DELETE FROM sum_parts_made WHERE stream_id IN (SELECT stream_id FROM moved)",
        )?;
        remove_leftovers(connection, &["sum_parts", MADE])?;
        let rows: Vec<Until> =
            sql_query("SELECT stream_id, next_offset, events FROM sum_parts_made_until")
                .load(connection)?;
        let done = |row: &Until| (StreamId(row.stream_id), row.next_offset);
        Ok(Rebuild {
            done: rows.iter().map(done).collect(),
            events: rows.iter().map(|row| row.events).sum(),
        })
    }

    fn run(
        &mut self,
        database_url: &str,
        connection: &mut PgConnection,
        mut before: Before<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rebuilt, StoreError> {
        let mut rounds = 0;
        let mut busy_since = None;
        let mut corrected_campaigns = None;
        loop {
            let target = positions(connection)?;
            if target.events.saturating_sub(self.events) > SMALL_REST && rounds < MOST_ROUNDS {
                rounds += 1;
                self.catch_up_together(database_url, &target, progress)?;
                continue;
            }
            let corrected_campaigns = match corrected_campaigns {
                Some(known) => known,
                None => *corrected_campaigns.insert(self.corrected(
                    database_url,
                    connection,
                    &before,
                    progress,
                )?),
            };
            let done = self.clone();
            match self.swap(connection, &mut before, progress) {
                Ok(held_up) => {
                    if corrected_campaigns > 0 {
                        identity::raise_generation(connection)?;
                    }
                    return Ok(Rebuilt {
                        events: self.events.as_u64(),
                        corrected_campaigns,
                        held_up,
                    });
                }
                Err(NotYet::Failed(error)) => return Err(error),
                Err(NotYet::Busy) => {
                    *self = done;
                    let since = *busy_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(StoreError::Busy(
                            "other sessions held positions for ten minutes on end; the live sums are as they were \
                             (pg_locks says who: end what takes so long and run the rebuild again)",
                        ));
                    }
                    sleep(BETWEEN_TRIES);
                    rounds = 0;
                }
            }
        }
    }

    /// How many campaigns come out otherwise than they are, at one instant.
    fn corrected(
        &mut self,
        database_url: &str,
        connection: &mut PgConnection,
        before: &Before<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<u64, StoreError> {
        let mut at_once = connection.build_transaction().repeatable_read().read_only();
        let (target, live) = at_once.run(|connection| {
            let live = match before {
                Before::Parts => fingerprints(connection, "sum_parts")?,
                Before::Tables(_) => fingerprints_of_tables(connection)?,
            };
            Ok::<_, StoreError>((positions(connection)?, live))
        })?;
        self.catch_up_together(database_url, &target, progress)?;
        let made = fingerprints(connection, MADE)?;
        let differing = made
            .iter()
            .filter(|(campaign, print)| live.get(*campaign) != Some(print));
        let vanished = live.keys().filter(|campaign| !made.contains_key(*campaign));
        Ok(differing.count() as u64 + vanished.count() as u64)
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

    /// Returns how long processors had to wait.
    fn swap(
        &mut self,
        connection: &mut PgConnection,
        before: &mut Before<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Duration, NotYet> {
        let mut locked_at = Instant::now();
        connection.transaction(|connection| {
            // Whoever rewrites parts has them before it takes rows, and waits for no positions.
            locks::take_all_sums(connection)?;
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
            match before {
                // What is made has older numbers.
                Before::Parts => connection.batch_execute("DELETE FROM sum_fresh_from")?,
                Before::Tables(switch) => {
                    // Not before whoever reads them is done; who comes later waits for the new ones.
                    if !try_lock(
                        connection,
                        REPLACED,
                        "ACCESS EXCLUSIVE",
                        WAIT_FOR_PROCESSORS,
                    )? {
                        return Err(NotYet::Busy);
                    }
                    switch(connection)?;
                }
            }
            connection.batch_execute(
                "DELETE FROM sum_parts; INSERT INTO sum_parts SELECT * FROM sum_parts_made;
                 DELETE FROM sum_parts_made; DELETE FROM sum_parts_made_until",
            )?;
            Ok(())
        })?;
        Ok(locked_at.elapsed())
    }
}

/// The tables that parts replace.
const REPLACED: &str = "metrics_by_minute, metrics_by_hour, metrics_by_day, metrics_total, metrics_by_span, spans, day_versions";

/// Of each campaign, a number and when its first and last event were.
type Fingerprints = HashMap<String, (u64, Timestamp, Timestamp)>;

/// Of each campaign, what its sums of days are, as one number, and when its first and last event were. The number adds up
/// whatever parts the sums are in: each value times a number of its day, platform and field.
fn fingerprints(
    connection: &mut PgConnection,
    directory: &str,
) -> Result<Fingerprints, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SmallInt)]
        grain: i16,
        #[diesel(embed)]
        chunk: ChunkRow,
    }
    let mut prints = Fingerprints::new();
    let columns = chunk_columns!();
    let text = format!(
        "SELECT p.grain, {columns}
         FROM {directory} AS p JOIN sum_chunks AS c USING (stream_id, part_id)
         WHERE p.reach = 0 OR p.grain IN (2, 5)"
    );
    for row in sql_query(text).load_iter::<Row, PgRowByRowLoadingMode>(connection)? {
        let Row { grain, chunk } = row?;
        for (campaign, cells) in chunk.unpack()?.groups() {
            let (print, first, last) = print_of(&mut prints, campaign);
            for cell in cells {
                (*first, *last) = ((*first).min(cell.facts.first), (*last).max(cell.facts.last));
                // What is of longer grains is in the days already.
                if grain <= Grain::Day.number() {
                    let day = Grain::Day.start(cell.start);
                    let counts = cell.totals.counts.numbers();
                    add_day(
                        print,
                        (day, cell.platform),
                        [cell.totals.events.get()].into_iter().chain(counts),
                    );
                }
            }
        }
    }
    Ok(prints)
}

/// The same of the tables that parts replace.
fn fingerprints_of_tables(connection: &mut PgConnection) -> Result<Fingerprints, StoreError> {
    #[derive(QueryableByName)]
    struct Day {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Timestamptz)]
        day: Timestamp,
        #[diesel(sql_type = SmallInt)]
        platform: i16,
        #[diesel(sql_type = Array<BigInt>)]
        numbers: Vec<i64>,
    }
    #[derive(QueryableByName)]
    struct Total {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Timestamptz)]
        min_event_time: Timestamp,
        #[diesel(sql_type = Timestamptz)]
        max_event_time: Timestamp,
    }
    let mut prints = Fingerprints::new();
    let days = sql_query(
        "SELECT campaign_id, day, platform,
             ARRAY[events, impressions, clicks, conversions * 1000000, cost_micros, revenue_micros] AS numbers
         FROM metrics_by_day",
    );
    for row in days.load_iter::<Day, PgRowByRowLoadingMode>(connection)? {
        let row = row?;
        let (print, ..) = print_of(&mut prints, &row.campaign_id);
        add_day(
            print,
            (row.day, row.platform as u8),
            row.numbers.into_iter(),
        );
    }
    let totals = sql_query("SELECT campaign_id, min_event_time, max_event_time FROM metrics_total");
    for row in totals.load_iter::<Total, PgRowByRowLoadingMode>(connection)? {
        let row = row?;
        let (_, first, last) = print_of(&mut prints, &row.campaign_id);
        (*first, *last) = (
            (*first).min(row.min_event_time),
            (*last).max(row.max_event_time),
        );
    }
    Ok(prints)
}

fn print_of<'a>(
    prints: &'a mut Fingerprints,
    campaign: &str,
) -> &'a mut (u64, Timestamp, Timestamp) {
    prints
        .entry(campaign.to_owned())
        .or_insert((0, Timestamp::MAX, Timestamp::MIN))
}

fn add_day(print: &mut u64, (day, platform): (Timestamp, u8), numbers: impl Iterator<Item = i64>) {
    for (field, number) in (0_u64..).zip(numbers) {
        let weight = FixedState::default().hash_one((day.get(), platform, field)) | 1;
        *print = print.wrapping_add(weight.wrapping_mul(number.cast_unsigned()));
    }
}

/// Locks tables, or gives up after `patience`; `false` then, and the transaction goes on. The
/// server says so in its own language, so the answer is asked for rather than read from the error.
pub(super) fn try_lock(
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
