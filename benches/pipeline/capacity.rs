//! What a million events cost, of each part, with as much stored, as many campaigns, partitions and processors as this machine
//! carries: the figures from which `scripts/capacity.py` computes what more would take.
//!
//! A slice of the events is sent, counted, and deleted from the topic before the next one, for the log need not keep what
//! the database has.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adflux::totals::Totals;
use anyhow::Context as _;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use serde::Serialize;

use crate::Size;
use crate::cases::{check, written};
use crate::database::Database;
use crate::measured::{Run, measure_together};
use crate::table::{Goal, Table};
use crate::topic::Topic;

const SEED: u64 = 11;

/// How large it is.
#[derive(Clone, Copy, Serialize)]
struct Scale {
    events: u64,
    /// Events that are sent and counted at a time.
    slice: u64,
    campaigns: u32,
    partitions: i32,
    processors: usize,
}

/// What a million events take.
#[derive(Serialize)]
struct Costs {
    /// Of a core.
    processor_cpu_seconds: f64,
    postgresql_cpu_seconds: f64,
    /// It takes them from the simulator, too.
    kafka_cpu_seconds: f64,
    wal_bytes: f64,
    /// Tables and indexes.
    stored_bytes: f64,
}

#[derive(Serialize)]
struct Figures {
    scale: Scale,
    cores: usize,
    /// Events a second of all processors together, with broker and database on the same cores: of the slowest and the fastest slice.
    slowest: f64,
    fastest: f64,
    /// Of one processor, at its most.
    processor_peak_mb: f64,
    /// To PostgreSQL at a time, at the most.
    connections: i64,
    a_million_events: Costs,
    /// The same of the last slice.
    the_last_million: Costs,
    /// Of a million events in the log of one replica, of the first slice: what is deleted does not leave the disk at once.
    topic_bytes: f64,
}

/// What a slice took in all.
#[derive(Clone, Copy, Default)]
struct Spent {
    events: f64,
    processor: f64,
    postgresql: f64,
    kafka: f64,
    wal: f64,
    stored: f64,
}

impl Spent {
    fn and(self, more: Spent) -> Spent {
        Spent {
            events: self.events + more.events,
            processor: self.processor + more.processor,
            postgresql: self.postgresql + more.postgresql,
            kafka: self.kafka + more.kafka,
            wal: self.wal + more.wal,
            stored: self.stored + more.stored,
        }
    }

    fn a_million(self) -> Costs {
        let of = |sum: f64| sum / self.events * 1e6;
        Costs {
            processor_cpu_seconds: of(self.processor),
            postgresql_cpu_seconds: of(self.postgresql),
            kafka_cpu_seconds: of(self.kafka),
            wal_bytes: of(self.wal),
            stored_bytes: of(self.stored),
        }
    }
}

