//! What runs in a process of its own, and what such a process says of itself.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use adflux::config::{DatabaseArgs, KafkaArgs, ProcessArgs, RegistryArgs, SchemaArgs};
use adflux::kafka::consumer;
use adflux::{guards, metrics, processor, upkeep};
use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use warp::Filter as _;

use crate::topic::{PARTITIONS, Topic};

#[derive(Subcommand)]
pub enum Measured {
    /// The least that any consumer must do.
    #[command(hide = true)]
    Poll {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        process: ProcessArgs,
        #[arg(long)]
        events: u64,
    },
    /// As `adflux process --until-end`.
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
        /// Without positions, fence and duplicate check
        #[arg(long)]
        unguarded: bool,
    },
    /// The same bytes for every request, until it is killed.
    #[command(hide = true)]
    Bare {
        #[arg(long)]
        listen: std::net::SocketAddr,
        #[arg(long)]
        body: std::path::PathBuf,
    },
}

/// What such a process says of itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Run {
    pub records: i64,
    /// From the first record to the last.
    pub seconds: f64,
    /// When the first record came, in seconds since 1970: what the clocks of two processes have in common.
    pub began: f64,
    /// From the start of the process to the first commit, if there was one.
    pub seconds_to_commit: Option<f64>,
    /// The part of `seconds` that the writer thread spent on its transactions.
    pub seconds_writing: f64,
    pub transactions: u64,
    /// User and system time of all threads, where the system tells.
    pub cpu_seconds: Option<f64>,
    /// Where the system tells.
    pub peak_mb: Option<f64>,
}

impl Run {
    fn of(records: i64, took: Duration) -> Run {
        Run {
            records,
            seconds: took.as_secs_f64(),
            began: 0.0,
            seconds_to_commit: None,
            seconds_writing: 0.0,
            transactions: 0,
            cpu_seconds: cpu_seconds(),
            peak_mb: peak_mb(),
        }
    }

    /// Records a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

/// Runs this program again, as one of [`Measured`].
pub fn measure(topic: &Topic, what: &str, group: &str, more: &[&str]) -> anyhow::Result<Run> {
    said(what, start(topic, what, group, more)?)
}

/// The same of several programs at once, which share the topic.
pub fn measure_together(
    topic: &Topic,
    programs: usize,
    what: &str,
    group: &str,
    more: &[&str],
) -> anyhow::Result<Vec<Run>> {
    let all = (0..programs)
        .map(|_| start(topic, what, group, more))
        .collect::<anyhow::Result<Vec<_>>>()?;
    all.into_iter().map(|one| said(what, one)).collect()
}

fn start(topic: &Topic, what: &str, group: &str, more: &[&str]) -> anyhow::Result<Child> {
    Ok(Command::new(std::env::current_exe()?)
        .args([
            what,
            "--brokers",
            &topic.cluster.brokers,
            "--topic",
            &topic.name,
        ])
        .args(["--group", &format!("{}-{group}", topic.name)])
        .args(more)
        .stdout(Stdio::piped())
        .spawn()?)
}

fn said(what: &str, program: Child) -> anyhow::Result<Run> {
    let output = program.wait_with_output()?;
    ensure!(
        output.status.success(),
        "'{what}' failed: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).with_context(|| format!("what '{what}' said"))
}

impl Measured {
    pub fn run(&self, started: Instant) -> anyhow::Result<Run> {
        match self {
            Measured::Poll {
                kafka,
                process,
                events,
            } => poll(kafka, process, *events),
            Measured::Count {
                kafka,
                schema,
                database,
                process,
                unguarded,
            } => {
                if *unguarded {
                    guards::take_down();
                }
                let settings = processor::Settings {
                    until_end: true,
                    ..process.settings(kafka, database, *schema, &RegistryArgs::default())?
                };
                let first = Arc::new(OnceLock::new());
                let committed = Arc::clone(&first);
                let listener: processor::Listener = Box::new(move |_| {
                    committed.get_or_init(|| started.elapsed().as_secs_f64());
                });
                let done = AtomicBool::new(false);
                let (report, since) = std::thread::scope(|scope| {
                    // As `adflux process` does beside it.
                    scope.spawn(|| upkeep::carry_minutes(&settings.database_url, &done));
                    scope.spawn(|| upkeep::carry_others(&settings.database_url, &done));
                    let report = processor::run(&settings, &AtomicBool::new(false), Some(listener));
                    let since = report
                        .as_ref()
                        .ok()
                        .and_then(|r| r.first_record)
                        .map(|at| at.elapsed());
                    done.store(true, Ordering::Relaxed);
                    (report, since.unwrap_or_default())
                });
                let report = report?;
                let began = SystemTime::now().duration_since(UNIX_EPOCH)? - since;
                Ok(Run {
                    began: began.as_secs_f64(),
                    seconds_to_commit: first.get().copied(),
                    seconds_writing: metrics::BATCH_SECONDS.get_sample_sum(),
                    transactions: report.batches,
                    ..Run::of(report.records.get(), report.reading)
                })
            }
            Measured::Bare { listen, body } => {
                let body: &'static [u8] = Vec::leak(std::fs::read(body)?);
                let route = warp::path!("campaign" / String / "insights").map(move |_| {
                    warp::reply::with_header(body, "content-type", "application/json")
                });
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(warp::serve(route).run(*listen));
                bail!("the bare route ended")
            }
        }
    }
}

fn poll(kafka: &KafkaArgs, process: &ProcessArgs, events: u64) -> anyhow::Result<Run> {
    let consumer: BaseConsumer =
        consumer::properties(&kafka.cluster(), &process.group, process.session_timeout)
            // At its best: it need not share the memory with a batch.
            .set("queued.min.messages", "200000")
            .create()?;
    let mut from_start = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from_start.add_partition_offset(&kafka.topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&from_start)?;
    let mut first = None;
    let mut left = events;
    while left > 0 {
        match consumer.poll(Duration::from_secs(180)) {
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

/// Fields 14 and 15 of `/proc/self/stat` (proc(5)), which count hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, and may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / 100.0)
}

fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let values: BTreeMap<&str, &str> = status.lines().filter_map(|l| l.split_once(':')).collect();
    let kib = values.get("VmHWM")?.trim().strip_suffix("kB")?;
    Some(kib.trim().parse::<f64>().ok()? * 1024.0 / 1e6)
}
