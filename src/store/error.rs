//! What can go wrong with the database.

use diesel::ConnectionError;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

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
    pub(super) fn of_upsert(error: DieselError) -> StoreError {
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
    pub(super) fn of_late(error: DieselError) -> StoreError {
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
