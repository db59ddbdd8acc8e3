//! The checker: does what was counted equal what was acknowledged?
//!

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use crate::ledger::Ledger;

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
    violations.append(verify(&target.database_url));
    violations
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
