//! What is held against what.

use std::time::{Duration, Instant};

use adflux::event::{Count, Counts};
use adflux::kafka::producer;
use adflux::simulator::Ledger;
use adflux::store::keep::rebuild;
use adflux::totals::Totals;
use anyhow::{Context as _, bail};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::Size;
use crate::database::Database;
use crate::measured::{Run, measure, measure_together};
use crate::table::{Goal, Table};
use crate::topic::Topic;

const CAMPAIGNS: u32 = 100;
const SEED: u64 = 7;

/// A topic counted for the first time, beside a bare consumer and without the guards; then what can be
/// asked of the same database: a start with much stored, a replay, a rebuild.
pub fn counting(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let topic = Topic::create()?;
    let events = size.events;
    let (sent, _) = topic.fill(SEED, CAMPAIGNS, events)?;
    let (mut polls, mut counts, mut unguarded) = (Vec::new(), Vec::new(), Vec::new());
    let mut kept = None;
    for round in 1..=size.rounds {
        polls.push(measure(
            &topic,
            "poll",
            &format!("poll-{round}"),
            &["--events", &events.to_string()],
        )?);
        let count = |name: &str, more: &[&str]| -> anyhow::Result<(Run, Database)> {
            let database = Database::create(&format!("{name}_{round}"));
            let args = [&["--database-url", &database.url], more].concat();
            let run = measure(&topic, "count", &format!("{name}-{round}"), &args)?;
            check(&mut database.connect(), sent.ledger.totals()?)?;
            Ok((run, database))
        };
        let (run, database) = count("guarded", &[])?;
        counts.push(run);
        unguarded.push(count("unguarded", &["--unguarded"])?.0);
        kept = Some((format!("guarded-{round}"), database));
        eprintln!("round {round}: {:?}", counts.last());
    }
    let rate = |runs: &[Run]| median(runs.iter().map(Run::rate));
    let pipeline = rate(&counts);
    table.line(
        "whole pipeline",
        pipeline / rate(&polls),
        " ×",
        Goal::AtLeast(0.45),
        format!(
            "{pipeline:.0}/s counted, {:.0}/s polled by a bare BaseConsumer",
            rate(&polls)
        ),
    );
    table.line(
        "the exactly-once tax",
        pipeline / rate(&unguarded),
        " ×",
        Goal::AtLeast(0.90),
        format!(
            "{:.0}/s without positions, fence and duplicate check",
            rate(&unguarded)
        ),
    );
    table.line(
        "the writers' share",
        median(counts.iter().map(|run| run.seconds_writing / run.seconds)),
        "",
        Goal::None,
        format!(
            "transactions under way at a time, {:.0} events each",
            median(
                counts
                    .iter()
                    .map(|run| run.records as f64 / run.transactions as f64)
            )
        ),
    );
    let cpu: Option<Vec<f64>> = counts
        .iter()
        .map(|run| Some(run.cpu_seconds? / run.records as f64 * 1e6))
        .collect();
    if let Some(cpu) = cpu {
        table.line(
            "the processor's own time",
            median(cpu),
            " µs",
            Goal::None,
            "of a core, each event",
        );
    }
    let peak = peak(&counts);
    if let Some(peak) = peak {
        table.line(
            "peak memory of the processor",
            peak,
            " MB",
            Goal::AtMost(200.0),
            format!("at full speed, {events} events behind"),
        );
    }
    let (group, database) = kept.context("no round was run")?;
    afterwards(size, &topic, &group, &database, pipeline, table)
}

/// With the whole topic counted.
fn afterwards(
    size: Size,
    topic: &Topic,
    group: &str,
    database: &Database,
    pipeline: f64,
    table: &mut Table,
) -> anyhow::Result<()> {
    let count = || measure(topic, "count", group, &["--database-url", &database.url]);
    // New ones, so few that the time is that of the start.
    let few = 1_000;
    topic.fill(SEED + 1, CAMPAIGNS, few)?;
    let run = count()?;
    table.line(
        "start to first commit",
        run.seconds_to_commit.context("nothing was committed")?,
        " s",
        Goal::AtMost(1.0),
        format!("of a process with {} events stored", size.events),
    );
    let started = Instant::now();
    let rebuilt = rebuild::rebuild(&database.url, &mut |_, _| {})?;
    let rate = rebuilt.events as f64 / started.elapsed().as_secs_f64();
    table.line(
        "rebuild from the event store",
        rate / pipeline,
        " ×",
        Goal::AtLeast(2.0),
        format!("{rate:.0}/s, beside the pipeline's {pipeline:.0}/s"),
    );
    topic.fill(SEED, CAMPAIGNS, size.events)?;
    let run = count()?;
    table.line(
        "replay of a topic already counted",
        run.rate() / pipeline,
        " ×",
        Goal::AtLeast(0.5),
        format!("{:.0}/s, all duplicates", run.rate()),
    );
    Ok(())
}

