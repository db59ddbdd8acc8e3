//! The schema, brought up to date.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::ConnectionError;
use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::locks::Lock;
use super::{Limits, StoreError, connect, redact};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

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
