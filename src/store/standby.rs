//! A standby, and how far it has come.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Nullable, Timestamptz};

use super::StoreError;

/// How old the answers of a standby are.
#[derive(Clone, Copy, Debug)]
pub struct Standby {
    /// When the last transaction was committed that it has; none since it was started: null. While the primary is idle it grows
    /// older, and nothing is missing.
    pub replayed_until: Option<DateTime<Utc>>,
    /// Whether it receives what the primary commits at this moment.
    pub is_receiving: bool,
}

/// What is known of the standby behind a connection; of a primary, nothing.
///
/// # Errors
/// When the database does not answer.
pub fn standby(connection: &mut PgConnection) -> Result<Option<Standby>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        replayed_until: Option<DateTime<Utc>>,
        #[diesel(sql_type = Bool)]
        is_receiving: bool,
    }
    // What the receiver does is not for every role to see; that there is one, is.
    let row: Option<Row> = sql_query(
        "SELECT pg_last_xact_replay_timestamp() AS replayed_until,
             EXISTS (SELECT FROM pg_stat_wal_receiver) AS is_receiving
         WHERE pg_is_in_recovery()",
    )
    .get_result(connection)
    .optional()?;
    Ok(row.map(|row| Standby {
        replayed_until: row.replayed_until,
        is_receiving: row.is_receiving,
    }))
}
