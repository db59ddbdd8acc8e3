//! The whole pipeline, from a Kafka topic to committed sums in PostgreSQL, and what it costs beside
//! something simpler: a bare consumer, the same pipeline without its guards, a bare producer.
//!
//! `make bench` runs it and prints one table. Whatever is compared runs in turn, several times, each
//! in a process of its own, and the medians are compared. Rates run from the first record that was
//! polled to the last that was polled or committed; what comes before the first record, joining the
//! group and claiming the partitions, is the same for ten events as for ten million, and is measured
//! by itself. A checkpoint comes before each case.
//!
//! Fails if the sums are not those of the simulator's ledger.

use std::process::ExitCode;
use std::time::Instant;

use adflux::store::{self, Limits};
use anyhow::{Context as _, ensure};
use clap::Parser;
use diesel::connection::SimpleConnection as _;

mod capacity;
mod cases;
#[path = "../database/mod.rs"]
mod database;
#[path = "../delivery/mod.rs"]
mod delivery;
mod lists;
mod measured;
mod peer;
mod reports;
mod scattered;
mod serving;
mod soak;
mod storing;
mod sums;
mod table;
mod topic;

use measured::Measured;
use table::Table;

#[derive(Parser)]
struct Args {
    /// Events of the topic that is counted again and again
    #[arg(long, env = "ADFLUX_BENCH_EVENTS", default_value_t = 5_000_000)]
    events: u64,
    /// How often each is measured; the medians are shown
    #[arg(long, env = "ADFLUX_BENCH_ROUNDS", default_value_t = 5)]
    rounds: usize,
    /// Only these: counting, campaigns, processors, growth, append, trickle, freshness, answers, year,
    /// lists, scattered, reports, soak, capacity, clickhouse, simulator
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Few events, once: shows that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Exit with 1 when a goal is missed
    #[arg(long, env = "ADFLUX_BENCH_JUDGE", conflicts_with = "quick")]
    judge: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    measured: Option<Measured>,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    events: u64,
    rounds: usize,
    quick: bool,
}

type Case = fn(Size, &mut Table) -> anyhow::Result<()>;

const CASES: [(&str, Case); 16] = [
    ("counting", cases::counting),
    ("campaigns", cases::campaigns),
    ("processors", cases::processors),
    ("growth", storing::growth),
    ("append", storing::append),
    ("trickle", storing::trickle),
    ("freshness", serving::freshness),
    ("answers", serving::answers),
    ("year", serving::a_year),
    ("lists", lists::a_year),
    ("scattered", scattered::scattered),
    ("reports", reports::reports),
    ("soak", soak::soak),
    ("capacity", capacity::capacity),
    ("clickhouse", peer::clickhouse),
    ("simulator", cases::simulator),
];

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,rdkafka=off"))
        .init();
    let started = Instant::now();
    let args = Args::parse();
    let done = match &args.measured {
        None => compare(&args),
        Some(measured) => measured.run(started).and_then(|run| {
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
    let size = if args.quick {
        Size {
            events: args.events.min(100_000),
            rounds: 1,
            quick: true,
        }
    } else {
        Size {
            events: args.events,
            rounds: args.rounds.max(1),
            quick: false,
        }
    };
    let server = database::service("DATABASE_URL");
    let mut table = Table::default();
    for (name, case) in CASES {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            // What the case before wrote is on disk, and its writing is not measured with this one.
            store::connect(&server, Limits::MAINTENANCE)?
                .batch_execute("CHECKPOINT")
                .context("CHECKPOINT, which a superuser may do, or a member of pg_checkpoint")?;
            let started = Instant::now();
            case(size, &mut table).with_context(|| name)?;
            eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    println!(
        "\n{} events, medians of {}; a ratio of 1 or more meets the goal\n\n{table}",
        size.events, size.rounds
    );
    let missed = table.missed();
    // Few events, once, say nothing of speed.
    if !size.quick && !missed.is_empty() {
        let said = format!("missed: {}", missed.join("; "));
        ensure!(!args.judge, said);
        println!("{said}");
    }
    Ok(())
}