/// The same with ever more campaigns, a row of each projection for each that a batch has: as the reports
/// come, and as a backlog of a thousand a second, where nearly each event has a minute of its own.
pub fn campaigns(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let events = size.events.min(if size.quick { 50_000 } else { 2_000_000 });
    // Each of the others takes longer than all of these together.
    let rounds = |campaigns: u32| {
        if campaigns > 10_000 {
            1
        } else {
            size.rounds.min(3)
        }
    };
    let live = |campaigns: u32| -> anyhow::Result<Cost> {
        let topic = Topic::create()?;
        let sent = topic.fill_live(SEED, campaigns, events)?;
        Cost::measure(&topic, &sent.ledger, campaigns, rounds(campaigns))
    };
    let backlog = |campaigns: u32, events: u64| -> anyhow::Result<Cost> {
        let topic = Topic::create()?;
        let (sent, _) = topic.fill(SEED, campaigns, events)?;
        Cost::measure(&topic, &sent.ledger, campaigns, rounds(campaigns))
    };
    let base = live(100)?;
    let mut line = |what: String, cost: &Cost, goal: Goal| {
        table.line(
            what,
            cost.rate / base.rate,
            " ×",
            goal,
            format!(
                "{:.0}/s, beside {:.0}/s with 100; {events} events, peak memory {:.0} MB",
                cost.rate, base.rate, cost.peak
            ),
        );
    };
    let many = [
        (10_000, 0.8, 57.0),
        (100_000, 0.45, 101.0),
        (1_000_000, 0.25, 157.0),
    ]
    .map(|(campaigns, rate, wal)| Ok((campaigns, live(campaigns)?, rate, wal)))
    .into_iter()
    .collect::<anyhow::Result<Vec<_>>>()?;
    for (campaigns, cost, rate, _) in &many {
        line(format!("{campaigns} campaigns"), cost, Goal::AtLeast(*rate));
    }
    line(
        "10000 campaigns, a backlog of 1,000/s".to_owned(),
        &backlog(10_000, events)?,
        Goal::None,
    );
    for (campaigns, cost, _, wal) in &many {
        table.line(
            format!("what {campaigns} campaigns write, each event"),
            cost.wal,
            " bytes of WAL",
            Goal::AtMost(*wal),
            format!("and {:.0} bytes of tables and indexes", cost.room),
        );
    }
    let far_behind = if size.quick { events } else { events * 10 };
    table.line(
        "memory with 1000000 campaigns and a long backlog",
        backlog(1_000_000, far_behind)?.peak,
        " MB",
        Goal::AtMost(512.0),
        format!("{far_behind} events behind"),
    );
    Ok(())
}

/// What counting a topic takes.
struct Cost {
    /// Events a second.
    rate: f64,
    /// Megabytes.
    peak: f64,
    /// Bytes of each event, of what PostgreSQL logs, and of its tables and indexes as they are left.
    wal: f64,
    room: f64,
}

impl Cost {
    fn measure(
        topic: &Topic,
        sent: &Ledger,
        campaigns: u32,
        rounds: usize,
    ) -> anyhow::Result<Cost> {
        let (mut runs, mut wal, mut room) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=rounds {
            let group = format!("{campaigns}-{round}");
            let database = Database::create(&format!("campaigns_{campaigns}_{round}"));
            let mut connection = database.connect();
            let (logged, stored) = written(&mut connection)?;
            let args = ["--database-url", database.url.as_str()];
            let run = measure(topic, "count", &group, &args)?;
            let (logged_then, stored_then) = written(&mut connection)?;
            wal.push((logged_then - logged) as f64 / run.records as f64);
            room.push((stored_then - stored) as f64 / run.records as f64);
            check(&mut connection, sent.totals()?)?;
            runs.push(run);
        }
        Ok(Cost {
            rate: median(runs.iter().map(Run::rate)),
            peak: peak(&runs).unwrap_or_default(),
            wal: median(wal),
            room: median(room),
        })
    }
}

/// Bytes that the server has logged, and that the tables of this database and their indexes take.
pub fn written(connection: &mut PgConnection) -> anyhow::Result<(i64, i64)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        logged: i64,
        #[diesel(sql_type = BigInt)]
        stored: i64,
    }
    let row: Row = sql_query(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS logged,
             (SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables)::bigint AS stored",
    )
    .get_result(connection)?;
    Ok((row.logged, row.stored))
}

