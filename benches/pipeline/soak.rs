//! Whether the sums stay as they are under a live load: how many parts, how much room, how long reading takes.

use std::time::{Duration, Instant};

use adflux::store::sums::backlog::backlog;
use adflux::time::Timestamp;
use anyhow::{Context as _, ensure};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;

use crate::Size;
use crate::cases::median;
use crate::database::Database;
use crate::serving::{Server, ask_all, quantile, wrk};
use crate::table::{Goal, Table};
use crate::topic::Topic;

/// Events a second.
const RATE: u32 = 10_000;
/// Questions of each sample.
const ASKED: usize = 9;

/// What there is at one moment.
#[derive(Debug)]
struct Sample {
    parts: f64,
    waiting: f64,
    dead_chunks: f64,
    /// Megabytes of the sums' tables and indexes, and bytes of it for each sum that is in a part.
    room: f64,
    of_each: f64,
    /// Milliseconds, not cached: the list of the last hour, and one campaign's.
    list: f64,
    campaign: f64,
}

/// Minutes of it, by `ADFLUX_BENCH_SOAK_MINUTES`.
pub fn soak(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let minutes = match std::env::var("ADFLUX_BENCH_SOAK_MINUTES") {
        Ok(given) => given.parse().context("ADFLUX_BENCH_SOAK_MINUTES")?,
        Err(_) => 6,
    };
    let (campaigns, samples, between) = if size.quick {
        (100, 3, Duration::from_secs(2))
    } else {
        (10_000, minutes, Duration::from_secs(60))
    };
    let topic = Topic::create()?;
    let database = Database::create("soak");
    let (rate, count) = (RATE.to_string(), campaigns.to_string());
    let server = Server::start(
        "run",
        &topic,
        &database,
        &["--rate", &rate, "--campaigns", &count],
    )?;
    let mut connection = database.connect();
    let began = Instant::now();
    let mut curve: Vec<Sample> = Vec::new();
    eprintln!("minute  parts  waiting  dead chunks     MB  bytes/sum  list ms  campaign ms");
    for number in 1..=samples {
        std::thread::sleep((between * number).saturating_sub(began.elapsed()));
        let sample = sample(&server, &mut connection)?;
        eprintln!(
            "{:6.1} {:6} {:8} {:12} {:6.1} {:10.1} {:8.1} {:12.2}",
            began.elapsed().as_secs_f64() / 60.0,
            sample.parts,
            sample.waiting,
            sample.dead_chunks,
            sample.room,
            sample.of_each,
            sample.list,
            sample.campaign
        );
        curve.push(sample);
    }
    let (early, late) = curve[curve.len() / 3..].split_at((curve.len() - curve.len() / 3) / 2);
    ensure!(
        !early.is_empty() && !late.is_empty(),
        "too few minutes to compare"
    );
    let mut flat = |what: &str, of: fn(&Sample) -> f64, unit: &str| {
        let of_all = |some: &[Sample]| median(some.iter().map(of));
        let (before, after) = (of_all(early), of_all(late));
        table.line(
            format!("{what} under a live load, late beside early"),
            after / before.max(1.0),
            " ×",
            Goal::AtMost(1.25),
            format!(
                "{after:.1}{unit} beside {before:.1}{unit}; {samples} samples, {} apart, {campaigns} campaigns, {RATE} events/s",
                humantime::format_duration(between)
            ),
        );
    };
    flat("parts of sums", |s| s.parts, "");
    flat("room of a sum", |s| s.of_each, " bytes");
    flat("lists of the last hour", |s| s.list, " ms");
    flat("insights of one campaign", |s| s.campaign, " ms");
    // As pg_dump or an export does: nothing that is replaced meanwhile can be cleared away.
    let mut holder = database.connect();
    holder.batch_execute(
        "SET idle_in_transaction_session_timeout = 0;
         BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT FROM stream_positions",
    )?;
    std::thread::sleep(between);
    let held = sample(&server, &mut connection)?;
    holder.batch_execute("ROLLBACK")?;
    for (what, of) in [
        ("lists of the last hour", (|s| s.list) as fn(&Sample) -> f64),
        ("insights of one campaign", |s| s.campaign),
    ] {
        let usual = median(curve.iter().map(of));
        table.line(
            format!("{what} while a snapshot is held"),
            of(&held) / usual,
            " ×",
            Goal::AtMost(2.0),
            format!(
                "{:.1} ms after {}, beside {usual:.1} ms",
                of(&held),
                humantime::format_duration(between)
            ),
        );
    }
    let asked = wrk(&server.url("/campaigns"), if size.quick { 1 } else { 10 })?;
    table.line(
        "lists of all time under that load, p99",
        asked.p99_ms,
        " ms",
        Goal::AtMost(15.0),
        format!("{:.0}/s", asked.rate),
    );
    Ok(())
}

fn sample(server: &Server, connection: &mut PgConnection) -> anyhow::Result<Sample> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        bytes: i64,
        #[diesel(sql_type = BigInt)]
        cells: i64,
    }
    let room: Row = sql_query(
        "SELECT pg_total_relation_size('sum_chunks') + pg_total_relation_size('sum_parts') AS bytes,
             (SELECT COALESCE(sum(cells), 0)::bigint FROM sum_parts) AS cells",
    )
    .get_result(connection)?;
    let backlog = backlog(connection)?;
    let (mut lists, mut campaigns) = (Vec::new(), Vec::new());
    for n in 0..ASKED {
        let now = Timestamp::now().get() / 1_000_000;
        let time = |second: i64| {
            let time = chrono::DateTime::from_timestamp(second, 0).context("a time")?;
            Ok::<_, anyhow::Error>(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
        };
        // Never the same window twice.
        let (since, until) = (time(now - 3_600 - 60 * n as i64)?, time(now + 60)?);
        let limit = "sort=roas&limit=50";
        lists.push(server.url(&format!("/campaigns?since={since}&until={until}&{limit}")));
        campaigns.push(server.url(&format!(
            "/campaign/cmp-{n}/insights?since={since}&until={until}"
        )));
    }
    Ok(Sample {
        parts: backlog.parts.as_f64(),
        waiting: backlog.waiting.as_f64(),
        dead_chunks: backlog.dead_chunks.as_f64(),
        room: room.bytes as f64 / 1e6,
        of_each: room.bytes as f64 / room.cells.max(1) as f64,
        list: quantile(&ask_all(&lists)?, 0.5),
        campaign: quantile(&ask_all(&campaigns)?, 0.5),
    })
}
