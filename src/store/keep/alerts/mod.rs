//! Alerts in PostgreSQL: the rules, the episodes, and what is still to be delivered of them.
//!
//! Only the process that holds the advisory lock of [`lead`] writes episodes, over the very
//! connection that holds it: a process that has lost the lock has lost the transaction too.

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;

use crate::store::StoreError;
use crate::store::locks::Lock;

pub mod counted;
pub mod deliveries;
pub mod episodes;
pub mod measure;
pub mod reported;
pub mod rules;

/// Becomes the one that evaluates, unless another session is; for as long as the session lasts.
///
/// # Errors
/// When the database does not answer.
pub fn lead(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let leads = Lock::LeadAlerts.try_take(connection)?;
    if leads {
        // A frozen process would keep the lock for as long as its kernel answers for it. It asks
        // several times a second, so one that is silent for so long is replaced.
        connection.batch_execute("SET idle_session_timeout = 30000")?;
    }
    Ok(leads)
}