/// One, two and four processors that share a topic.
pub fn processors(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let topic = Topic::create()?;
    let events = size.events.min(2_000_000);
    let (sent, _) = topic.fill(SEED, CAMPAIGNS, events)?;
    let mut alone = None;
    for processors in [1, 2, 4] {
        let (mut rates, mut cpu) = (Vec::new(), Vec::new());
        for round in 1..=size.rounds.min(3) {
            let database = Database::create(&format!("shared_{processors}_{round}"));
            let group = format!("shared-{processors}-{round}");
            let args = ["--database-url", database.url.as_str()];
            let runs = measure_together(&topic, processors, "count", &group, &args)?;
            check(&mut database.connect(), sent.ledger.totals()?)?;
            let counted: Vec<&Run> = runs.iter().filter(|run| run.records > 0).collect();
            let ends = counted.iter().map(|run| run.began + run.seconds);
            let last = ends.fold(0.0, f64::max);
            let first = counted.iter().map(|run| run.began).fold(last, f64::min);
            rates.push(events as f64 / (last - first));
            cpu.push(runs.iter().filter_map(|run| run.cpu_seconds).sum());
        }
        let (rate, cpu) = (median(rates), median(cpu));
        let alone = *alone.get_or_insert(rate);
        table.line(
            match processors {
                1 => "1 processor".to_owned(),
                more => format!("{more} processors"),
            },
            rate / alone,
            " ×",
            Goal::None,
            format!("{rate:.0}/s, {cpu:.1} CPU seconds of all of them for {events} events"),
        );
    }
    Ok(())
}

/// The simulator beside a loop that sends the same bytes again and again.
pub fn simulator(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let events = size.events.min(2_000_000);
    let (mut simulated, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds.min(3) {
        let topic = Topic::create()?;
        // The topic is there for both of them.
        topic.fill(SEED, CAMPAIGNS, 0)?;
        let (_, took) = topic.fill(SEED, CAMPAIGNS, events)?;
        simulated.push(events as f64 / took.as_secs_f64());
        bare.push(events as f64 / send_constant(&topic, events)?.as_secs_f64());
    }
    let (simulated, bare) = (median(simulated), median(bare));
    table.line(
        "simulator",
        simulated / bare,
        " ×",
        Goal::AtLeast(0.8),
        format!("{simulated:.0}/s, beside {bare:.0}/s of constant bytes"),
    );
    Ok(())
}

/// Sends one record, of an event's size, so many times.
fn send_constant(topic: &Topic, events: u64) -> anyhow::Result<Duration> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        producer::properties(&topic.cluster).create()?;
    let (key, value) = ([b'c'; 6], [0; 67]);
    let started = Instant::now();
    for n in 0..events {
        // As many keys, so that the partitions are used as well.
        let mut key = key;
        key[5] = (n % 100) as u8;
        send(
            &producer,
            BaseRecord::to(&topic.name).key(&key).payload(&value[..]),
        )?;
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(started.elapsed())
}

/// Waits for room where there is none.
pub fn send<K: ToBytes + ?Sized>(
    producer: &ThreadedProducer<DefaultProducerContext>,
    mut record: BaseRecord<'_, K, [u8]>,
) -> anyhow::Result<()> {
    while let Err((error, back)) = producer.send(record) {
        if !matches!(
            error,
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
        ) {
            return Err(error.into());
        }
        record = back;
        producer.poll(Duration::from_millis(5));
    }
    Ok(())
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn peak(runs: &[Run]) -> Option<f64> {
    runs.iter()
        .map(|run| run.peak_mb)
        .max_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))?
}

/// What was counted must be what was sent.
pub fn check(connection: &mut PgConnection, sent: Totals) -> anyhow::Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        events: i64,
        #[diesel(sql_type = BigInt)]
        impressions: i64,
        #[diesel(sql_type = BigInt)]
        clicks: i64,
        #[diesel(sql_type = BigInt)]
        conversions: i64,
        #[diesel(sql_type = BigInt)]
        cost_micros: i64,
        #[diesel(sql_type = BigInt)]
        revenue_micros: i64,
        #[diesel(sql_type = BigInt)]
        stored: i64,
    }
    let row: Row = sql_query(
        "SELECT sum(events)::bigint AS events, sum(impressions)::bigint AS impressions, sum(clicks)::bigint AS clicks, \
             (sum(conversions) * 1000000)::bigint AS conversions, sum(cost_micros)::bigint AS cost_micros, \
             sum(revenue_micros)::bigint AS revenue_micros, \
             (SELECT sum(event_count) FROM event_blocks)::bigint AS stored \
         FROM metrics_total",
    )
    .get_result(connection)?;
    let counted = Totals {
        events: Count::new(row.events),
        counts: Counts::of([
            row.impressions,
            row.clicks,
            row.conversions,
            row.cost_micros,
            row.revenue_micros,
        ]),
    };
    if counted != sent || row.stored != sent.events.get() {
        bail!(
            "the pipeline miscounted: {} events stored, {counted:?} counted, but {sent:?} sent",
            row.stored
        );
    }
    Ok(())
}
