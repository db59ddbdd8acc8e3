//! The checker: does what was counted equal what was acknowledged?
//!
//! Everything is held against the [`Ledger`], which no code of the product has filled. [`store`] goes
//! through the event store and the dead letters record by record, [`sums`] compares every sum at every
//! grain, [`reports`] what is known of campaigns' days, [`positions`] holds the stored positions against
//! the log and Kafka's own offsets, [`answers`] asks the servers and Redis. A violation is a line that says what is not so, where, what
//! was expected and what was found.
//!
//! That each of these can fail is shown in `proof`.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use diesel::{Connection, PgConnection, QueryResult};

use crate::ledger::Ledger;
use crate::wait::wait_for;

pub mod answers;
pub mod positions;
pub mod reports;
pub mod store;
pub mod sums;

/// How long caches and Kafka's offsets may take to follow the database once everything is healed.
const SETTLING: Duration = Duration::from_secs(20);

const READABLE: &str = "the database can be read";

/// Where to look.
#[derive(Clone, Debug)]
pub struct Target {
    pub brokers: String,
    pub topic: String,
    pub group: String,
    pub database_url: String,
    pub redis_url: Option<String>,
    /// The base URLs of the servers.
    pub servers: Vec<String>,
}

/// Something that must never be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise is broken.
    pub what: &'static str,
    pub place: String,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation {
            what,
            place,
            expected,
            found,
        } = self;
        write!(f, "{what}: {place}: expected {expected}, found {found}")
    }
}

/// How many violations of one promise are listed; the others are counted.
const LISTED: usize = 10;

/// All violations that were found.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    listed: Vec<Violation>,
    counts: BTreeMap<&'static str, usize>,
}

impl Violations {
    /// Adds one.
    pub fn add(
        &mut self,
        what: &'static str,
        place: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        let count = self.counts.entry(what).or_default();
        *count += 1;
        if *count <= LISTED {
            self.listed.push(Violation {
                what,
                place: place.to_string(),
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
    }

    /// Adds one unless two values are the same.
    pub fn compare<T: PartialEq + fmt::Display>(
        &mut self,
        what: &'static str,
        place: impl fmt::Display,
        expected: T,
        found: T,
    ) {
        if expected != found {
            self.add(what, place, expected, found);
        }
    }

    /// Adds those of another check.
    pub fn append(&mut self, other: Violations) {
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        self.listed.extend(other.listed);
    }

    /// How many there are, listed or not.
    pub fn count(&self) -> usize {
        self.counts.values().sum()
    }

    /// Whether a promise is broken.
    pub fn breaks(&self, what: &str) -> bool {
        self.counts.contains_key(what)
    }

    /// The promises that are broken.
    pub fn broken(&self) -> Vec<&'static str> {
        self.counts.keys().copied().collect()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.listed {
            writeln!(f, "{violation}")?;
        }
        for (what, count) in &self.counts {
            if *count > LISTED {
                writeln!(f, "{what}: and {} more", count - LISTED)?;
            }
        }
        Ok(())
    }
}

/// Checks everything. The faults are healed, nothing is being sent any more, and all processors
/// that there are have come to the end of the log.
pub fn check(target: &Target, ledger: &Ledger) -> Violations {
    let mut violations = check_database(&target.database_url, &target.topic, ledger);
    violations.append(positions::check_log(target, ledger));
    violations.append(answers::check_answers(target, ledger));
    violations.append(verify(&target.database_url));
    violations
}

/// What can be said from the database and the ledger alone.
pub fn check_database(database_url: &str, topic: &str, ledger: &Ledger) -> Violations {
    let mut violations = Violations::default();
    if ledger.unacknowledged() > 0 {
        violations.add(
            "every record sent is acknowledged",
            "the producer",
            "0 left",
            format!(
                "{} left: the ledger is not complete",
                ledger.unacknowledged()
            ),
        );
    }
    violations.compare(
        "every acknowledged record has an offset of its own",
        "the producer",
        0,
        ledger.without_a_place(),
    );
    if let Err(error) = check_snapshot(database_url, topic, ledger, &mut violations) {
        violations.add(READABLE, database_url, "rows", format!("{error:#}"));
    }
    violations
}

fn check_snapshot(
    database_url: &str,
    topic: &str,
    ledger: &Ledger,
    violations: &mut Violations,
) -> anyhow::Result<()> {
    let mut connection = connect(database_url)?;
    let reported = ledger.reported();
    let checked: QueryResult<()> = connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .run(|connection| {
            positions::check_positions(connection, topic, ledger, &reported, violations)?;
            let stored = store::check_events(connection, ledger, &reported, violations)?;
            store::check_dead_letters(connection, ledger, violations)?;
            sums::check_sums(connection, ledger, &reported, &stored.sums, violations)?;
            reports::check_reports(connection, ledger, &reported, stored.restated, violations)
        });
    Ok(checked?)
}

/// What the product says of itself.
pub fn verify(database_url: &str) -> Violations {
    let mut violations = Violations::default();
    let output = Command::new(env!("CARGO_BIN_EXE_adflux"))
        .arg("verify")
        .env("DATABASE_URL", database_url)
        .output()
        .expect("the binary starts");
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        violations.add(
            "adflux verify is clean",
            database_url,
            "exit code 0",
            format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&said).replace('\n', " ")
            ),
        );
    }
    violations
}

/// Connects to a database that is there, or will be in a moment.
fn connect(database_url: &str) -> anyhow::Result<PgConnection> {
    let mut refused = None;
    let connected = wait_for(SETTLING, || match PgConnection::establish(database_url) {
        Ok(connection) => Ok(Some(connection)),
        Err(error) => {
            refused = Some(error);
            Ok(None)
        }
    })?;
    connected.with_context(|| format!("PostgreSQL does not answer: {refused:?}"))
}

/// Checks again and again until there is no violation, or things have had their time to settle.
fn until_settled(mut check: impl FnMut() -> Violations) -> Violations {
    let started = Instant::now();
    loop {
        let violations = check();
        if violations.count() == 0 || started.elapsed() > SETTLING {
            return violations;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
