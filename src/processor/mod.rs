//! The processor: counts every record of its partitions exactly once.
//!
//! This thread polls Kafka, decodes, drops duplicates it remembers and fills batches; writers, threads
//! that share the partitions out among them, make one batch at a time true in PostgreSQL. There is no
//! batch timer: while a batch is being written the next one fills, and goes when its writer is free. So a
//! quiet topic is visible one commit later, and a busy one makes its batches larger by itself.
//!
//! ```text
//! poll → decode → Recent (duplicate? late?) → share of a partition ─┐
//!   ▲                                                               ▼ one batch
//!   └── Kafka offsets, lag ◀── results ◀── a writer: settle, commit ◀┘
//! ```
//!
//! What a partition's share rests on (its epoch, its memory of recent events, the campaigns it
//! owns) lives and dies with the assignment: on revocation it is dropped with the rows not yet
//! written, and the next owner reads on from the stored position.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use rdkafka::error::KafkaError;

use crate::codec::{Decoder, KnownIds};
use crate::event::Count;
use crate::kafka::consumer::Member;
use crate::kafka::{Cluster, topic};
use crate::offset::Offset;
use crate::outage::Outage;
use crate::progress::{BOARD, Cause};
use crate::schema_registry;
use crate::shard::Shard;
use crate::store::events::Fingerprinter;
use crate::traces;

pub mod assigned;
mod batches;
mod claims;
mod flood;
mod pace;
mod pump;
pub mod range;
pub mod recent;
mod report;
mod schemas;
mod scout;
mod seeker;
mod standstill;
mod watch;
mod writer;

pub use report::Report;

use batches::Bounds;
use pump::{Parts, Pump};
use schemas::Schemas;
use scout::Scout;
use watch::Watch;
use writer::Writers;

/// What has become true since a listener was last told.
pub struct Changed<'a> {
    /// Campaigns whose sums changed, or may have without anybody having been told: those of the
    /// newest events of a partition that was just taken over from another process.
    pub campaigns: &'a [Arc<str>],
    /// Records that were counted.
    pub records: Count,
}

