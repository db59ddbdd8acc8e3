//! Connections: how they are opened, and how long they wait.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_query;
use diesel::sql_types::{Integer, Text, Timestamptz};

use super::{StoreError, pooler, url};

/// The oldest major version of PostgreSQL that the statements are written for.
pub const OLDEST_MAJOR: u32 = 14;

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

/// Whether this is the URL of a database.
///
/// # Errors
/// [`StoreError::Url`], which holds no part of it.
pub fn check_url(url: &str) -> Result<(), StoreError> {
    url::check(url).map_err(StoreError::Url)
}

/// Opens a connection that gives up on a peer that stopped answering.
///
/// # Errors
/// [`StoreError::Connect`] when the server cannot be reached or refuses, [`StoreError::Url`] when
/// the URL is not one, [`StoreError::TooOld`] when the server is.
pub fn connect(url: &str, limits: Limits) -> Result<PgConnection, StoreError> {
    let mut connection = establish(url)?;
    if let Err(error) = prepare(&mut connection, limits) {
        // One that is too old lacks a setting; it is asked only then.
        check_version(&mut connection)?;
        return Err(error.into());
    }
    Ok(connection)
}

/// The connection of a command that did not begin with [`migrate_when_there`](super::migrate_when_there), which looks at what is
/// between us and the server.
///
/// # Errors
/// As [`connect`]; [`StoreError::Pooled`] when connections keep no sessions.
pub fn open(url: &str, limits: Limits) -> Result<PgConnection, StoreError> {
    check_sessions(url)?;
    connect(url, limits)
}

/// Checks that connections keep their sessions.
///
/// # Errors
/// As [`open`].
pub(super) fn check_sessions(url: &str) -> Result<(), StoreError> {
    pooler::check(&mut establish(url)?, &mut establish(url)?)
}

fn check_version(connection: &mut PgConnection) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Server {
        #[diesel(sql_type = Text)]
        version: String,
        #[diesel(sql_type = Integer)]
        major: i32,
    }
    let server: Server = sql_query(
        "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer / 10000 AS major",
    )
    .get_result(connection)?;
    match u32::try_from(server.major) {
        Ok(major) if major >= OLDEST_MAJOR => Ok(()),
        _ => Err(StoreError::TooOld(server.version)),
    }
}

/// The server's process behind a connection, for [`cancel`].
///
/// # Errors
/// When the database does not answer.
pub fn backend(connection: &mut PgConnection) -> Result<Backend, StoreError> {
    let backend = sql_query(
        "SELECT pid, backend_start AS started FROM pg_stat_get_activity(pg_backend_pid())",
    );
    Ok(backend.get_result(connection)?)
}

/// Names a process of a server, and by when it began, of which server: where the URL has several hosts, another connection may
/// be to another one.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Backend {
    #[diesel(sql_type = Integer)]
    pid: i32,
    #[diesel(sql_type = Timestamptz)]
    started: DateTime<Utc>,
}

/// Cancels the statement that a process of the server is at.
///
/// # Errors
/// When the database does not answer.
pub fn cancel(connection: &mut PgConnection, backend: Backend) -> Result<(), StoreError> {
    sql_query(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_get_activity($1) WHERE backend_start = $2",
    )
    .bind::<Integer, _>(backend.pid)
    .bind::<Timestamptz, _>(backend.started)
    .execute(connection)?;
    Ok(())
}

/// A connection whose session is not set up.
pub(super) fn establish(url: &str) -> Result<PgConnection, StoreError> {
    check_url(url)?;
    Ok(PgConnection::establish(&with_timeouts(url))?)
}

/// Sets a fresh connection's session up.
pub(crate) fn prepare(connection: &mut PgConnection, limits: Limits) -> Result<(), DieselError> {
    // A frozen process in mid-transaction must not hold its position's row for ever: the next
    // owner is waiting for it. Limits that a role or a database was given are for other people's statements, and so is another
    // isolation; PostgreSQL has a limit on transactions since 17.
    connection.batch_execute(&format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = 10000; SET idle_session_timeout = 0; SET timezone = 'UTC'; \
         SET jit = off; SET default_transaction_isolation = 'read committed'; SELECT set_config('transaction_timeout', '0', false) \
         WHERE current_setting('server_version_num')::integer >= 170000",
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
        if !url::has(url, name) {
            out = url::with(&out, name, value);
        }
    }
    out
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
        // Not one of the password's.
        let url = with_timeouts("postgres://me:connect_timeout=1@db/x");
        assert!(url.contains("x?connect_timeout=5&"), "{url}");
    }
}
