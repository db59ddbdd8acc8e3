//! What can go wrong with the database, and what its caller does next.

use diesel::ConnectionError;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::connect::OLDEST_MAJOR;
use super::refusal::told;
use crate::totals::Overflow;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Where the database is was not said in a way that can be understood.
    #[error("DATABASE_URL {0}")]
    Url(&'static str),
    /// No connection could be made.
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(ConnectionError),
    /// A statement failed. The connection may be gone; the transaction certainly is.
    #[error("PostgreSQL: {0}")]
    Query(DieselError),
    /// Its disk has no room, as [`check_room`](super::check_room) finds out.
    #[error("PostgreSQL's disk is full: {0}")]
    Full(String),
    /// A sum would pass its limit: some event of the batch must become a dead letter.
    #[error("a sum of a campaign would pass its limit of 2^60 - 1")]
    SumOverflow,
    /// A late event was stored by another share since it was looked up.
    #[error("an event was stored by another share at the same moment")]
    StoredMeanwhile,
    /// Other sessions were in the way for longer than is worth waiting. Nothing was changed.
    #[error("{0}")]
    Busy(&'static str),
    /// The role may not do what a processor does.
    #[error("the role of DATABASE_URL lacks {0}")]
    Privileges(String),
    /// The database cannot hold every text.
    #[error(
        "the database is encoded in {0}, which cannot hold every text: make one in UTF8 \
         (CREATE DATABASE name ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0) and name it in DATABASE_URL"
    )]
    Encoding(String),
    /// The server lacks what the statements need.
    #[error(
        "DATABASE_URL leads to PostgreSQL {0}, and {OLDEST_MAJOR} is the oldest that works: name a newer one"
    )]
    TooOld(String),
    /// Another session stands behind each transaction.
    #[error(
        "DATABASE_URL leads to a pooler that hands each transaction to another session (pgbouncer's pool_mode = transaction): \
         name PostgreSQL itself, or a pool with pool_mode = session"
    )]
    Pooled,
    /// It has not the range of partitions that was said of it.
    #[error("{0}")]
    Range(String),
    /// The schema lacks migrations, and this role, program or server is not to run them.
    #[error("{0}")]
    Outdated(String),
    /// The schema could not be brought up to date.
    #[error("migrating the database failed: {0}")]
    Migrate(String),
}

impl From<Overflow> for StoreError {
    fn from(_: Overflow) -> StoreError {
        StoreError::SumOverflow
    }
}

// Not as sources: the messages hold them already, and whoever prints the chain would say them twice.
impl From<ConnectionError> for StoreError {
    fn from(error: ConnectionError) -> StoreError {
        StoreError::Connect(match error {
            ConnectionError::BadConnection(said) => ConnectionError::BadConnection(told(&said)),
            other => other,
        })
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> StoreError {
        StoreError::Query(error)
    }
}

/// What the caller of a failed call does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The server is away, or cannot do it now: try again when it can.
    Wait,
    /// Another session was in the way: try again at once.
    Again,
    /// The data is at fault: find the record, and make it a dead letter.
    Refuse,
    /// The database is not as it must be, and waiting does not help: say it loudly.
    Stop,
}

impl Remedy {
    /// As a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Remedy::Wait => "wait",
            Remedy::Again => "again",
            Remedy::Refuse => "refuse",
            Remedy::Stop => "stop",
        }
    }
}

impl StoreError {
    /// What to do next. Never told by words, which are in the server's language.
    ///
    /// diesel shows a kind, not the SQLSTATE. What it has no kind for can wait, such as a full disk or a
    /// lock that was not granted; what a role may not do is among that, so a caller that must know asks
    /// [`check_rights`](super::write::check_rights) and [`check_room`](super::check_room).
    pub fn remedy(&self) -> Remedy {
        match self {
            StoreError::Connect(ConnectionError::BadConnection(_))
            | StoreError::Busy(_)
            | StoreError::Full(_) => Remedy::Wait,
            StoreError::Connect(ConnectionError::CouldntSetupConfiguration(error))
            | StoreError::Query(error) => remedy_of(error),
            StoreError::StoredMeanwhile => Remedy::Again,
            StoreError::SumOverflow => Remedy::Refuse,
            StoreError::Url(_)
            | StoreError::Connect(_)
            | StoreError::Privileges(_)
            | StoreError::Encoding(_)
            | StoreError::TooOld(_)
            | StoreError::Pooled
            | StoreError::Range(_)
            | StoreError::Outdated(_)
            | StoreError::Migrate(_) => Remedy::Stop,
        }
    }

    /// The name of the constraint that failed, or else of what is wrong.
    pub fn cause(&self) -> &str {
        match self {
            StoreError::Query(DieselError::DatabaseError(_, info)) => {
                info.constraint_name().unwrap_or("schema")
            }
            StoreError::Privileges(_) => "privileges",
            StoreError::Full(_) => "disk_full",
            _ => "schema",
        }
    }

    /// Whether the server takes no changes, as a standby does until it is promoted.
    pub fn is_read_only(&self) -> bool {
        use DieselError::DatabaseError;
        matches!(
            self,
            StoreError::Query(DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))
        )
    }

    /// Whether diesel had no kind for what the server refused.
    pub fn is_of_no_kind(&self) -> bool {
        use DieselError::DatabaseError;
        matches!(
            self,
            StoreError::Query(DatabaseError(DatabaseErrorKind::Unknown, _))
        )
    }

    /// Tells the one constraint that bad data, rather than a bad database, can violate.
    pub(super) fn of_bound(error: DieselError) -> StoreError {
        match &error {
            DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, info)
                if info.constraint_name() == Some("stream_positions_sums_within_limit") =>
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

fn remedy_of(error: &DieselError) -> Remedy {
    use DatabaseErrorKind::*;
    match error {
        DieselError::DatabaseError(kind, info) => match kind {
            SerializationFailure => Remedy::Again,
            UniqueViolation | ForeignKeyViolation | NotNullViolation | CheckViolation
            | RestrictViolation | ExclusionViolation => Remedy::Stop,
            // A place in the statement: a table, a column or a function in it is not there.
            Unknown if info.statement_position().is_some() => Remedy::Stop,
            // A standby is read-only until it has taken over.
            _ => Remedy::Wait,
        },
        DieselError::RollbackErrorOnCommit { commit_error, .. } => remedy_of(commit_error),
        // The rows are not of the types that we expect.
        DieselError::DeserializationError(_)
        | DieselError::SerializationError(_)
        | DieselError::QueryBuilderError(_)
        | DieselError::InvalidCString(_)
        | DieselError::NotFound => Remedy::Stop,
        _ => Remedy::Wait,
    }
}
