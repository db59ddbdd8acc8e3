//! What the event store takes: to append, to keep, and as it grows.

use std::io::Write as _;
use std::time::{Duration, Instant};

use adflux::offset::Offset;
use adflux::store::events::Columns;
use adflux::store::keep::merge;
use adflux::store::keep::verify;
use adflux::store::write::append;
use adflux::store::write::batch::Filled;
use anyhow::{Context as _, bail, ensure};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use crate::Size;
use crate::cases::{check, median};
use crate::database::Database;
use crate::delivery::{COMMIT, FENCE, Store, share};
use crate::measured::measure;
use crate::table::{Goal, Table};
use crate::topic::Topic;

diesel::table! {
    /// What one would store without blocks.
    event_rows (stream_id, offset) {
        stream_id -> Integer,
        offset -> BigInt,
        event_id -> Uuid,
        campaign_id -> Text,
        platform -> SmallInt,
        event_time -> Timestamptz,
        impressions -> BigInt,
        clicks -> BigInt,
        conversions -> BigInt,
        cost_micros -> BigInt,
        revenue_micros -> BigInt,
    }
}

const EVENT_ROWS: &str = "CREATE TABLE event_rows (
    stream_id integer NOT NULL, \"offset\" bigint NOT NULL, event_id uuid NOT NULL, campaign_id text NOT NULL,
    platform smallint NOT NULL, event_time timestamptz NOT NULL, impressions bigint NOT NULL, clicks bigint NOT NULL,
    conversions bigint NOT NULL, cost_micros bigint NOT NULL, revenue_micros bigint NOT NULL,
    PRIMARY KEY (stream_id, \"offset\"))";

/// The event store's way into PostgreSQL, beside rows through text COPY: the same events made
/// durable in one transaction, in turn, with a primary key by stream and offset either way. COPY
/// gets its text ready-made, in its favour.
pub fn append(size: Size, table: &mut Table) -> anyhow::Result<()> {
    const EVENTS: usize = 50_000;
    let mut store = Store::create("append");
    store.connection.batch_execute(EVENT_ROWS)?;
    let share = share(store.stream, FENCE, EVENTS, 100);
    let mut events = share.events.clone();
    let (mut as_blocks, mut as_rows) = (Vec::new(), Vec::new());
    let mut offset = 0;
    for _ in 0..if size.quick { 2 } else { 40 } {
        offset = renumber(&mut events, offset);
        as_blocks.push(timed(|| {
            store
                .connection
                .transaction(|c| append::append(c, &share, &events, &[], COMMIT))
        })?);
        let text = as_text(&share, &events)?;
        as_rows.push(timed(|| {
            diesel::copy_from(event_rows::table)
                .from_raw_data(event_rows::table, |copy| {
                    copy.write_all(&text)
                        .map_err(|e| DieselError::SerializationError(e.into()))
                })
                .execute(&mut store.connection)
        })?);
    }
    let (blocks, rows) = (median(as_blocks), median(as_rows));
    table.line(
        "event-store append",
        rows / blocks,
        " ×",
        Goal::AtLeast(3.5),
        format!(
            "{EVENTS} events a commit: {:.1} ms as blocks, {:.1} ms as rows by text COPY",
            blocks * 1e3,
            rows * 1e3
        ),
    );
    Ok(())
}

/// Seconds that something takes.
fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<f64, E> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

/// Gives the events the next offsets; returns the one after them.
fn renumber(events: &mut Columns, first: i64) -> i64 {
    for (offset, next) in events.offset.iter_mut().zip(first..) {
        *offset = Offset::new(next);
    }
    first + events.len() as i64
}

fn as_text(share: &Filled, e: &Columns) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    for row in 0..e.len() {
        let c = e.counts(row);
        let time = e.event_time[row].datetime().context("a time")?;
        writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            share.stream,
            e.offset[row],
            e.event_id[row],
            share.campaigns[e.campaign[row] as usize],
            e.platform[row],
            time.to_rfc3339(),
            c.impressions,
            c.clicks,
            c.conversions,
            c.cost_micros,
            c.revenue_micros
        )?;
    }
    Ok(text)
}

