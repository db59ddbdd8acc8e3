//! The command line: subcommands, logging, signals, exit codes.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use adflux::config::{
    self, DatabaseArgs, KafkaArgs, ProcessArgs, RedisArgs, SchemaArgs, ServeArgs, SimulateArgs,
    WriterArgs,
};
use adflux::keys::{self, Scope};
use adflux::run::{Processing, ServeSettings};
use adflux::store::dead_letters::Filter;
use adflux::store::export::Range;
use adflux::store::projections::Grain;
use adflux::store::{self, Limits, rebuild_as_of};
use adflux::{alerts, api, demo, dlq, doctor, export, processor, run, simulate};
use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Parser, Subcommand};
use tokio::sync::mpsc::unbounded_channel;

/// Real-time ad-campaign analytics: events through Kafka, counted exactly once into PostgreSQL,
/// served as insights.
#[derive(Parser)]
#[command(
    name = "adflux",
    version,
    max_term_width = 100,
    after_help = "RUST_LOG sets what is logged, such as RUST_LOG=debug (default: info)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try it: everything in this process, with a broker and a database of its own
    Demo {
        /// Keep the data in this folder (default: a temporary one that is removed)
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// End after this long
        #[arg(long = "for", value_name = "TIME", value_parser = config::duration)]
        length: Option<Duration>,
        /// Port of the demo's PostgreSQL
        #[arg(long, default_value_t = 15432)]
        postgres_port: u16,
        /// Topic of the events
        #[arg(long, default_value = "ad-events")]
        topic: String,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        simulate: SimulateArgs,
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Simulate, process and serve in one process, on real services
    Run {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        simulate: SimulateArgs,
        #[command(flatten)]
        process: ProcessArgs,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Send simulated events to the topic, and print what was sent
    Simulate {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        simulate: SimulateArgs,
    },
    /// Count the topic's events into PostgreSQL, each exactly once
    Process {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        process: ProcessArgs,
        /// Stop once the end of the log, as it was at start, is committed
        #[arg(long)]
        until_end: bool,
        /// Serve /livez and /metrics on this address (default: not at all)
        #[arg(long, env = "ADFLUX_METRICS_LISTEN")]
        metrics_listen: Option<SocketAddr>,
    },
    /// Answer insights over HTTP
    Serve {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        redis: RedisArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        /// Topic of the events, for the name of the schema's subject
        #[arg(long, env = "ADFLUX_TOPIC", default_value = "ad-events")]
        topic: String,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Create the database and its schema, or bring it up to date
    Migrate {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Make the projections anew from the event store, and swap them in
    Rebuild {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Make them as they were known at this instant (RFC 3339), in a schema of their own; the live
        /// ones stay as they are
        #[arg(long, value_name = "TIME", value_parser = config::instant)]
        as_of: Option<DateTime<Utc>>,
        /// That schema's name (default: as_of_ and the instant)
        #[arg(long, value_name = "SCHEMA", requires = "as_of")]
        into: Option<String>,
    },
    /// Check that every record is accounted for and the projections equal the event store
    Verify {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Look at the records that could not be counted, or send them back
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Write events or metrics of a range as CSV or Parquet
    Export {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        what: ExportWhat,
    },
    /// Create, list, rotate and revoke API keys
    Keys {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Rules that say when somebody should look
    Alerts {
        #[command(subcommand)]
        command: AlertsCommand,
    },
    /// Check broker, topic, database, cache and port, and say what to do
    Doctor {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        redis: RedisArgs,
        /// Address and port of the API
        #[arg(long, env = "ADFLUX_LISTEN", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Exit with 0 if a server answers with success: for containers' health checks
    Healthcheck {
        /// What to ask
        #[arg(long, default_value = "http://127.0.0.1:8080/readyz")]
        url: String,
    },
}

#[derive(Subcommand)]
enum ExportWhat {
    /// Events whose time is in the range, a row each, in the order of their partitions
    Events {
        #[command(flatten)]
        to: ExportArgs,
    },
    /// Sums by campaign, platform and time
    Metrics {
        #[command(flatten)]
        to: ExportArgs,
        /// The time that a row is about: minute, hour or day, in UTC
        #[arg(long, default_value = "day", value_parser = export::grain)]
        increment: Grain,
    },
}

#[derive(clap::Args)]
struct ExportArgs {
    /// Start of the range, included: an RFC 3339 time, or a date
    #[arg(long, value_name = "TIME", value_parser = config::bound, default_value = "1970-01-01")]
    since: i64,
    /// End of the range, not included
    #[arg(long, value_name = "TIME", value_parser = config::bound, default_value = "9999-12-31")]
    until: i64,
    /// csv or parquet
    #[arg(long, default_value = "csv")]
    format: export::Format,
    /// The file to write (default: standard output)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Create a key and print it: the only time that it is seen
    Create {
        /// Whose it is, for people
        name: String,
        /// What it may do: read, write, admin; may be given several times
        #[arg(long = "scope", default_value = "read", value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// Not good after this long (default: does not end)
        #[arg(long, value_parser = config::duration)]
        expires_in: Option<Duration>,
    },
    /// List the keys, the newest first
    List,
    /// Replace a key's secret and print the new key
    Rotate {
        /// The id, as `list` shows it
        id: String,
        /// How long the old one stays good
        #[arg(long, default_value = "1h", value_parser = config::duration)]
        grace: Duration,
    },
    /// Revoke a key: within seconds no server accepts it
    Revoke {
        /// The id, as `list` shows it
        id: String,
    },
}

#[derive(Subcommand)]
enum DlqCommand {
    /// How many there are of each reason, and the newest
    List {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Only those with this reason
        #[arg(long, value_parser = dlq::reason)]
        reason: Option<String>,
        /// Only those of this topic
        #[arg(long)]
        topic: Option<String>,
        /// Only those of this partition
        #[arg(long)]
        partition: Option<i32>,
        /// Also those that were sent back by redrive
        #[arg(long)]
        redriven: bool,
        /// How many to list
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// One in full, and what can be done with it
    Show {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        writers: WriterArgs,
        /// TOPIC:PARTITION:OFFSET
        #[arg(value_parser = dlq::place)]
        place: Filter,
    },
    /// Send those that can be counted by now back to the topic, unchanged; each counts once
    Redrive {
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        schema: SchemaArgs,
        #[command(flatten)]
        writers: WriterArgs,
        /// Only the one at TOPIC:PARTITION:OFFSET
        #[arg(value_parser = dlq::place)]
        place: Option<Filter>,
        /// Only those with this reason
        #[arg(long, value_parser = dlq::reason)]
        reason: Option<String>,
        /// Only those of this partition
        #[arg(long, conflicts_with = "place")]
        partition: Option<i32>,
        /// Send so many at the most
        #[arg(long)]
        limit: Option<u64>,
        /// Send nothing; say what would be sent, and why the others cannot be counted
        #[arg(long)]
        dry_run: bool,
        /// Also those that were sent back before and refused again
        #[arg(long)]
        again: bool,
    },
}

#[derive(Subcommand)]
enum AlertsCommand {
    /// Check a file of rules, and say what each of them is understood as
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        rules: PathBuf,
    },
    /// The alerts that are open
    List {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Those that have resolved as well
        #[arg(long)]
        all: bool,
        /// How many to list
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// When rules would have opened and resolved alerts, over events that were counted
    Test {
        #[command(flatten)]
        database: DatabaseArgs,
        /// The file of rules
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// From when on (RFC 3339; default: seven days before --until)
        #[arg(long, value_name = "TIME", value_parser = config::instant)]
        since: Option<DateTime<Utc>>,
        /// Up to when (RFC 3339; default: now)
        #[arg(long, value_name = "TIME", value_parser = config::instant)]
        until: Option<DateTime<Utc>>,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // The demo talks to a person; of its parts only what goes wrong is of interest.
    let default = if matches!(command, Command::Demo { .. }) {
        "warn"
    } else {
        "info"
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default))
        .format_timestamp_millis()
        .format_target(false)
        .init();
    match execute(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read what we print has seen enough: `adflux dlq list | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A flag that SIGINT and SIGTERM set; a second signal ends the process at once.
fn stop_on_signal() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for &signal in &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn serve_settings(
    database: &DatabaseArgs,
    redis: &RedisArgs,
    serve: &ServeArgs,
    topic: &str,
    schema: SchemaArgs,
) -> ServeSettings {
    ServeSettings {
        database_url: database.database_url.clone(),
        redis_url: redis.redis_url.clone(),
        connections: serve.api_connections,
        fresh_for: serve.cache_fresh,
        topic: topic.to_owned(),
        schema_id: schema.schema_id,
        api: serve.api(),
    }
}

/// Does what was asked. `false` if a check found something wrong.
fn execute(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Demo {
            data,
            length,
            postgres_port,
            topic,
            schema,
            mut simulate,
            process,
            serve,
        } => {
            // A week, and then a pace that a person can follow.
            simulate
                .backfill
                .get_or_insert(Duration::from_secs(7 * 86_400));
            simulate.rate.get_or_insert(simulate::Rate::PerSecond(1.0));
            let settings = demo::Settings {
                data,
                length,
                postgres_port,
                topic,
                simulate,
                process,
                serve,
                schema,
            };
            demo::run(&settings, &stop_on_signal()?)?;
        }
        Command::Run {
            kafka,
            schema,
            database,
            redis,
            simulate,
            process,
            serve,
        } => {
            let stop = stop_on_signal()?;
            let listener = listen(serve.listen)?;
            log::info!("answering on http://{}", serve.listen);
            run::all(
                &simulate.settings(&kafka, schema),
                &Processing {
                    settings: process.settings(&kafka, &database, schema),
                    alerts: process.alerts()?,
                },
                serve_settings(&database, &redis, &serve, &kafka.topic, schema),
                listener,
                &Arc::new(AtomicU64::new(0)),
                &|_| true,
                &stop,
            )?;
        }
        Command::Simulate {
            kafka,
            schema,
            simulate,
        } => {
            let sent = simulate::run(
                &simulate.settings(&kafka, schema),
                &*stop_on_signal()?,
                &|_| true,
            )?;
            write!(io::stdout(), "{}", sent.ledger)?;
            if sent.failed > 0 {
                anyhow::bail!("{} of these records were not delivered", sent.failed);
            }
        }
        Command::Process {
            kafka,
            schema,
            database,
            redis,
            process,
            until_end,
            metrics_listen,
        } => {
            let stop = stop_on_signal()?;
            let alerts = process.alerts()?;
            if let Some(address) = metrics_listen {
                run::metrics_in_background(address)?;
            }
            let settings = processor::Settings {
                until_end,
                ..process.settings(&kafka, &database, schema)
            };
            let processing = Processing { settings, alerts };
            let report = run::process(&processing, redis.redis_url.as_deref(), None, None, &stop)?;
            log::info!(
                "stopped: {} records in {} batches: {} events, {} duplicates, {} dead letters",
                report.records,
                report.batches,
                report.events,
                report.duplicates,
                report.dead()
            );
        }
        Command::Serve {
            database,
            redis,
            schema,
            topic,
            serve,
        } => {
            let stop = stop_on_signal()?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            let settings = serve_settings(&database, &redis, &serve, &topic, schema);
            runtime.block_on(async {
                let listener = api::bind(serve.listen).await?;
                log::info!("answering on http://{}", serve.listen);
                run::serve(settings, listener, unbounded_channel(), stop).await
            })?;
        }
        Command::Migrate { database } => {
            let run = store::migrate(&database.database_url)?;
            if run.is_empty() {
                println!("the schema is up to date");
            }
            for version in run {
                println!("ran migration {version}");
            }
        }
        Command::Rebuild {
            database,
            as_of: None,
            ..
        } => rebuild(&database.database_url)?,
        Command::Rebuild {
            database,
            as_of: Some(instant),
            into,
        } => rebuild_as_of(&database.database_url, instant, into)?,
        Command::Verify { database } => return verify(&database.database_url),
        Command::Dlq { command } => return dead_letters(command),
        Command::Export { database, what } => export(&database.database_url, what)?,
        Command::Keys { database, command } => keys(&database.database_url, command)?,
        Command::Alerts { command } => alerts(command)?,
        Command::Doctor {
            kafka,
            database,
            redis,
            listen,
        } => {
            let redis_url = redis.redis_url.as_deref();
            return Ok(doctor::run(
                &kafka.cluster(),
                &kafka.topic,
                &database.database_url,
                redis_url,
                listen,
            ));
        }
        Command::Healthcheck { url } => return doctor::answers_with_success(&url),
    }
    Ok(true)
}

/// What is asked of the dead letters. `false` if something could not be done.
fn dead_letters(command: DlqCommand) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match command {
        DlqCommand::List {
            database,
            reason,
            topic,
            partition,
            redriven,
            limit,
        } => {
            let filter = Filter {
                reason,
                topic,
                partition,
                redriven,
                ..Filter::default()
            };
            dlq::list(&mut out, &database.database_url, &filter, limit)?;
            Ok(true)
        }
        DlqCommand::Show {
            database,
            schema,
            writers,
            place,
        } => {
            let viewed = dlq::Viewed {
                place,
                schema_id: schema.schema_id,
                writer_schemas: writers.writer_schemas,
            };
            dlq::show(&mut out, &database.database_url, &viewed)
        }
        DlqCommand::Redrive {
            kafka,
            database,
            schema,
            writers,
            place,
            reason,
            partition,
            limit,
            dry_run,
            again,
        } => {
            let place = place.unwrap_or_default();
            let settings = dlq::redrive::Settings {
                cluster: kafka.cluster(),
                database_url: database.database_url,
                topic: place.topic.clone().unwrap_or(kafka.topic),
                filter: Filter {
                    reason,
                    partition: place.partition.or(partition),
                    ..place
                },
                limit,
                dry_run,
                again,
                schema_id: schema.schema_id,
                writer_schemas: writers.writer_schemas,
            };
            dlq::redrive::run(&mut out, &settings, &*stop_on_signal()?)
        }
    }
}

fn alerts(command: AlertsCommand) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    match command {
        AlertsCommand::Check { rules } => alerts::command::check(out, &rules),
        AlertsCommand::List {
            database,
            all,
            limit,
        } => alerts::command::list(out, &database.database_url, all, limit),
        AlertsCommand::Test {
            database,
            rules,
            since,
            until,
        } => alerts::command::test(out, &database.database_url, &rules, since, until),
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address} (is the port taken? choose another with --listen)")
    })
}

fn export(database_url: &str, what: ExportWhat) -> anyhow::Result<()> {
    let (to, what) = match what {
        ExportWhat::Events { to } => (to, export::What::Events),
        ExportWhat::Metrics { to, increment } => (to, export::What::Metrics(increment)),
    };
    let (since, until) = (to.since, to.until);
    if since >= until {
        anyhow::bail!("--since is not before --until");
    }
    let range = Range { since, until };
    let rows = export::run(database_url, what, range, to.format, to.output.as_deref())?;
    log::info!("{rows} rows");
    Ok(())
}

fn keys(database_url: &str, command: KeysCommand) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    match command {
        KeysCommand::Create {
            name,
            scopes,
            expires_in,
        } => keys::create(out, database_url, &name, &scopes, expires_in),
        KeysCommand::List => keys::list(out, database_url),
        KeysCommand::Rotate { id, grace } => keys::rotate(out, database_url, &id, grace),
        KeysCommand::Revoke { id } => keys::revoke(database_url, &id),
    }
}

/// Makes the projections anew, with a progress bar.
fn rebuild(database_url: &str) -> anyhow::Result<()> {
    let bar = indicatif::ProgressBar::no_length();
    bar.set_style(indicatif::ProgressStyle::with_template(
        "{bar:40} {pos}/{len} events ({per_sec}, {eta} left)",
    )?);
    let rebuilt = store::rebuild::rebuild(database_url, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    writeln!(
        io::stdout(),
        "rebuilt from {} events; {} campaigns had been wrong; processors waited {:.0} ms for the swap",
        rebuilt.events,
        rebuilt.corrected_campaigns,
        rebuilt.held_up.as_secs_f64() * 1e3
    )?;
    Ok(())
}

/// Makes the projections of an instant, and prints what they rest on.
fn rebuild_as_of(
    database_url: &str,
    instant: DateTime<Utc>,
    into: Option<String>,
) -> anyhow::Result<()> {
    let schema = into.unwrap_or_else(|| rebuild_as_of::default_schema(instant));
    let made = rebuild_as_of::rebuild_as_of(database_url, instant, &schema)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "as of {}: {} events of {} campaigns in schema {schema}",
        instant.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        made.events,
        made.campaigns
    )?;
    for p in &made.positions {
        let (topic, partition) = (&p.topic, p.partition);
        writeln!(out, "  {topic}:{partition} before offset {}", p.next_offset)?;
    }
    writeln!(out, "DROP SCHEMA {schema} CASCADE removes it")?;
    Ok(())
}

/// Checks the store, and prints what agreed or the first difference. `false` if there is one.
fn verify(database_url: &str) -> anyhow::Result<bool> {
    let mut connection = store::connect(database_url, Limits::MAINTENANCE)?;
    let checking = |name: &str| log::debug!("checking: {name}");
    match store::verify::verify(&mut connection, &checking)? {
        Ok(verified) => {
            writeln!(io::stdout(), "{verified}")?;
            Ok(true)
        }
        Err(difference) => {
            writeln!(io::stdout(), "{difference}")?;
            Ok(false)
        }
    }
}
