//! The whole pipeline, from a Kafka topic to committed sums in PostgreSQL, as a share of what a
//! consumer that does nothing at all reaches.
//!
//! `make bench` runs it. One topic is filled once; then, in turn and several times, each in a
//! process of its own:
//!
//! - a bare `BaseConsumer` polls all of it, with the processor's own consumer configuration;
//! - the processor counts all of it into a fresh database, as `adflux process --until-end` does.
//!
//! Both clocks run from the first record that was polled to the last that was polled (or, for the
//! processor, committed). What comes before the first record, joining the group and claiming the
//! partitions, is the same for ten events as for ten million, and stands in a column of its own.
//!
//! Fails if the sums are not those of the simulator's ledger.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use adflux::config::{DatabaseArgs, KafkaArgs, ProcessArgs, SchemaArgs};
use adflux::event::Counts;
use adflux::kafka::{Cluster, consumer};
use adflux::simulate::{self, Rate};
use adflux::simulator::{self, Faults, Ledger};
use adflux::totals::Totals;
use adflux::{codec, metrics, processor};
use anyhow::{Context as _, bail, ensure};
use clap::{Parser, Subcommand};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

mod database;
use database::{Database, service};

const PARTITIONS: i32 = 4;

/// What issue and papers ask of the pipeline: at least this share of the bare poll.
const GOAL: f64 = 0.30;

#[derive(Parser)]
struct Args {
    /// Events in the topic
    #[arg(long, env = "ADFLUX_BENCH_EVENTS", default_value_t = 2_000_000)]
    events: u64,
    /// How often each is measured; the medians are shown
    #[arg(long, env = "ADFLUX_BENCH_ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// Campaigns the events are of
    #[arg(long, env = "ADFLUX_BENCH_CAMPAIGNS", default_value_t = 100)]
    campaigns: u32,
    /// Few events, once: shows that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    measured: Option<Measured>,
}

/// What runs in a process of its own.
#[derive(Subcommand)]
enum Measured {
    #[command(hide = true)]
    Poll {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        process: ProcessArgs,
        #[arg(long)]
        events: u64,
    },
    #[command(hide = true)]
    Count {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        process: ProcessArgs,
    },
}

