//! The fault laboratory: breaks a running system at random from a seed, and shows that not one event
//! is lost or counted twice. `make chaos` runs it in full, `make test` a short version;
//! `docs/reliability.md` tells the method.
//!
//! ```text
//! producer ──▶ Kafka ──▶ proxy ──▶ 3 processors ──▶ proxies ──▶ PostgreSQL ──▶ serve ◀── reader
//!    │                                                              │
//!    └──▶ ledger ◀──────────────────── check ───────────────────────┘
//! ```
//!
//! [`faults`] break it, one row of the table after the other; after each, everything is healed and
//! drained, and [`check`] holds what was counted against the [`ledger`] of what was acknowledged.

mod api;
mod check;
mod faults;
mod fleet;
mod lab;
mod ledger;
mod producer;
mod proof;
mod reader;
mod sender;
mod services;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod traffic;
mod wait;
mod watched;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;

use faults::members::Members;
use faults::{FAULTS, Fault};
use lab::Lab;
use support::proxy;
use table::Row;

/// About how long all faults take as often as the table has them; fewer minutes have proportionally fewer.
const FULL_MINUTES: f64 = 80.0;

#[derive(Parser)]
#[command(name = "chaos", about = "Breaks a running adflux and checks every sum")]
struct Options {
    /// Makes the choices: the same seed, the same faults
    #[arg(long, env = "ADFLUX_CHAOS_SEED")]
    seed: Option<u64>,
    /// About how long it may take; fewer than 80 have proportionally fewer faults. Without it, every row is
    /// run a few times, in five minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Only these rows, such as 3,4
    #[arg(long, value_delimiter = ',')]
    only: Vec<u8>,
    /// Not these rows; the table says so
    #[arg(long, value_delimiter = ',')]
    leave_out: Vec<u8>,
    /// Keeps all logs in this folder (default: a temporary one, kept when something is wrong)
    #[arg(long)]
    logs: Option<PathBuf>,
    /// What cargo passes to every test; means nothing here
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    /// The tests to run, as cargo passes them: the laboratory is one test
    #[arg(hide = true)]
    filter: Option<String>,
}

impl Options {
    fn times(&self, fault: &Fault) -> usize {
        let Some(minutes) = self.minutes else {
            return fault.short;
        };
        let share = (minutes / FULL_MINUTES).clamp(0.0, 1.0);
        ((fault.full as f64 * share).ceil() as usize).max(1)
    }

    fn wanted(&self, fault: &Fault) -> bool {
        (self.only.is_empty() || self.only.contains(&fault.number))
            && !self.leave_out.contains(&fault.number)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // `cargo test something` means other tests, unless it means this one.
    if options
        .filter
        .as_ref()
        .is_some_and(|filter| !"chaos".contains(filter.as_str()))
    {
        return ExitCode::SUCCESS;
    }
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, &wait::INTERRUPTED) {
            eprintln!("signals are not handled: {error}");
        }
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the laboratory failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the faults and prints the table. `false` when something was violated.
fn run(options: &Options) -> anyhow::Result<bool> {
    let seed = options
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("seed {seed}");
    let folder = match &options.logs {
        Some(folder) => folder.clone(),
        None => tempfile::Builder::new()
            .prefix("adflux-chaos-")
            .tempdir()?
            .keep(),
    };
    let started = Instant::now();
    let mut lab = Lab::start(seed, folder.clone()).context("starting the laboratory")?;
    let mut rows = Vec::new();
    if let Err(error) = lab.begins_to_count() {
        let mut row = Row {
            name: "nothing is broken yet",
            ..Row::default()
        };
        row.violation(format!("{error:#}"));
        rows.push(row);
    }
    for fault in FAULTS.iter().filter(|fault| options.wanted(fault)) {
        if rows.iter().any(|row: &Row| row.wrong) {
            // What follows would find the same again.
            break;
        }
        let mut row = Row {
            number: fault.number,
            name: fault.name,
            ..Row::default()
        };
        let times = options.times(fault);
        eprintln!("row {}: {}, {times} times", fault.number, fault.name);
        // While replies are lost, members come and go as well; their own row does the rest.
        if let Some(members) = FAULTS.iter().find(|other| other.number == 5)
            && fault.number == 3
            && options.wanted(members)
        {
            lab.members = Some(Members::new(options.times(members)));
        }
        let began = Instant::now();
        let committed = lab.reader.committed();
        let ran = (fault.run)(&mut lab, times, &mut row).and_then(|()| {
            lab.reader.healed(committed);
            lab.check(&mut row)
        });
        if let Err(error) = ran {
            row.violation(format!("the laboratory could not go on: {error:#}"));
            row.wrong = true;
        }
        eprintln!(
            "row {} took {:.0} s",
            fault.number,
            began.elapsed().as_secs_f64()
        );
        rows.push(row);
    }
    let (records, reports) = {
        let ledger = lab.producer.ledger().lock();
        (ledger.records(), ledger.report_rows())
    };
    let looks = lab.reader.looks();
    drop(lab);
    println!("{}", table::render(&rows));
    println!(
        "seed {seed}; {records} records acknowledged, {reports} of them report rows; {looks}; {:.1} minutes",
        started.elapsed().as_secs_f64() / 60.0
    );
    for fault in FAULTS.iter().filter(|fault| !options.wanted(fault)) {
        println!(
            "row {} ({}) was left out, as told",
            fault.number, fault.name
        );
    }
    let violations: Vec<&String> = rows.iter().flat_map(|row| &row.violations).collect();
    for violation in &violations {
        println!("violation: {violation}");
    }
    if violations.is_empty() {
        if options.logs.is_none()
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            eprintln!("{} remains: {error}", folder.display());
        }
    } else {
        println!("the logs are in {}", folder.join("logs").display());
    }
    Ok(violations.is_empty())
}