/// Events of it, by `ADFLUX_BENCH_CAPACITY_EVENTS`; the figures go to the file `ADFLUX_BENCH_CAPACITY_FILE`, if that is set.
pub fn capacity(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let scale = if size.quick {
        Scale {
            events: 40_000,
            slice: 20_000,
            campaigns: 1_000,
            partitions: 8,
            processors: 2,
        }
    } else {
        let events = match std::env::var("ADFLUX_BENCH_CAPACITY_EVENTS") {
            Ok(given) => given.parse().context("ADFLUX_BENCH_CAPACITY_EVENTS")?,
            Err(_) => 20_000_000,
        };
        Scale {
            events,
            slice: events.min(10_000_000),
            campaigns: 1_000_000,
            partitions: 120,
            processors: 8,
        }
    };
    let topic = Topic::with_partitions(scale.partitions)?;
    let database = Database::create("capacity");
    let mut connection = database.connect();
    let servers = Servers::find(&mut connection)?;
    let mut sent = Totals::default();
    let (mut all, mut last) = (Spent::default(), Spent::default());
    let (mut rates, mut peaks, mut connections) = (Vec::new(), Vec::new(), 0);
    let mut topic_bytes = 0.0;
    let mut before = 0;
    while before < scale.events {
        let events = scale.slice.min(scale.events - before);
        let kafka = servers.kafka_cpu()?;
        let of_slice = topic.fill_after(before, SEED + before, scale.campaigns, events)?;
        sent = sent
            .checked_add(of_slice.ledger.totals().context("the ledger overflowed")?)
            .context("the sum of all slices")?;
        if before == 0 {
            topic_bytes = servers.log_bytes(&topic)? as f64 / events as f64 * 1e6;
        }
        let (wal, stored) = written(&mut connection)?;
        let postgresql = servers.postgresql_cpu()?;
        let args = ["--database-url", database.url.as_str()];
        let (runs, most) = while_counting_connections(&database, || {
            measure_together(&topic, scale.processors, "count", "capacity", &args)
        })?;
        let (wal_then, stored_then) = written(&mut connection)?;
        let (postgresql_then, kafka_then) = (servers.postgresql_cpu()?, servers.kafka_cpu()?);
        // Which takes time of its own.
        check(&mut connection, sent)?;
        let counted: Vec<&Run> = runs.iter().filter(|run| run.records > 0).collect();
        let end = counted.iter().map(|run| run.began + run.seconds);
        let end = end.fold(0.0, f64::max);
        let began = counted.iter().map(|run| run.began).fold(end, f64::min);
        rates.push(events as f64 / (end - began));
        peaks.extend(runs.iter().filter_map(|run| run.peak_mb));
        connections = most.max(connections);
        last = Spent {
            events: events as f64,
            processor: runs.iter().filter_map(|run| run.cpu_seconds).sum(),
            postgresql: postgresql_then - postgresql,
            kafka: kafka_then - kafka,
            wal: (wal_then - wal) as f64,
            stored: (stored_then - stored) as f64,
        };
        all = all.and(last);
        before += events;
        eprintln!(
            "{before} of {} events, {:.0}/s",
            scale.events,
            rates.last().copied().unwrap_or_default()
        );
        topic.forget()?;
    }
    let figures = Figures {
        scale,
        cores: std::thread::available_parallelism()?.get(),
        slowest: rates.iter().copied().fold(f64::INFINITY, f64::min),
        fastest: rates.iter().copied().fold(0.0, f64::max),
        processor_peak_mb: peaks.into_iter().fold(0.0, f64::max),
        connections,
        a_million_events: all.a_million(),
        the_last_million: last.a_million(),
        topic_bytes,
    };
    show(&figures, table);
    if let Ok(file) = std::env::var("ADFLUX_BENCH_CAPACITY_FILE") {
        let json = serde_json::to_string_pretty(&figures)? + "\n";
        std::fs::write(&file, json).with_context(|| file)?;
    }
    Ok(())
}

fn show(figures: &Figures, table: &mut Table) {
    let scale = &figures.scale;
    let costs = &figures.a_million_events;
    let last = &figures.the_last_million;
    table.line(
        "a million events, of the processors",
        costs.processor_cpu_seconds,
        " CPU s",
        Goal::None,
        format!(
            "{} events, {} campaigns, {} partitions, {} processors of up to {:.0} MB; {:.2} of the last {}",
            scale.events,
            scale.campaigns,
            scale.partitions,
            scale.processors,
            figures.processor_peak_mb,
            last.processor_cpu_seconds,
            scale.slice
        ),
    );
    table.line(
        "and of PostgreSQL",
        costs.postgresql_cpu_seconds,
        " CPU s",
        Goal::None,
        format!(
            "{:.0} MB of WAL, {:.0} MB stored, up to {} connections; {:.2} of the last {}",
            costs.wal_bytes / 1e6,
            costs.stored_bytes / 1e6,
            figures.connections,
            last.postgresql_cpu_seconds,
            scale.slice
        ),
    );
    table.line(
        "and of Kafka",
        costs.kafka_cpu_seconds,
        " CPU s",
        Goal::None,
        format!("{:.0} MB of log", figures.topic_bytes / 1e6),
    );
    table.line(
        "the slowest slice beside the fastest",
        figures.slowest / figures.fastest,
        " ×",
        Goal::None,
        format!(
            "{:.0}/s and {:.0}/s, all on {} cores",
            figures.slowest, figures.fastest, figures.cores
        ),
    );
}

