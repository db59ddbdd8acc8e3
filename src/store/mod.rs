//! PostgreSQL: the event store, the positions that fence it, and the projections derived from it.
//!
//! Three rooms on one floor. A room may use the floor, and `keep` may use the other two:
//!
//! | room | who enters | what it does |
//! |---|---|---|
//! | [`write`] | the processor | claims a partition, settles what is not decided, commits a batch |
//! | [`read`] | the API, exports | answers questions |
//! | [`keep`] | what runs beside | merges, verifies, rebuilds; keeps rules, keys and what became of dead letters |
//!
//! The floor is what the tables look like: [`blocks`] and [`events`] of the event store, [`sums`] of the
//! projections, [`positions`] and [`standstills`].
//!
//! Nothing here knows Kafka: a partition is a row of `stream_positions`.

use std::fmt;

pub mod blocks;
pub mod columns;
mod connect;
mod error;
pub mod events;
pub mod keep;
mod locks;
mod migrate;
pub mod positions;
mod prepared;
pub mod read;
pub mod standstills;
pub mod sums;
mod url;
pub mod write;

pub use connect::{Limits, connect};
pub(crate) use connect::{prepare, with_timeouts};
pub use error::{Remedy, StoreError};
pub use migrate::{migrate, migrate_when_there};
pub use url::redact;

/// Identifies a partition of a topic of a cluster: a row of `stream_positions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub i32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
