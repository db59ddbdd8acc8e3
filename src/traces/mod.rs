//! The way of single records, from who sends them to the cache, as OpenTelemetry's spans.
//!
//! ```text
//! who sends: HTTP's traceparent, TRACEPARENT of a command, or nobody
//!  └ send ad-events         one a request to the API  ┐ whose context is the header
//!    create ad-events       one a record of a command ┘ `traceparent` of the record
//!     └ process ad-events   one a record: read, until it is committed or given up
//!        └ write            one a batch and trace, with links to the other records of both
//!           ├ settle        ┐ as often as it takes
//!           ├ commit        ┘
//!           └ refresh       until Redis has the new sums
//! ```
//!
//! A trace that was begun and is sampled is carried on; begun is one here only if `OTEL_TRACES_SAMPLER` says how often. Of any
//! other record nothing is kept, and nothing is allocated for it. A share holds the spans of its records ([`Records`]), so they
//! live and die with it: what was read and not written says so, and who reads it again begins a span of another epoch.
//!
//! No thread waits for the collector. Spans that ended wait in a queue that is bounded, and are lost where it is full or the
//! collector is away; two metrics tell how many.
//!
//! Without the feature `traces` all of it is empty.

#[cfg(feature = "traces")]
mod carried;
#[cfg(feature = "traces")]
mod collector;
#[cfg(not(feature = "traces"))]
mod off;
#[cfg(feature = "traces")]
mod records;
#[cfg(feature = "traces")]
mod sending;

#[cfg(feature = "traces")]
pub use collector::{Running, consuming, start};
#[cfg(not(feature = "traces"))]
pub use off::{
    Batch, Following, Records, Running, Sending, Step, consuming, following, start, step,
};
#[cfg(feature = "traces")]
pub use records::{Batch, Following, Records, Step, following, step};
#[cfg(feature = "traces")]
pub use sending::Sending;
