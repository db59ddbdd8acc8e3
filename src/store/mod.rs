//! PostgreSQL: the event store, the positions that fence it, and the projections derived from it.
//!
//! ```text
//! batch      what a processor hands over: the decided and undecided records of some partitions
//! ownership  which partition may write a campaign; what of a batch was counted before
//! commit     the one transaction that makes a batch true
//! positions  epochs, offsets and the fence
//! blocks     the event store: append, read
//! projections  sums by minute, hour, day and in all
//! dead_letters what could not be counted;   redrives  sent back   publications  published
//! insights   what the API asks   changes  what has changed since it was asked
//! as_of      what was known at an instant   rebuild_as_of  the projections of then
//! alerts     rules, what they opened, what is to be delivered
//! verify     do the projections equal the event store?   rebuild  make them anew
//! merge      many small blocks into few
//! spans      stretches of days, added up ahead
//! ```
//!
//! Nothing here knows Kafka: a partition is a row of `stream_positions`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::{Connection, ConnectionError};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

pub mod alerts;
pub mod api_keys;
pub mod as_of;
pub mod batch;
pub mod blocks;
pub mod changes;
pub mod columns;
pub mod commit;
pub mod dead_letters;
pub mod export;
pub mod insights;
mod locks;
pub mod merge;
pub mod ownership;
pub mod pipeline;
pub mod positions;
mod prepared;
pub mod projections;
pub mod publications;
pub mod rebuild;
pub mod rebuild_as_of;
pub mod redrives;
pub mod spans;
mod url;
pub mod verify;