/// The processes that carry the services, whose time is read from /proc (proc(5)): they are on this machine.
struct Servers {
    postmaster: u32,
    kafka: u32,
    kafka_logs: PathBuf,
}

impl Servers {
    fn find(connection: &mut PgConnection) -> anyhow::Result<Servers> {
        #[derive(QueryableByName)]
        struct Backend {
            #[diesel(sql_type = BigInt)]
            pid: i64,
        }
        let backend: Backend =
            sql_query("SELECT pg_backend_pid()::bigint AS pid").get_result(connection)?;
        let services = std::env::var("ADFLUX_SERVICES_DIR").context(
            "ADFLUX_SERVICES_DIR: this case runs with services that scripts/with-services started",
        )?;
        let services = Path::new(&services);
        let kafka = std::fs::read_to_string(services.join("kafka.pid"))?;
        Ok(Servers {
            postmaster: Process::read(u32::try_from(backend.pid)?)?.parent,
            kafka: kafka.trim().parse()?,
            kafka_logs: services.join("kafka/data"),
        })
    }

    /// Of a topic's segments.
    fn log_bytes(&self, topic: &Topic) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for partition in std::fs::read_dir(&self.kafka_logs)? {
            let partition = partition?;
            let name = partition.file_name();
            let of_topic = name.to_str().and_then(|name| name.rsplit_once('-'));
            if of_topic.is_some_and(|(of, _)| of == topic.name) {
                for file in std::fs::read_dir(partition.path())? {
                    let file = file?;
                    if file.path().extension().is_some_and(|end| end == "log") {
                        bytes += file.metadata()?.len();
                    }
                }
            }
        }
        Ok(bytes)
    }

    fn kafka_cpu(&self) -> anyhow::Result<f64> {
        Ok(Process::read(self.kafka)?.own)
    }

    /// Of the server, of those of its processes that have ended, and of those that run.
    fn postgresql_cpu(&self) -> anyhow::Result<f64> {
        let server = Process::read(self.postmaster)?;
        let mut cpu = server.own + server.ended_children;
        for entry in std::fs::read_dir("/proc")? {
            let pid = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            // One may end meanwhile; then its parent's numbers have it the next time.
            if let Some(process) = pid.and_then(|pid| Process::read(pid).ok())
                && process.parent == self.postmaster
            {
                cpu += process.own;
            }
        }
        Ok(cpu)
    }
}

struct Process {
    parent: u32,
    /// CPU seconds.
    own: f64,
    ended_children: f64,
}

impl Process {
    fn read(pid: u32) -> anyhow::Result<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the program's name, and may hold spaces.
        let (_, rest) = stat.rsplit_once(')').context("a process's name")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).context("a field of stat");
        let seconds =
            |number: usize| Ok::<_, anyhow::Error>(field(number)?.parse::<f64>()? / 100.0);
        Ok(Process {
            parent: field(4)?.parse()?,
            own: seconds(14)? + seconds(15)?,
            ended_children: seconds(16)? + seconds(17)?,
        })
    }
}

/// What `work` gives, and how many connections to the database there were at a time, at the most, looked at twice a second.
fn while_counting_connections<T>(
    database: &Database,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, i64)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        connections: i64,
    }
    let mut connection = database.connect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> anyhow::Result<i64> {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                let row: Row = sql_query(
                    "SELECT count(*) AS connections FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE $1",
                )
                .bind::<Text, _>("adflux%")
                .get_result(&mut connection)?;
                // Without this one, and the benchmark's other.
                most = most.max(row.connections - 2);
                std::thread::sleep(Duration::from_millis(500));
            }
            Ok(most)
        });
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        let most = watcher
            .join()
            .map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        Ok((outcome?, most))
    })
}
