//! Alerts in PostgreSQL: the rules, the episodes, and what is still to be delivered of them.
//!
//! Only the process that holds the advisory lock of [`lead`] writes episodes, over the very
//! connection that holds it: a process that has lost the lock has lost the transaction too.

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Timestamptz};

use crate::store::StoreError;
use crate::store::locks::Lock;

pub mod deliveries;
pub mod episodes;
pub mod measure;
mod parts;
pub mod rules;

/// Becomes the one that evaluates, unless another session is; for as long as the session lasts.
///
/// # Errors
/// When the database does not answer.
pub fn lead(connection: &mut PgConnection) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        leads: bool,
    }
    let lead = format!("SELECT pg_try_advisory_lock({}) AS leads", Lock::LeadAlerts);
    let row: Row = sql_query(lead).get_result(connection)?;
    if row.leads {
        // A frozen process would keep the lock for as long as its kernel answers for it. It asks
        // several times a second, so one that is silent for so long is replaced.
        connection.batch_execute("SET idle_session_timeout = 30000")?;
    }
    Ok(row.leads)
}

/// The database's clock: one for all processes that may evaluate.
///
/// # Errors
/// When the database does not answer.
pub fn clock(connection: &mut PgConnection) -> Result<DateTime<Utc>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        now: DateTime<Utc>,
    }
    let row: Row = sql_query("SELECT clock_timestamp() AS now").get_result(connection)?;
    Ok(row.now)
}
