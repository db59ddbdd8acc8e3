//! The schema, brought up to date.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::locks::Lock;
use super::{Limits, Remedy, StoreError, connect, redact};
use crate::outage::Outage;
use crate::pause::{Backoff, pause};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Brings the schema up to date, creating the database when the server has none of that name.
/// Returns the migrations that were run. Safe to run from several processes at once.
///
/// # Errors
/// [`StoreError::Connect`] when the server cannot be reached, [`StoreError::Migrate`] when a
/// migration fails.
pub fn migrate(url: &str) -> Result<Vec<String>, StoreError> {
    let mut connection = match connect(url, Limits::MAINTENANCE) {
        Err(StoreError::Connect(error)) if !has_or_gets_database(url)? => return Err(error.into()),
        Err(StoreError::Connect(_)) => connect(url, Limits::MAINTENANCE)?,
        other => other?,
    };
    // Serialises concurrent starts; released with the session.
    Lock::Migrate.take(&mut connection)?;
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
    let outage = Outage::default();
    let mut failures = 0;
    while !stop.load(Ordering::Relaxed) {
        match migrate(url) {
            Ok(run) => {
                outage.ended(format_args!("PostgreSQL is there"));
                for version in run {
                    log::info!("ran migration {version}");
                }
                return Ok(true);
            }
            Err(error) if matches!(error.remedy(), Remedy::Wait | Remedy::Again) => {
                outage.failed(format_args!(
                    "{error}; retrying until {} answers",
                    redact(url)
                ));
                pause(Backoff::SERVER.after(failures), stop);
                failures += 1;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(false)
}

/// Whether the server answers and has the database, which is created if it is missing. Why a
/// connection fails is told in words alone, so the server is asked over its maintenance database.
fn has_or_gets_database(url: &str) -> Result<bool, StoreError> {
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
    let mut server = match connect(&maintenance, Limits::MAINTENANCE) {
        Err(StoreError::Connect(_)) => return Ok(false),
        other => other?,
    };
    if has_database(&mut server, name)? {
        return Ok(true);
    }
    let create = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
    match server.batch_execute(&create) {
        Ok(()) => Ok(true),
        // Another process was quicker.
        Err(_) if has_database(&mut server, name)? => Ok(true),
        Err(error) if !may_create_databases(&mut server)? => Err(StoreError::Migrate(format!(
            "there is no database {name}, and the role may not create it ({error})"
        ))),
        Err(error) => Err(error.into()),
    }
}

fn has_database(server: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    let asked = sql_query("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) AS yes");
    Ok(asked.bind::<Text, _>(name).get_result::<Yes>(server)?.yes)
}

fn may_create_databases(server: &mut PgConnection) -> Result<bool, StoreError> {
    let asked = sql_query(
        "SELECT rolcreatedb OR rolsuper AS yes FROM pg_roles WHERE rolname = current_user",
    );
    Ok(asked.get_result::<Yes>(server)?.yes)
}

#[derive(QueryableByName)]
struct Yes {
    #[diesel(sql_type = Bool)]
    yes: bool,
}