use locks::Lock;
pub use url::redact;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Identifies a partition of a topic of a cluster: a row of `stream_positions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub i32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Where the database is was not said in a way that can be understood.
    #[error("DATABASE_URL {0}")]
    Url(&'static str),
    /// No connection could be made.
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(#[from] ConnectionError),
    /// A statement failed. The connection may be gone; the transaction certainly is.
    #[error("PostgreSQL: {0}")]
    Query(#[from] DieselError),
    /// A sum would pass its limit: some event of the batch must become a dead letter.
    #[error("a sum of a campaign would pass its limit of 2^53 - 1")]
    SumOverflow,
    /// A late event was stored by another share since it was looked up.
    #[error("an event was stored by another share at the same moment")]
    StoredMeanwhile,
    /// Other sessions were in the way for longer than is worth waiting. Nothing was changed.
    #[error("{0}")]
    Busy(&'static str),
    /// The schema could not be brought up to date.
    #[error("migrating the database failed: {0}")]
    Migrate(String),
}

impl StoreError {
    /// Tells the one constraint that bad data, rather than a bad database, can violate.
    fn of_upsert(error: DieselError) -> StoreError {
        match &error {
            DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, info)
                if info.constraint_name() == Some("metrics_total_within_limit") =>
            {
                StoreError::SumOverflow
            }
            _ => StoreError::Query(error),
        }
    }

    /// Tells the constraint that two shares with the same late event violate.
    fn of_late(error: DieselError) -> StoreError {
        match &error {
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info)
                if info.constraint_name() == Some("late_events_pkey") =>
            {
                StoreError::StoredMeanwhile
            }
            _ => StoreError::Query(error),
        }
    }
}

/// How long a connection may wait, so that a lost peer or a stuck lock is an error and not a hang.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One statement.
    pub statement: Duration,
    /// A lock held by another transaction.
    pub lock: Duration,
}

impl Limits {
    /// For the processor: a batch of the largest size on a slow disk still gets through.
    pub const PROCESSOR: Limits = Limits {
        statement: Duration::from_secs(60),
        lock: Duration::from_secs(20),
    };
    /// For a request: the person who asked has gone by then.
    pub const API: Limits = Limits {
        statement: Duration::from_secs(5),
        lock: Duration::from_secs(2),
    };
    /// For maintenance over the whole store.
    pub const MAINTENANCE: Limits = Limits {
        statement: Duration::ZERO,
        lock: Duration::from_secs(60),
    };
}

/// Opens a connection that gives up on a peer that stopped answering.
///
/// # Errors
/// [`StoreError::Connect`] when the server cannot be reached or refuses, [`StoreError::Url`] when
/// the URL is not one.
pub fn connect(url: &str, limits: Limits) -> Result<PgConnection, StoreError> {
    // libpq would quote what it does not understand, and that may be part of the password.
    url::check(url).map_err(StoreError::Url)?;
    let mut connection = PgConnection::establish(&with_timeouts(url))?;
    prepare(&mut connection, limits)?;
    Ok(connection)
}

/// Sets a fresh connection's session up.
pub(crate) fn prepare(connection: &mut PgConnection, limits: Limits) -> Result<(), DieselError> {
    // A frozen process in mid-transaction must not hold its position's row for ever: the next
    // owner is waiting for it.
    connection.batch_execute(&format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = 10000; SET timezone = 'UTC'; SET jit = off",
        limits.statement.as_millis(),
        limits.lock.as_millis()
    ))
}

/// Adds libpq's limits on a silent peer, unless the URL sets its own.
pub(crate) fn with_timeouts(url: &str) -> String {
    let mut out = url.to_owned();
    for (name, value) in [
        ("connect_timeout", "5"),
        ("keepalives_idle", "5"),
        ("keepalives_interval", "2"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "10000"),
        ("application_name", "adflux"),
    ] {
        if !url.contains(&format!("{name}=")) {
            let separator = if out.contains('?') { '&' } else { '?' };
            out.push_str(&format!("{separator}{name}={value}"));
        }
    }
    out
}

/// Brings the schema up to date, creating the database when the server has none of that name.
/// Returns the migrations that were run. Safe to run from several processes at once.
///
/// # Errors
/// [`StoreError::Connect`] when the server cannot be reached, [`StoreError::Migrate`] when a
/// migration fails.
pub fn migrate(url: &str) -> Result<Vec<String>, StoreError> {
    // Serialises concurrent starts; released with the session.
    let mut connection = match connect(url, Limits::MAINTENANCE) {
        Err(StoreError::Connect(ConnectionError::BadConnection(message)))
            if message.contains("does not exist") && message.contains("database") =>
        {
            create_database(url)?;
            connect(url, Limits::MAINTENANCE)?
        }
        other => other?,
    };
    connection.batch_execute(&format!("SELECT pg_advisory_lock({})", Lock::Migrate))?;
    let run = connection
        .run_pending_migrations(MIGRATIONS)
        .map(|run| run.iter().map(|version| version.to_string()).collect())
        .map_err(|e| StoreError::Migrate(e.to_string()));
    if run.is_err() {
        // A server that went away meanwhile has not refused anything: that is another error.
        connection.batch_execute("SELECT 1")?;
    }
    run
}

/// [`migrate`], waiting for a server that is away. `false` if `stop` was set before it came.
///
/// # Errors
/// When the server answers, but the schema cannot be brought up to date.
pub fn migrate_when_there(url: &str, stop: &AtomicBool) -> Result<bool, StoreError> {
    let mut said = false;
    while !stop.load(Ordering::Relaxed) {
        match migrate(url) {
            Ok(run) => {
                for version in run {
                    log::info!("ran migration {version}");
                }
                return Ok(true);
            }
            Err(error @ (StoreError::Connect(_) | StoreError::Query(_))) => {
                if !said {
                    log::warn!("{error}; retrying until {} answers", redact(url));
                    said = true;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(false)
}

fn create_database(url: &str) -> Result<(), StoreError> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let Some((base, name)) = server.rsplit_once('/') else {
        return Err(StoreError::Migrate(format!(
            "no database name in {}",
            redact(url)
        )));
    };
    let maintenance = if query.is_empty() {
        format!("{base}/postgres")
    } else {
        format!("{base}/postgres?{query}")
    };
    let mut connection = connect(&maintenance, Limits::MAINTENANCE)?;
    match connection.batch_execute(&format!(
        "CREATE DATABASE \"{}\"",
        name.replace('"', "\"\"")
    )) {
        // Another process was quicker; at the same instant, it is the catalog's index that says so.
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(()),
        Err(e) if e.to_string().contains("already exists") => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_added_but_never_overruled() {
        let url = with_timeouts("postgres://db/x?connect_timeout=1");
        assert!(
            url.starts_with("postgres://db/x?connect_timeout=1&keepalives_idle=5"),
            "{url}"
        );
        assert!(with_timeouts("postgres://db/x").contains("x?connect_timeout=5&"));
    }
}
