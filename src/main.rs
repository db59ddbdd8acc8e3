//! The command line: subcommands, logging, signals, exit codes.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adflux::config::{DatabaseArgs, KafkaArgs, ProcessArgs, SchemaArgs, SimulateArgs};
use adflux::{processor, simulate, store};
use clap::{Parser, Subcommand};

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
        process: ProcessArgs,
        /// Stop once the end of the log, as it was at start, is committed
        #[arg(long)]
        until_end: bool,
    },
    /// Create the database's schema or bring it up to date
    Migrate {
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .format_target(false)
        .init();
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A flag that SIGINT and SIGTERM set; the second signal ends the process at once.
fn stop_on_signal() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signal_hook::consts::TERM_SIGNALS {
        signal_hook::flag::register_conditional_shutdown(*signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(*signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signal()?;
    match command {
        Command::Simulate {
            kafka,
            schema,
            simulate,
        } => {
            let settings = simulate.settings(&kafka, schema);
            let sent = simulate::run(&settings, &stop, &|_| true)?;
            print!("{}", sent.ledger);
            if sent.failed > 0 {
                anyhow::bail!("{} of these records were not delivered", sent.failed);
            }
        }
        Command::Process {
            kafka,
            schema,
            database,
            process,
            until_end,
        } => {
            store::migrate(&database.database_url)?;
            let settings = processor::Settings {
                until_end,
                ..process.settings(&kafka, &database, schema)
            };
            let report = processor::run(&settings, &stop, None)?;
            log::info!(
                "stopped: {} records in {} batches: {} events, {} duplicates, {} dead letters",
                report.records,
                report.batches,
                report.events,
                report.duplicates,
                report.dead()
            );
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
    }
    Ok(ExitCode::SUCCESS)
}
