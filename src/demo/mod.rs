//! `adflux demo`: the whole system with nothing installed but PostgreSQL's server programs.
//!
//! The broker is librdkafka's own in-process one, on a real port, so that kcat works with it; the
//! database is a PostgreSQL server of our own; the cache is the process's. All else is what runs
//! in production.
//!
//! The broker keeps its log in memory, and of each partition only the newest records. So a
//! backfill is sent no faster than it is counted, and the log gets a new name with every start:
//! with a data folder that is kept, PostgreSQL would otherwise have positions in a log that is gone.

use std::fmt::Arguments;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{Days, Utc};
use diesel::prelude::*;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::config::{ProcessArgs, RegistryArgs, SchemaArgs, ServeArgs, SimulateArgs};
use crate::kafka::Cluster;
use crate::pause::pause;
use crate::run::{self, Processing, ServeSettings};
use crate::simulate::Rate;
use crate::simulator::reports::{self, World};
use crate::{api, simulate, store, terminal};

pub mod postgres;

use postgres::Postgres;

/// What a demo is told.
pub struct Settings {
    /// Keep the data here; none: in a temporary folder that is removed.
    pub data: Option<PathBuf>,
    /// End after so long; none: when interrupted.
    pub length: Option<Duration>,
    pub postgres_port: u16,
    pub topic: String,
    pub simulate: SimulateArgs,
    pub process: ProcessArgs,
    pub serve: ServeArgs,
    pub schema: SchemaArgs,
}

/// Records that may be sent but not yet counted: well below what the broker keeps.
const MAX_AHEAD: u64 = 50_000;

/// Runs until interrupted or `length` is over, and leaves nothing behind but `data`.
///
/// # Errors
/// When a part cannot start, or fails.
pub fn run(settings: &Settings, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let started = Instant::now();
    say(format_args!(
        "Starting a broker, a database and the API ..."
    ));
    let listener = listen(settings.serve.listen)?;
    let http = listener.local_addr()?;
    let postgres = Postgres::start(settings.data.as_deref(), settings.postgres_port)?;
    say_if_taken("PostgreSQL", settings.postgres_port, postgres.port());
    let brokers: MockCluster<'_, DefaultProducerContext> =
        MockCluster::new(1).context("starting the in-process broker")?;
    brokers
        .create_topic(&settings.topic, settings.simulate.partitions, 1)
        .context("creating the topic")?;
    // `localhost` in its address may mean IPv6 to other programs; it listens on IPv4.
    let address = brokers
        .bootstrap_servers()
        .replace("localhost", "127.0.0.1");
    let database_url = postgres.url();
    store::migrate(&database_url)?;

    let cluster = Cluster {
        brokers: address.clone(),
        properties: Vec::new(),
    };
    let kafka = crate::config::KafkaArgs {
        brokers: address.clone(),
        topic: settings.topic.clone(),
        client: crate::config::ClientArgs::default(),
    };
    let database = crate::config::DatabaseArgs {
        database_url: database_url.clone(),
    };
    let mut processing = Processing {
        part: None,
        settings: settings.process.settings(
            &kafka,
            &database,
            settings.schema,
            &RegistryArgs::default(),
        )?,
        may_migrate: true,
        alerts: settings.process.alerts(settings.serve.restating)?,
    };
    if let Some(dlq_topic) = &processing.settings.dlq_topic {
        brokers
            .create_topic(dlq_topic, 1, 1)
            .context("creating the topic for dead letters")?;
    }
    processing.settings.cluster = cluster;
    let cluster_id = format!("demo-{}", uuid::Uuid::new_v4());
    processing.settings.cluster_id = Some(cluster_id.clone());
    let mut simulation = settings.simulate.settings(&kafka, settings.schema.ids());
    simulation.backfill = history_to_send(&database_url, simulation.backfill)?;
    let reported = reports(simulation.simulator.seed);
    let history = history_records(&simulation).saturating_add(reported.rows());
    simulation.reports = Some((reported, settings.schema.ids().report));
    let taking_in = api::Brokers {
        cluster: processing.settings.cluster.clone(),
        cluster_id: processing.settings.cluster_id.clone(),
    };
    let serving = ServeSettings {
        shards: Vec::new(),
        database_url: database_url.clone(),
        may_migrate: true,
        redis: None,
        connections: settings.serve.api_connections,
        fresh_for: settings.serve.cache_fresh,
        topic: settings.topic.clone(),
        schema_ids: settings.schema.ids(),
        finding: None,
        writer_schemas: settings.process.writers.writer_schemas.clone(),
        brokers: Some(taking_in),
        originals: None,
        api: settings.serve.api(),
    };

    let counted = Arc::new(AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        let guide = scope.spawn(|| {
            let ready = Ready {
                cluster_id: &cluster_id,
                http,
                database_url: &database_url,
                brokers: &address,
                topic: &settings.topic,
            };
            await_history(&counted, history, stop);
            if !stop.load(Ordering::Relaxed) {
                ready.print(
                    counted.load(Ordering::Relaxed),
                    started.elapsed(),
                    settings.length,
                );
            }
            pause(settings.length.unwrap_or(Duration::MAX), stop);
            stop.store(true, Ordering::Relaxed);
        });
        let may_send = |sent: u64| sent.saturating_sub(counted.load(Ordering::Relaxed)) < MAX_AHEAD;
        let result = run::all(
            &simulation,
            &processing,
            serving,
            listener,
            &counted,
            &may_send,
            stop,
        );
        stop.store(true, Ordering::Relaxed);
        // It does nothing that could panic.
        let _ = guide.join();
        result
    });
    drop(brokers);
    postgres.stop();
    if result.is_ok() {
        match &settings.data {
            Some(data) => say(format_args!(
                "Stopped. The data is kept in {}.",
                data.display()
            )),
            None => say(format_args!("Stopped; nothing is left behind.")),
        }
    }
    result
}