/// What such a process says of itself.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Run {
    events: i64,
    /// From the first record to the last.
    seconds: f64,
    /// From the start of the process.
    seconds_with_start: f64,
    /// The part of `seconds` that the writer thread spent on its transactions.
    seconds_writing: Option<f64>,
    transactions: Option<u64>,
    /// User and system time of all threads, where the system tells.
    cpu_seconds: Option<f64>,
    /// Where the system tells.
    peak_mib: Option<f64>,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,rdkafka=off"))
        .init();
    let started = Instant::now();
    let args = Args::parse();
    let done = match &args.measured {
        None => compare(&args),
        Some(measured) => measure(measured, started).and_then(|run| {
            println!("{}", serde_json::to_string(&run)?);
            Ok(())
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> anyhow::Result<()> {
    let (events, rounds) = if args.quick {
        (args.events.min(200_000), 1)
    } else {
        (args.events, args.rounds.max(1))
    };
    service("DATABASE_URL");
    let topic = Topic::create()?;
    let produced = Instant::now();
    let sent = simulate::run(
        &simulate::Settings {
            cluster: topic.cluster.clone(),
            topic: topic.name.clone(),
            partitions: PARTITIONS,
            replication: 1,
            simulator: simulator::Settings {
                seed: 7,
                campaigns: args.campaigns,
                faults: Faults::default(),
                schema_id: codec::SCHEMA_ID,
            },
            rate: Rate::Max,
            count: Some(events),
            backfill: Duration::ZERO,
            start: None,
        },
        &AtomicBool::new(false),
        &|_| true,
    )?;
    ensure!(
        sent.failed == 0,
        "{} records were not delivered",
        sent.failed
    );
    let produced = events as f64 / produced.elapsed().as_secs_f64();

    let (mut polls, mut counts) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let poll = topic.measure("poll", round, &["--events", &events.to_string()])?;
        let database = Database::create(&format!("pipeline_{round}"));
        let count = topic.measure("count", round, &["--database-url", &database.url])?;
        check(&mut database.connect(), &sent.ledger)?;
        eprintln!(
            "round {round} of {rounds}: bare poll {:.0} events/s, pipeline {:.0} events/s ({:.2} ×)",
            poll.rate(),
            count.rate(),
            count.rate() / poll.rate(),
        );
        polls.push(poll);
        counts.push(count);
    }
    println!(
        "\nThe whole pipeline: {events} events of {} campaigns on {PARTITIONS} partitions (sent at {produced:.0}/s), \
         medians of {rounds}\n",
        args.campaigns
    );
    print!("{}", table(&polls, &counts));
    Ok(())
}

fn table(polls: &[Run], counts: &[Run]) -> String {
    let mut text = format!(
        "{:<12}{:>12}{:>14}{:>20}{:>16}{:>14}\n",
        "", "events/s", "× bare poll", "events/s with start", "CPU µs/event", "peak memory"
    );
    let poll_rate = median(polls, |run| Some(run.rate()));
    for (name, runs) in [("bare poll", polls), ("pipeline", counts)] {
        let rate = median(runs, |run| Some(run.rate()));
        let show = |value: Option<f64>, digits: usize, unit: &str| {
            value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}{unit}"))
        };
        let _ = writeln!(
            text,
            "{name:<12}{:>12}{:>14}{:>20}{:>16}{:>14}",
            show(rate, 0, ""),
            show(rate.zip(poll_rate).map(|(a, b)| a / b), 2, ""),
            show(
                median(runs, |r| Some(r.events as f64 / r.seconds_with_start)),
                0,
                ""
            ),
            show(
                median(runs, |r| Some(r.cpu_seconds? / r.events as f64 * 1e6)),
                2,
                ""
            ),
            show(median(runs, |r| r.peak_mib), 0, " MiB"),
        );
    }
    let ratios: Vec<f64> = polls
        .iter()
        .zip(counts)
        .map(|(p, c)| c.rate() / p.rate())
        .collect();
    let _ = writeln!(
        text,
        "\nround by round × {}: at least {GOAL:.2} is wanted",
        ratios
            .iter()
            .map(|r| format!("{r:.2}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    if let (Some(share), Some(size)) = (
        median(counts, |r| Some(r.seconds_writing? / r.seconds)),
        median(counts, |r| Some(r.events as f64 / r.transactions? as f64)),
    ) {
        let _ = writeln!(
            text,
            "the writer thread was busy {:.0} % of the time, with {size:.0} events a transaction",
            share * 100.0
        );
    }
    text
}

impl Run {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A topic of the benchmark's own; deleted with this value.
struct Topic {
    cluster: Cluster,
    name: String,
}

impl Topic {
    /// Only thinks up its name: the simulator creates it.
    fn create() -> anyhow::Result<Topic> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        Ok(Topic {
            cluster: Cluster {
                brokers: service("KAFKA_BROKERS"),
                properties: Vec::new(),
            },
            name: format!("adflux-bench-{}", now.as_millis()),
        })
    }

    /// Runs this program again, as one of [`Measured`].
    fn measure(&self, what: &str, round: usize, more: &[&str]) -> anyhow::Result<Run> {
        let output = Command::new(std::env::current_exe()?)
            .args([
                what,
                "--brokers",
                &self.cluster.brokers,
                "--topic",
                &self.name,
            ])
            .args(["--group", &format!("{}-{what}-{round}", self.name)])
            .args(more)
            .stderr(std::process::Stdio::inherit())
            .output()?;
        ensure!(
            output.status.success(),
            "'{what}' failed: {}",
            output.status
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("what '{what}' said"))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let delete = || -> anyhow::Result<()> {
            let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
                .set("bootstrap.servers", &self.cluster.brokers)
                .create()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(admin.delete_topics(&[&self.name], &AdminOptions::new()))?;
            Ok(())
        };
        if let Err(error) = delete() {
            eprintln!("topic {} was left behind: {error:#}", self.name);
        }
    }
}

/// What was counted must be what was sent.
fn check(connection: &mut PgConnection, ledger: &Ledger) -> anyhow::Result<()> {
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
             sum(conversions)::bigint AS conversions, sum(cost_micros)::bigint AS cost_micros, \
             sum(revenue_micros)::bigint AS revenue_micros, \
             (SELECT sum(event_count) FROM event_blocks)::bigint AS stored \
         FROM metrics_total",
    )
    .get_result(connection)?;
    let counted = Totals {
        events: row.events,
        counts: Counts {
            impressions: row.impressions,
            clicks: row.clicks,
            conversions: row.conversions,
            cost_micros: row.cost_micros,
            revenue_micros: row.revenue_micros,
        },
    };
    let sent = ledger.totals().context("the ledger overflowed")?;
    if counted != sent || row.stored != sent.events {
        bail!(
            "the pipeline miscounted: {} events stored, {counted:?} counted, but {sent:?} sent",
            row.stored
        );
    }
    Ok(())
}

fn measure(what: &Measured, started: Instant) -> anyhow::Result<Run> {
    let run = match what {
        Measured::Poll {
            kafka,
            process,
            events,
        } => poll(kafka, process, *events)?,
        Measured::Count {
            kafka,
            schema,
            database,
            process,
        } => {
            let settings = processor::Settings {
                until_end: true,
                ..process.settings(kafka, database, *schema)
            };
            let report = processor::run(&settings, &AtomicBool::new(false), None)?;
            Run {
                seconds_writing: Some(metrics::BATCH_SECONDS.get_sample_sum()),
                transactions: Some(report.batches),
                ..Run::of(report.events, report.reading)
            }
        }
    };
    Ok(Run {
        seconds_with_start: started.elapsed().as_secs_f64(),
        ..run
    })
}

/// The least that any consumer must do.
fn poll(kafka: &KafkaArgs, process: &ProcessArgs, events: u64) -> anyhow::Result<Run> {
    let consumer: BaseConsumer =
        consumer::properties(&kafka.cluster(), &process.group, process.session_timeout).create()?;
    let mut from_start = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from_start.add_partition_offset(&kafka.topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&from_start)?;
    let mut first = None;
    let mut left = events;
    while left > 0 {
        match consumer.poll(Duration::from_secs(10)) {
            Some(Ok(message)) => {
                first.get_or_insert_with(Instant::now);
                black_box((message.key(), message.payload()));
                left -= 1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error).context("polling"),
            None => bail!("{left} records never came"),
        }
    }
    let took = first.map_or(Duration::ZERO, |at| at.elapsed());
    Ok(Run::of(i64::try_from(events)?, took))
}

impl Run {
    fn of(events: i64, took: Duration) -> Run {
        let (cpu_seconds, peak_mib) = (cpu_seconds(), peak_mib());
        Run {
            events,
            seconds: took.as_secs_f64(),
            seconds_with_start: 0.0,
            seconds_writing: None,
            transactions: None,
            cpu_seconds,
            peak_mib,
        }
    }
}

/// Fields 14 and 15 of `/proc/self/stat` (proc(5)), which count hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, and may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / 100.0)
}

fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let values: BTreeMap<&str, &str> = status.lines().filter_map(|l| l.split_once(':')).collect();
    let kib = values.get("VmHWM")?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<f64>().ok()? / 1024.0)
}
