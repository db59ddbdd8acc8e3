//! PostgreSQL's advisory locks: what only one session may do at a time. All stand here, so that no two are
//! the same one.

use std::fmt;

/// A lock; as text, its key in SQL.
#[derive(Clone, Copy, Debug)]
#[repr(i64)]
pub(super) enum Lock {
    /// Bringing the schema up to date.
    Migrate = 7_236_002_113,
    /// Rebuilding the projections, for as long as the session lasts.
    Rebuild,
    /// Merging blocks, in a transaction; and by a rebuild for as long as it runs.
    Merge,
    /// Sending dead letters back through the topic.
    Redrive,
    /// Evaluating the rules of alerts.
    LeadAlerts,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as i64)
    }
}