/// Listens where it was wished, or says that the port is taken and picks another.
fn listen(wished: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(wished)
        .or_else(|_| TcpListener::bind((wished.ip(), 0)))
        .or_else(|_| run::listen_on(wished, "--listen"))?;
    say_if_taken("the API", wished.port(), listener.local_addr()?.port());
    Ok(listener)
}

/// Tells the person who has started it. Whoever has seen enough, and closed what we print to, does not end it.
fn say(text: Arguments<'_>) {
    let _ = writeln!(terminal::out(), "{text}");
}

fn say_if_taken(what: &str, wished: u16, got: u16) {
    if wished != 0 && wished != got {
        say(format_args!(
            "Port {wished} is taken; {what} is on port {got} instead."
        ));
    }
}

/// How much history is still to be sent: with data that was kept, what has passed since.
fn history_to_send(database_url: &str, wished: Duration) -> anyhow::Result<Duration> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Timestamptz>)]
        latest: Option<chrono::DateTime<chrono::Utc>>,
    }
    let mut connection = store::connect(database_url, store::Limits::API)?;
    let row: Row = diesel::sql_query("SELECT max(last_event_time) AS latest FROM sum_parts_latest")
        .get_result(&mut connection)?;
    let passed = row
        .latest
        .and_then(|latest| (chrono::Utc::now() - latest).to_std().ok());
    Ok(passed.map_or(wished, |passed| passed.min(wished)))
}

/// What platforms say of the weeks before today, as they say it again each evening: days that are not final, and enough that are to say
/// how those will end.
fn reports(seed: u64) -> World {
    const DAYS: u32 = 30;
    const EXPORTS: u32 = 80;
    let yesterday = Utc::now().date_naive() - Days::new(1);
    World::new(reports::Settings {
        seed,
        forms: Vec::new(),
        accounts: 2,
        campaigns: 4,
        days: DAYS,
        start: yesterday - Days::new(u64::from(DAYS - 1 + EXPORTS - 1)),
        exports: EXPORTS,
        every: 1,
    })
}