/// Called on a writer's thread right after each commit; must not wait.
pub type Listener = Box<dyn Fn(&Changed<'_>) + Send + Sync>;

/// How the processor works.
#[derive(Clone)]
pub struct Settings {
    pub cluster: Cluster,
    pub topic: String,
    pub group: String,
    /// The range of the topic's partitions that are counted; none: all of them.
    pub shard: Option<Shard>,
    pub database_url: String,
    /// The most records that wait to be written, in the batches of all writers together.
    pub batch_events: usize,
    /// How much memory the process may use, in bytes.
    pub memory: u64,
    /// How many transactions may be under way at a time: the number of writers.
    pub transactions: usize,
    /// How long a batch may wait for more while its writer is free.
    pub linger: Duration,
    /// Events remembered in all, shared out among the partitions.
    pub recent_events: usize,
    /// The share of bad records above which to stop.
    pub max_bad_share: f64,
    /// How long a batch may be refused because the database is not as it must be, before the processor
    /// halts: whoever changed it may be about to change it back.
    pub halt_after: Duration,
    /// A partition that waits for so long stands still: `/readyz` says so.
    pub standstill_after: Duration,
    /// A member that is silent for so long loses its partitions.
    pub session_timeout: Duration,
    /// Stop once the end of the log, as it was at start, is committed.
    pub until_end: bool,
    /// When retention has deleted records that were not counted: go on from the oldest there is.
    pub accept_loss: bool,
    /// The ids of our own schemas, and the files of other writers' by id.
    pub schema_ids: KnownIds,
    pub writer_schemas: Vec<(u32, std::path::PathBuf)>,
    /// Where schemas are asked for that are not known; `None`: nowhere.
    pub schema_registry: Option<schema_registry::Settings>,
    /// Where dead letters are published; `None`: nowhere. (A part of its own does it: [`crate::run`].)
    pub dlq_topic: Option<String>,
    /// Overrides the cluster's own id, where that does not identify its log.
    pub cluster_id: Option<String>,
}

/// Runs until `stop` is set, or with `until_end` until the end is committed.
///
/// # Errors
/// When it cannot start, or must halt: a flood of bad records, a position outside the log, or a database
/// that refuses what it must take.
/// A broker or database that is away is no error.
pub fn run(
    settings: &Settings,
    stop: &AtomicBool,
    listener: Option<Listener>,
) -> anyhow::Result<Report> {
    let registry = settings.schema_registry.as_ref();
    let decoder = Decoder::with_writers(settings.schema_ids, &settings.writer_schemas)?;
    let decoder = match registry {
        Some(_) => decoder.learning(),
        None => decoder,
    };
    let schemas = Schemas::start(registry)?;
    let member = Member::join(
        &settings.cluster,
        &settings.topic,
        &settings.group,
        settings.shard,
        settings.session_timeout,
        settings.memory,
    )?;
    let Some(log) = await_topic(settings, &member, stop)? else {
        return Ok(Report::default());
    };
    let Log {
        cluster_id,
        partitions,
        ends,
        ..
    } = log;
    let counted = match settings.shard {
        None => format!("{} partitions", partitions.len()),
        Some(shard) => format!("partitions {shard}"),
    };
    log::info!(
        "counting topic '{}' ({counted}) of cluster {cluster_id} as group '{}'",
        settings.topic,
        settings.group
    );
    topic::warn_of_compaction(&settings.cluster, &settings.topic);
    traces::consuming(&settings.group);
    let fingerprinter = Fingerprinter::default();
    let owner = format!("{}:{}", host_name(), std::process::id());
    let watch = Watch::start(watch::Settings {
        database_url: settings.database_url.clone(),
        cluster_id: cluster_id.clone(),
        topic: settings.topic.clone(),
        owner: owner.clone(),
        standstill: settings.standstill_after,
        partitions: partitions.clone(),
    })?;
    let count = settings.transactions.min(partitions.len());
    let bounds = Bounds::of(settings.memory, count, partitions.len());
    let scout = Scout::start(&settings.cluster, &settings.topic)?;
    let writers = Writers::start(
        count,
        writer::Settings {
            database_url: settings.database_url.clone(),
            cluster_id,
            topic: settings.topic.clone(),
            accept_loss: settings.accept_loss,
            owner,
            halt_after: settings.halt_after,
            recent_events: settings.recent_events / partitions.len().max(1),
            fingerprinter: fingerprinter.clone(),
            listener,
        },
    )?;
    let mut pump = Pump::new(
        settings,
        Parts {
            member,
            writers,
            scout,
            schemas,
            watch,
        },
        bounds,
        decoder,
        fingerprinter,
        ends,
    );
    pump.run(stop)?;
    pump.finish()
}

/// The log that is counted.
struct Log {
    cluster_id: String,
    /// How many partitions the topic has.
    of: usize,
    /// Those that are counted.
    partitions: Vec<i32>,
    /// With `until_end`: where each partition that has records ends.
    ends: BTreeMap<i32, Offset>,
}

impl Log {
    fn ask(settings: &Settings, member: &Member) -> Result<Log, Unanswered> {
        let mut partitions = member.partitions()?;
        let of = partitions.len();
        partitions.retain(|partition| settings.shard.is_none_or(|shard| shard.has(*partition)));
        let cluster_id = member.cluster_id()?;
        let mut ends = BTreeMap::new();
        if settings.until_end {
            for (partition, range) in member.log_ranges(&partitions) {
                let log = range.map_err(|cause| Unanswered::Range(partition, cause.message))?;
                if log.end > log.start {
                    ends.insert(partition, log.end);
                }
            }
        }
        let cluster_id = settings.cluster_id.clone().unwrap_or(cluster_id);
        Ok(Log {
            cluster_id,
            of,
            partitions,
            ends,
        })
    }
}

/// Why the log is not known.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("{0}")]
    Question(#[from] KafkaError),
    #[error("partition {0}: {1}")]
    Range(i32, String),
}

impl Unanswered {
    /// What is known of it after librdkafka was served.
    fn why(&self, member: &Member) -> String {
        match self {
            Unanswered::Question(error) => member.why(error).to_string(),
            Unanswered::Range(..) => self.to_string(),
        }
    }
}

/// Waits until the cluster answers and the topic exists.
fn await_topic(
    settings: &Settings,
    member: &Member,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Log>> {
    let (topic, brokers) = (&settings.topic, &settings.cluster.brokers);
    let (no_broker, no_topic) = (Outage::default(), Outage::default());
    BOARD.begin(topic, settings.standstill_after);
    while !stop.load(Ordering::Relaxed) {
        let asked = Log::ask(settings, member);
        // Serves librdkafka, which says here why nothing was answered.
        let _ = member.poll(Duration::from_millis(200));
        match asked {
            Ok(log) => {
                no_broker.ended(format_args!("Kafka is there"));
                if log.of > 0 {
                    if let Some(shard) = settings.shard.filter(|s| s.of() as usize != log.of) {
                        return Err(range::divided(topic, log.of, shard));
                    }
                    member.look_around();
                    no_topic.ended(format_args!("topic '{topic}' is there"));
                    return Ok(Some(log));
                }
                if settings.until_end {
                    bail!(
                        "topic '{topic}' does not exist yet: there is no end to count to. `adflux simulate` creates it"
                    );
                }
                let why = format!("topic '{topic}' does not exist yet");
                no_topic.failed(format_args!("{why}; waiting for it"));
                BOARD.outside(Cause::new("no_topic", why));
            }
            Err(error) => {
                let why = format!("Kafka at {brokers}: {}", error.why(member));
                no_broker.failed(format_args!("{why}; waiting for it"));
                BOARD.outside(Cause::new("kafka", why));
            }
        }
        BOARD.look();
    }
    Ok(None)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "localhost".to_owned())
}
