//! PostgreSQL: the event store, the positions that fence it, and the projections derived from it.
//!
//! Three rooms on one floor. A room may use the floor, and `keep` may use the other two:
//!
//! | room | who enters | what it does |
//! |---|---|---|
//! | [`mod@write`] | the processor | claims a partition, settles what is not decided, commits a batch |
//! | [`read`] | the API, exports | answers questions |
//! | [`keep`] | what runs beside | merges, verifies, rebuilds; keeps rules, keys, receipts and what became of dead letters |
//!
//! The floor is what the tables look like: [`blocks`] and [`events`] of the event store, [`sums`] of the
//! projections, `revisions` of report rows, the store's [`identity`], the range that it has as one of several ([`shard`]), its
//! [`positions`], and what their processors say of them, [`states`].
//!
//! Nothing here knows Kafka: a partition is a row of `stream_positions`.
//!
//! # SQL
//!
//! A statement stands whole in the function that runs it, as text to paste into psql, and binds its values; where a
//! plan matters, the comment above it names the index. A condition that two statements share stands in both. Three things
//! are put together as they run:
//!
//! - The directory that a rebuild makes has a name of its own, which a statement cannot bind (`keep::rebuild`).
//! - `verify` makes one statement of each two selections that it compares.
//! - Revisions are read from two tables that have their columns in common (`revisions`).

use std::fmt;

pub mod blocks;
mod clock;
pub mod columns;
mod connect;
mod error;
pub mod events;
pub mod identity;
pub mod keep;
mod keywords;
mod locks;
pub mod periods;
mod pooler;
pub mod positions;
mod prepared;
pub mod read;
mod refusal;
mod revisions;
mod room;
pub mod shard;
mod standby;
pub mod states;
pub mod sums;
mod url;
pub mod write;

pub use clock::{SKEW, clock, skew};
pub use connect::{Backend, Limits, OLDEST_MAJOR, backend, cancel, check_url, connect, open};
pub(crate) use connect::{prepare, with_timeouts};
pub use error::{Remedy, StoreError};
pub use keep::migrate::{Schema, drop_replaced, migrate, migrate_when_there};
pub use keywords::as_url;
pub use room::check_room;
pub use standby::{Standby, standby};
pub use url::redact;

use crate::event::Platform;

/// Identifies a partition of a topic of a cluster: a row of `stream_positions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub i32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The platform that a number stands for, which a newer version may know alone.
fn platform(index: i16) -> Result<Platform, StoreError> {
    let platform = Platform::from_index(index.into());
    platform.ok_or_else(|| {
        StoreError::Query(diesel::result::Error::DeserializationError(
            format!("platform {index} is none we know").into(),
        ))
    })
}

crate::unit::unit! {
    /// How often a partition has been claimed. Only who has the last epoch can move its position on.
    Epoch
}

crate::unit::unit! {
    /// Names a transaction that counts. For one campaign, a later transaction has a larger one; none has zero.
    CommitId
}

crate::unit::unit! {
    /// Names what happened to an alert; what happened later, to whichever, has a larger one.
    TransitionId
}