/// How many records the backfill will be.
fn history_records(simulation: &simulate::Settings) -> u64 {
    let per_second = match simulation.rate {
        Rate::PerSecond(rate) => rate,
        Rate::Max => f64::INFINITY,
    };
    let wished = simulation.backfill.as_secs_f64() * per_second;
    // A little less than all of it, since the spacing is rounded.
    (wished.min(simulate::MAX_BACKFILL_EVENTS as f64) * 0.999) as u64
}

fn await_history(counted: &AtomicU64, history: u64, stop: &AtomicBool) {
    let bar = indicatif::ProgressBar::new(history.max(1));
    if let Ok(style) = indicatif::ProgressStyle::with_template(
        "Counting history {bar:40} {pos}/{len} records ({per_sec})",
    ) {
        bar.set_style(style);
    }
    while pause(Duration::from_millis(50), stop) {
        let now = counted.load(Ordering::Relaxed);
        bar.set_position(now.min(history));
        if now >= history.max(1) {
            break;
        }
    }
    bar.finish_and_clear();
}

/// How this program is called from here.
fn program() -> PathBuf {
    let Ok(program) = std::env::current_exe() else {
        return PathBuf::from("adflux");
    };
    let here = std::env::current_dir().ok();
    let from_here = here.and_then(|here| Some(program.strip_prefix(here).ok()?.to_owned()));
    from_here.unwrap_or(program)
}

struct Ready<'a> {
    cluster_id: &'a str,
    http: SocketAddr,
    database_url: &'a str,
    brokers: &'a str,
    topic: &'a str,
}

impl Ready<'_> {
    fn print(&self, counted: u64, took: Duration, length: Option<Duration>) {
        let host = match self.http.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() || ip.is_loopback() => "localhost".to_owned(),
            ip => ip.to_string(),
        };
        let base = format!("http://{host}:{}", self.http.port());
        say(format_args!(
            "\n{counted} events and report rows of history counted, {:.1} s after the start. New events arrive now.\n",
            took.as_secs_f64()
        ));
        say(format_args!("The page, live:\n  {base}/"));
        say(format_args!(
            "What a campaign earns:\n  curl {base}/campaign/cmp-42/insights"
        ));
        say(format_args!(
            "Which burn money:\n  curl '{base}/campaigns?sort=roas&order=asc&limit=5'"
        ));
        say(format_args!(
            "By the minute:\n  psql {} -c 'SELECT * FROM campaign_metrics ORDER BY timestamp DESC LIMIT 5'",
            self.database_url
        ));
        say(format_args!(
            "On the topic:\n  kcat -b {} -t {} -C -q -o -2 -e -f 'partition %p, offset %o: %k, %S bytes\\n'",
            self.brokers, self.topic
        ));
        say(format_args!(
            "With a kcat that knows Avro (Debian's does not):\n  kcat -b {} -t {} -C -q -o -2 -e -s value=avro -r {base}",
            self.brokers, self.topic
        ));
        say(format_args!(
            "Your own numbers, from what Google, Meta, LinkedIn or TikTok export by day (docs/import.md):\n  \
             export KAFKA_BROKERS={} ADFLUX_TOPIC={} DATABASE_URL={}\n  \
             export ADFLUX_CLUSTER_ID={}\n  \
             {} import report.csv --account ID --time-zone ZONE --observed-at TIME --wait",
            self.brokers,
            self.topic,
            self.database_url,
            self.cluster_id,
            program().display()
        ));
        match length {
            Some(length) => say(format_args!(
                "\nEnds by itself in {}.",
                humantime::format_duration(length)
            )),
            None => say(format_args!("\nCtrl-C ends it.")),
        }
    }
}