/// Ten events a second, four seconds of them a block, until small blocks are merged; beside the same events
/// counted in full batches. Commits get the times of their events.
pub fn trickle(size: Size, table: &mut Table) -> anyhow::Result<()> {
    const PER_SECOND: u32 = 10;
    let hours = if size.quick { 1 } else { 24 };
    let span = Duration::from_secs(3_600 * hours);
    let topic = Topic::create()?;
    let sent = topic.fill_span(3, 100, PER_SECOND, span)?;
    let events = sent
        .ledger
        .totals()
        .context("the ledger overflowed")?
        .events;
    let count = |name: &str, more: &[&str]| -> anyhow::Result<Database> {
        let database = Database::create(name);
        let args = [&["--database-url", &database.url], more].concat();
        measure(&topic, "count", name, &args)?;
        check(&mut database.connect(), sent.ledger.totals()?)?;
        Ok(database)
    };
    let full = count("full", &[])?;
    let full_bytes = bytes(&mut full.connect())?;
    let trickle = count(
        "trickle",
        &[
            "--batch-records",
            if size.quick { "100" } else { "40" },
            "--transactions",
            "1",
        ],
    )?;
    let mut connection = trickle.connect();
    connection.batch_execute(
        "UPDATE event_blocks SET committed_at = max_event_time; ANALYZE event_blocks",
    )?;
    let blocks = "SELECT count(*) AS n FROM event_blocks";
    let (blocks_before, answers) = (number(&mut connection, blocks)?, answers(&mut connection)?);
    let started = Instant::now();
    while merge::merge_some(&mut connection, Duration::ZERO)?.more {}
    let took = started.elapsed();
    let blocks_after = number(&mut connection, blocks)?;
    ensure!(blocks_after < blocks_before, "nothing was merged");
    ensure!(
        self::answers(&mut connection)? == answers,
        "merging changed what is answered"
    );
    if let Err(difference) = verify::verify(&mut connection, &|_| {})? {
        bail!("after merging, {difference}");
    }
    let merged_bytes = bytes(&mut connection)?;
    let each = |bytes: i64| bytes as f64 / events.as_f64();
    table.line(
        "trickle, after merging",
        merged_bytes as f64 / full_bytes as f64,
        " ×",
        Goal::AtMost(2.0),
        format!(
            "{hours} h of {PER_SECOND} events/s: {blocks_before} blocks merged into {blocks_after} in {:.0} s, {:.0} bytes an event beside {:.0} in full blocks",
            took.as_secs_f64(),
            each(merged_bytes),
            each(full_bytes)
        ),
    );
    Ok(())
}

/// What the event store takes on disk, with its indexes, when no space in it is free.
fn bytes(connection: &mut PgConnection) -> anyhow::Result<i64> {
    connection.batch_execute("VACUUM FULL event_blocks")?;
    number(
        connection,
        "SELECT sum(pg_total_relation_size(relid))::bigint AS n FROM pg_partition_tree('event_blocks')",
    )
}

fn number(connection: &mut PgConnection, query: &str) -> anyhow::Result<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    Ok(sql_query(query).get_result::<Row>(connection)?.n)
}

/// All events, as those who ask the event store see them.
fn answers(connection: &mut PgConnection) -> anyhow::Result<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        hash: String,
    }
    let all =
        "SELECT sum(hashtextextended((e.*)::text, 0)::numeric)::text AS hash FROM ad_events AS e";
    Ok(sql_query(all).get_result::<Row>(connection)?.hash)
}

/// The same number of events when the store is new and when it has grown; and what a backlog takes of
/// memory, and one ten times as long. Events come in the order of their times.
pub fn growth(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let few = if size.quick { 10_000 } else { size.events };
    let many = few * 12;
    let topic = Topic::create()?;
    let database = Database::create("growth");
    let (mut seed, mut stored) = (100, 0);
    let mut count = |events: u64| {
        seed += 1;
        topic.fill_after(stored, seed, 100, events)?;
        stored += events;
        measure(
            &topic,
            "count",
            "growth",
            &["--database-url", &database.url],
        )
    };
    let first = count(few)?;
    let most = count(few * 10)?;
    let last = count(few)?;
    if let Some((before, most)) = first.peak_mb.zip(most.peak_mb) {
        table.line(
            "memory with ten times the backlog",
            most / before,
            " ×",
            Goal::AtMost(1.1),
            format!("{most:.0} MB with {} events behind", few * 10),
        );
    }
    let each = |seconds: f64| seconds / few as f64 * 1e6;
    table.line(
        format!("cost of an event with {many} stored"),
        last.seconds / first.seconds,
        " ×",
        Goal::AtMost(1.1),
        format!(
            "{:.2} µs, and {:.2} µs of a core, each of the last {few}; {:.2} and {:.2} of the first",
            each(last.seconds),
            each(last.cpu_seconds.unwrap_or(f64::NAN)),
            each(first.seconds),
            each(first.cpu_seconds.unwrap_or(f64::NAN)),
        ),
    );
    Ok(())
}
